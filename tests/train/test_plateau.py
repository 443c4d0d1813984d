"""Runs whose learning rate is cut when their validation loss stalls."""

import pytest

from tests.reliability import tiny
from tfm_jax.config import ConfigError
from tfm_jax.runs import resume
from tfm_jax.runs.log import read_history
from tfm_jax.settings.experiment import resolve
from tfm_jax.train import loop

# evaluations, by their step
NLL = {4: 3.0, 8: 1.0, 12: 1.0, 16: 2.0, 20: 0.5, 24: 0.4}
RATES = [0.01] * 12 + [0.001] * 4 + [1e-4] * 4  # of each update: two cuts


@pytest.fixture(scope="module")
def compiled():
    with tiny.quick():
        yield


def evaluate(run):
    """Finds ``NLL``; of a run called "falls" it falls."""
    falls = run.workdir.name == "falls"
    run._scores = {"nll": 1 / run.step if falls else NLL[run.step]}
    run.log.write(run.step, "valid", run._scores)


@pytest.fixture
def scripted(compiled, monkeypatch):
    monkeypatch.setattr(loop.Training, "_evaluate", evaluate)


def config(**changes):
    wanted = dict(
        train__total_steps=20, train__log_every_steps=1, eval__every_steps=4,
        optim__schedule="plateau", optim__cut_factor=0.1, optim__warmup_steps=0,
    )  # fmt: skip
    return tiny.get_config(**wanted | changes)


def killed(run):
    raise RuntimeError


def rates(workdir):
    records = [r for r in read_history(workdir) if r["kind"] == "train"]
    return [record["learning_rate"] for record in records]


def test_the_rate_is_cut_where_the_loss_stalls_bit_for_bit_in_pieces(
    scripted, tmp_path, capsys
):
    """``optim.cut_factor``, ``optim.cut_patience``; stopped where they are cut, too."""
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    assert tiny.run(whole, config())
    assert rates(whole) == pytest.approx(RATES, rel=1e-5)
    assert "step 12: nll has stalled, the learning rate is cut to 0.1" in (
        capsys.readouterr().out
    )
    assert not tiny.run(pieces, config(), stop=(12,))  # saved before it is evaluated
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(
            loop.Training, "update", killed
        )  # after it is, before it is saved
        tiny.run(pieces, config())
    assert not tiny.run(pieces, config(), stop=(18,))
    assert tiny.run(pieces, config())
    assert tiny.digests(pieces) == tiny.digests(whole)
    assert tiny.run(pieces, config(train__total_steps=24)), "a longer one goes on"
    assert rates(pieces)[20:] == pytest.approx([1e-4] * 4, rel=1e-5)
    (longer,) = (r for r in read_history(pieces) if r["kind"] == "extended")
    assert longer["learning_rate"] == pytest.approx(1e-4)


def test_how_often_a_run_is_evaluated_is_part_of_one_whose_rate_depends_on_it():
    before, now = resolve(config()), resolve(config(eval__every_steps=5))
    with pytest.raises(ConfigError, match="eval.every_steps: 4 in the checkpoint, 5"):
        resume.check_continues(before, now, 8)
    usual = dict(optim__schedule="constant")
    before, now = (resolve(config(**usual, eval__every_steps=n)) for n in (4, 5))
    resume.check_continues(before, now, 8)


def test_a_run_without_validation_data_has_nothing_to_cut_its_rate_by(
    compiled, tmp_path
):
    with pytest.raises(
        ConfigError, match="optim.schedule='plateau': there is no valid"
    ):
        loop.train(config(data__numerals_heldout=0), tmp_path)
