"""A dry run says what a run would be, and leaves nothing."""

import json

import pytest

from tests.reliability import tiny
from tfm_jax import main
from tfm_jax.api import read_command
from tfm_jax.settings.experiment import resolve
from tfm_jax.train.costs.dry_run import dry_run

NUMERALS = "configs/transformer_numerals_small.py"
SMALL = (
    *("--config.model.width=16", "--config.model.heads=2"),
    *("--config.model.encoder_depth=1", "--config.model.decoder_depth=1"),
    *("--config.data.numerals_train=100", "--config.data.numerals_heldout=20"),
)


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_costs_is_said_as_json(capsys):
    said = dry_run(tiny.get_config(), format="json")
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(said))
    changed = {"model": said["config"]["model"]}  # its vocabularies are filled in
    assert said["config"] == resolve(tiny.get_config()).as_dict() | changed
    assert said["flops_per_step"] > 6 * said["parameters"], "more than one token"
    memory = said["memory_bytes_per_device"]
    assert memory["parameters"] == memory["average"] == 4 * said["parameters"]
    assert memory["optimizer"] >= 2 * memory["parameters"], "two moments of Adam"
    held = memory["parameters"] + memory["optimizer"] + memory["average"]
    assert memory["peak"] > held + memory["temporary"]
    source, inputs, labels = (
        said["batch"]["rows"][0][name]
        for name in ("source", "target_inputs", "target_labels")
    )
    assert "<eos>" in source and inputs[0] == "<bos>"
    end = labels.index("<eos>")
    assert inputs[1 : end + 1] == labels[:end], "what comes next is to be predicted"


def test_the_flags_it_prints_are_the_configuration(capsys, request):
    """No workdir is needed; read again, they resolve to the same configuration."""
    config = f"--config={request.config.rootpath / NUMERALS}"
    assert main.main(["--mode=dry_run", config, *SMALL]) == 0
    lines = capsys.readouterr().out.splitlines()
    flags = [line for line in lines if line.startswith("--config.")]
    printed = read_command([config, *flags]).experiment.knobs()
    asked = read_command([config, *SMALL]).experiment.knobs()
    vocabularies = {"model.source_vocab", "model.target_vocab"}
    assert {k for k in asked if asked[k] != printed[k]} == vocabularies
    assert any(line.startswith("parameters: ") for line in lines)


def test_what_would_end_a_run_ends_a_dry_one(capsys, request):
    config = f"--config={request.config.rootpath / NUMERALS}"
    assert main.main(["--mode=dry_run", config, "--config.model.source_vocab=5"]) == 78
    assert "model.source_vocab=5" in capsys.readouterr().err
    assert main.main(["--mode=dry_run"]) == 78
    assert "--workdir=DIR is missing" in capsys.readouterr().err
