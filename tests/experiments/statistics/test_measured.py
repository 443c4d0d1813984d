from pathlib import Path

import pytest

from experiments.costs import lengths
from experiments.runs.attempts import Run, Status
from experiments.runs.cells import FINAL, Cell
from experiments.statistics import measured
from tests.experiments.test_study import study


def run(arm, seed, results):
    cell = Cell("id", arm, seed, FINAL, {}, Path("."), (), None)
    return Run(cell, Status("done" if results else "missing", results=results))


def results(factor):
    """As if every cost were length to the power ``factor``."""
    return {
        "probe": dict.fromkeys(lengths.SCORES, float(factor)),
        "curves": {name: [[n, n**factor] for n in (8, 16)] for name in lengths.CURVES},
        "conditions": {"load": factor, "device": "cpu", "rows": 1},
    }


RUNS = [*(run("pre", s, results(f)) for s, f in enumerate((0.9, 1.0, 1.1)))]
RUNS.append(run("post", 0, {}))


def test_curves_have_the_points_of_every_run_and_the_mean_slope_of_an_arm():
    curves = measured.curves(study(probe="lengths"), RUNS)
    assert [curve["name"] for curve in curves] == list(lengths.CURVES)
    seconds = next(curve for curve in curves if curve["name"] == "train_seconds")
    assert seconds["arms"]["pre"]["1"] == [[8, 8.0], [16, 16.0]]
    slope = seconds["slopes"]["pre"]
    assert slope["mean"] == pytest.approx(1.0) and slope["low"] < 1 < slope["high"]
    assert "post" not in seconds["arms"], "it has not run"
    assert not next(c for c in curves if c["name"] == "source_gradient")["slopes"]


def test_what_trains_has_none():
    assert measured.curves(study(), RUNS) == []


def test_conditions_are_ranges_over_all_runs():
    said = measured.conditions(RUNS)
    assert said == {"load": "0.9 to 1.1", "device": "cpu", "rows": "1"}
