"""Language models from text to scores, through the same loop as translation."""

import json
import math

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.reliability import tiny
from tfm_jax import main, mesh
from tfm_jax.config import ConfigError, section
from tfm_jax.data.rows import causal
from tfm_jax.data.tokenizers import vocabularies
from tfm_jax.models import gpt
from tfm_jax.optim import optimizers
from tfm_jax.runs import saved
from tfm_jax.runs.log import read_history
from tfm_jax.runs.storage import checkpoint
from tfm_jax.settings.experiment import resolve
from tfm_jax.settings.sections import EvalConfig, TrainConfig
from tfm_jax.train import loop

pytestmark = pytest.mark.usefixtures("compiled_once")

TEXT = "the cat sat on the mat; the dog sat on the log. " * 60


def get_config(text, **changes):
    c = ConfigDict(dict(seed=0, model_name="gpt", task="causal_lm"))
    sizes = dict(width=32, heads=2, ffn_width=64, depth=1, max_length=32)
    off = dict(dropout=0.0, attention_dropout=0.0, embedding_dropout=0.0)
    c.model = section(gpt.Config, **sizes, **off)
    c.data = section(causal.Config, source="files", train_files=(str(text),), length=32)
    c.tokenizer = section(vocabularies.Config, kind="character")
    c.optim = section(optimizers.Config, peak_lr=1e-2, warmup_steps=10)
    c.train = section(
        TrainConfig, total_steps=60, batch_tokens=256, label_smoothing=0.0
    )
    c.eval = section(EvalConfig, every_steps=30, batch_tokens=256)
    c.checkpoint = section(checkpoint.Config, every_steps=30, metric="nll")
    c.mesh = section(mesh.Config, data=1, cpu_devices=1)
    for knob, value in changes.items():
        part, _, name = knob.partition("__")
        c[part][name] = value
    return c


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "cat.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
    """(workdir, results) of a run that has learnt the text."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, loop.train(get_config(text), workdir)


def test_it_learns_what_can_be_known(trained):
    """Only the beginning of a row, and which animal, cannot."""
    _, results = trained
    first, last = (r["nll"] for r in read_history(trained[0]) if r["kind"] == "valid")
    assert last < first < math.log(20)
    assert results["valid"]["nll"] == last < 0.5
    assert results["valid"]["accuracy"] > 0.8
    characters = round(0.1 * len(TEXT))
    assert results["valid"]["tokens"] == characters - 1, "all but the first"
    bits = last * (characters - 1) / math.log(2) / characters
    np.testing.assert_allclose(results["valid"]["bits_per_character"], bits, rtol=1e-6)
    assert "test" not in results, "nothing was held out for it"
    samples = [r for r in read_history(trained[0]) if r["kind"] == "samples"]
    assert [r["step"] for r in samples] == [30, 60]
    beginning, _, written = samples[-1]["0"].partition(" -> ")
    assert beginning in TEXT and len(written) == 32 - 16 + 1


def test_a_run_that_was_stopped_goes_on_bit_for_bit(trained, text, tmp_path):
    assert not tiny.run(tmp_path, get_config(text), stop=(13,))
    assert tiny.run(tmp_path, get_config(text))
    assert tiny.digests(tmp_path) == tiny.digests(trained[0])


def test_a_workdir_is_evaluated_and_loaded(trained, capsys):
    workdir, results = trained
    assert main.main([f"--workdir={workdir}", "--mode=eval"]) == 0
    scores = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(scores["nll"], results["valid"]["nll"], rtol=1e-5)
    kept = workdir / "kept.txt"
    kept.write_text(TEXT[-round(0.1 * len(TEXT)) :])
    gone = ["--config.data.train_files=gone.txt", f"--input={kept}"]
    assert main.main([f"--workdir={workdir}", "--mode=eval", *gone]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again.pop("split") == str(kept)
    assert again.items() <= scores.items()
    run = saved.load(workdir)
    [ids] = run.tokenizer.encode(["the cat sat"])
    assert run.tokenizer.decode([ids]) == ["the cat sat"]
    assert main.main([f"--workdir={workdir}", "--mode=translate"]) == 78
    assert "learnt causal_lm" in capsys.readouterr().err


def test_model_and_task_must_go_together(text):
    config = get_config(text)
    config.task = "translation"
    with pytest.raises(ConfigError, match="'gpt' cannot learn.*transformer"):
        resolve(config)
    long = get_config(text, data__length=33)
    with pytest.raises(ConfigError, match="model.max_length=32 is below the 33"):
        resolve(long)
