"""Forks: ``--config=WORKDIR`` begins what a run was anew, but for what flags change."""

import pytest

from tests.reliability.tiny import get_config
from tfm_jax import main
from tfm_jax.config import to_json
from tfm_jax.data.tokenizers import bilingual
from tfm_jax.settings import new_runs
from tfm_jax.settings.experiment import resolve
from tfm_jax.train import loop


@pytest.fixture
def source(tmp_path):
    """The workdir of a run that was made longer at its end."""
    folder = tmp_path / "source"
    folder.mkdir()
    experiment = resolve(get_config(seed=3, train__extended_at=20))
    tokenizer = bilingual.train_tokenizer(experiment.tokenizer, ["ab"], ["abc"])
    tokenizer.save(folder / "tokenizer.json")
    made = experiment.complete(tokenizer)
    assert made.model.source_vocab == tokenizer.source_vocab > 0
    (folder / "config.json").write_text(to_json(made.as_dict()))
    return folder


@pytest.fixture
def trained(monkeypatch):
    """What the command line hands on to be trained: configurations and flags."""
    calls = []

    def train(config, workdir, given, **options):
        calls.append((resolve(config), given))

    monkeypatch.setattr(loop, "train", train)
    return calls


def fork(source, *flags, workdir="new"):
    return main.main([f"--config={source}", f"--workdir={workdir}", *flags])


def test_a_fork_is_the_same_recipe_but_for_the_knobs_that_are_set(source, trained):
    """Its vocabularies are open, as they were before there was a tokenizer."""
    assert fork(source, "--config.model.norm=pre") == 0
    ((made, given),) = trained
    assert made == resolve(get_config(seed=3, model__norm="pre"))
    assert given == {"model.norm"} and made.init_from == ""


def test_a_checkpoint_is_forked_like_its_run(source, trained):
    below = source / "checkpoints" / "000005"
    below.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        (below / name).write_bytes((source / name).read_bytes())
    assert fork(below) == fork(source) == 0
    assert trained[0] == trained[1]


def test_a_vocabulary_of_a_size_of_its_own_stays(source, trained):
    wider = resolve(get_config(model__source_vocab=64, model__target_vocab=64))
    (source / "config.json").write_text(to_json(wider.as_dict()))
    assert fork(source) == 0
    assert trained[0][0] == wider


@pytest.mark.parametrize("inside", ["", "checkpoints/000005", "averaged/000005"])
def test_a_fork_has_a_workdir_of_its_own(source, capsys, inside):
    below = source / inside
    below.mkdir(parents=True, exist_ok=True)
    (below / "config.json").write_bytes((source / "config.json").read_bytes())
    for flags in ((), ("--each.seed=3,4",)):
        names = (f"{source}", f"{source.parent}/other")
        workdir = ",".join(names) if flags else names[0]
        assert fork(below, *flags, workdir=workdir) == 78
        error = capsys.readouterr().err
        assert f"is the run in --workdir={source}, which goes on without" in error


def test_a_folder_without_a_run_and_a_size_of_a_run_are_one_line(source, capsys):
    assert fork(source.parent) == 78 and fork(f"{source}:tiny") == 78
    nothing, size = capsys.readouterr().err.splitlines()
    assert "no such file, and no run" in nothing and "a run has no size" in size


def test_a_run_of_before_is_forked_in_the_words_of_now(source, trained):
    config = get_config().to_dict()
    config["mesh"]["exchange"] = "flat"
    del config["mesh"]["gradient_allreduce"], config["train"]["skip_sigma"]
    (source / "config.json").write_text(to_json(config))
    assert fork(source, "--config.train.skip_sigma=6") == 0
    made = trained[0][0]
    assert made.mesh.gradient_allreduce == "fused" and made.train.skip_sigma == 6


def test_one_changed_knob_answers_for_itself_and_no_other(source, trained, tmp_path):
    """As besides a file: see ``new_runs.check_read``."""
    flag = "--config.optim.schedule=constant"
    changed = get_config(optim__final_lr_fraction=0.1)
    (source / "config.json").write_text(to_json(resolve(changed).as_dict()))
    assert fork(source, flag) == 0
    ((made, given),) = trained
    new_runs.check(made, tmp_path / "new", given)
