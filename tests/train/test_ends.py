"""Runs that end before their last step: early, or after so many hours."""

import math

import pytest

from tests.reliability import tiny
from tfm_jax.config import ConfigError
from tfm_jax.runs.log import read_history
from tfm_jax.runs.process.exits import Preempted
from tfm_jax.settings.experiment import resolve
from tfm_jax.train import loop, stopping

NLL = {4: 3.0, 8: 1.0, 12: 2.0, 16: 1.0, 20: 0.5}  # evaluations, by their step
NAN = math.nan


@pytest.fixture(scope="module")
def compiled():
    with tiny.quick():
        yield


@pytest.fixture
def scripted(compiled, monkeypatch):
    """Evaluations that find ``NLL``."""

    def evaluate(run):
        run._scores = {"nll": NLL[run.step]}
        run.log.write(run.step, "valid", run._scores)

    monkeypatch.setattr(loop.Training, "_evaluate", evaluate)


def config(**changes):
    wanted = dict(train__total_steps=20, eval__every_steps=4) | changes
    return tiny.get_config(**wanted)


def steps(workdir):
    return [r["step"] for r in read_history(workdir) if r["kind"] == "valid"]


@pytest.mark.parametrize(
    "metric, curve, patience, stops",
    [
        ("loss", [3, 2, 1], 1, False),
        ("loss", [3, 2, 2], 1, True),  # as good is no better
        ("loss", [1, 2, 3], 3, False),
        ("loss", [1, 2, 3, 2], 3, True),
        ("loss", [1, 2, 3, 0.5], 3, False),
        ("loss", [NAN, 2, NAN], 2, False),
        ("loss", [NAN, NAN, NAN], 2, True),
        ("loss", [], 1, False),
        ("accuracy", [0.1, 0.2, 0.3], 1, False),
        ("accuracy", [0.3, 0.2, 0.1], 2, True),
        ("bleu", [], 1, False),  # there is none
    ],
)
def test_patience_counts_from_the_best_of_its_metric(metric, curve, patience, stops):
    """``train.stop_metric``, lower or higher as is better of it."""
    train = dict(train__stop_metric=metric, train__stop_patience=patience)
    name = "nll" if metric == "loss" else metric
    evaluated = {step: {name: value} for step, value in enumerate(curve)}
    evaluated[99] = {"other": 0.0}
    assert bool(stopping.why(resolve(config(**train)), evaluated)) == stops


def test_a_run_stops_early_once_and_for_all(scripted, tmp_path, capsys):
    """Where a run that nobody interrupts stops, one in pieces does, bit for bit."""
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    patient = config(train__stop_patience=2)
    assert tiny.run(whole, patient)
    assert steps(whole) == [4, 8, 12, 16]
    why = "stopped early at step 16: nll was best at step 8, 1"
    assert why in capsys.readouterr().out
    assert not tiny.run(pieces, patient, stop=(12,))
    assert tiny.run(pieces, patient)
    assert tiny.digests(pieces) == tiny.digests(whole)
    assert tiny.run(pieces, patient), "again makes no step"
    assert tiny.digests(pieces) == tiny.digests(whole)
    assert tiny.run(whole, config(train__stop_patience=3)), "more patience goes on"
    assert steps(whole) == [4, 8, 12, 16, 20]


def test_nothing_to_evaluate_is_no_way_to_stop_early(compiled, tmp_path):
    absent = dict(data__numerals_heldout=0, train__stop_patience=2)
    with pytest.raises(ConfigError, match="train.stop_patience=2: there is no valid"):
        loop.train(config(**absent), tmp_path)


def test_after_its_hours_a_run_is_saved_and_goes_on(compiled, tmp_path):
    """``train.max_hours``; every start makes a step at least."""
    for step in (1, 2):
        with pytest.raises(Preempted, match="after train.max_hours; step"):
            loop.train(config(train__max_hours=1e-9), tmp_path)
        assert [p.name for p in (tmp_path / "checkpoints").iterdir()][-1:]
        assert (tmp_path / "checkpoints" / f"{step:06d}").is_dir()
    assert tiny.run(tmp_path, config(train__total_steps=3, train__max_hours=1.0))
