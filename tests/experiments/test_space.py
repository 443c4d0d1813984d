"""Search spaces: what is tried, and how near the best of it is to the optimum."""

import dataclasses
import functools
import math
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.runs import cells, outcomes
from experiments.runs.attempts import Run
from experiments.space import Choice, Range, choice, linear, log, points
from experiments.study import Study
from tfm_jax.api import ConfigError

CONFIG = "configs/transformer_numerals_small.py:tiny"
RATE, WARMUP = "optim.peak_lr", "optim.warmup_steps"
SPACE = {RATE: log(1e-4, 1e-2), "model.dropout": linear(0, 1)}


def study(**changes):
    fixed = dict(
        config=CONFIG,
        arms={"pre": {"model.norm": "pre"}, "post": {}},
        baseline="post",
        seeds=(0, 1),
        metric="valid/nll",
        tune={RATE: log(1e-4, 1e-2)},
        trials=16,
        tune_seeds=(7,),
    )
    return Study(**fixed | changes)


@functools.cache
def configured():
    return cells.configure(CONFIG, {})


def runs(asked, settings, value):
    """Finished trials of both arms. Args: value: (arm, settings) -> metric."""
    experiment = configured()
    for arm in asked.arms:
        for knobs in settings:
            cell = SimpleNamespace(
                arm=arm, settings=knobs, seed=7, experiment=experiment, first=None
            )
            results = {"valid": {"nll": value(arm, knobs)}}
            yield Run(
                cell, SimpleNamespace(name="done", finished=True, results=results)
            )


def unit(space, settings):
    """Where settings lie in the unit cube."""
    return np.array([each.unit(settings[knob]) for knob, each in space.items()])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("knobs, error", [(1, 1 / 16), (2, 1 / 4)])
def test_the_best_of_sixteen_points_is_as_near_as_their_dispersion(knobs, error, seed):
    """Each of sixteen equal intervals has a point, and each square of a 4 x 4 grid.

    Sobol' 1967: (0, 1)- and (0, 2)-sequences in base 2. So the one nearest to an
    optimum anywhere is no further, along each knob, than the side of its interval or
    square; 10^-3 is what rounding to four digits of the range moves it.
    """
    space = dict(list(SPACE.items())[:knobs])
    asked = study(tune=space)
    rng = np.random.default_rng(seed)
    optima = {arm: rng.uniform(size=knobs) for arm in asked.arms}

    def value(arm, settings):
        return float(np.abs(unit(space, settings) - optima[arm]).max())

    tried = points(space, (), 16, seed)
    chosen, trials = outcomes.tuning(asked, runs(asked, tried, value))
    assert len(trials) == 2 * 16
    for arm, settings in chosen.items():
        assert value(arm, settings) <= error + 1e-3


def test_no_arm_is_favoured():
    """Of two arms that are one, each is better half the time: 400 studies, 3 sigma."""
    rng, wins, count = np.random.default_rng(0), 0, 400
    space = {RATE: log(1e-4, 1e-2)}
    asked = study(tune=space, trials=8)

    def truth(settings):
        return float((unit(space, settings)[0] - 0.4) ** 2)

    for seed in range(count):
        tried = points(space, (), 8, seed)
        chosen, _ = outcomes.tuning(
            asked, runs(asked, tried, lambda _, k: truth(k) + rng.normal(0, 0.05))
        )
        ends = [truth(chosen[arm]) + rng.normal(0, 0.05) for arm in ("pre", "post")]
        wins += ends[0] < ends[1]
    assert abs(wins - count / 2) <= 3 * math.sqrt(count) / 2


@pytest.mark.parametrize("each", [(1e-4, 1e-3, 1e-2), log(1e-4, 1e-2)])
@pytest.mark.parametrize("value, edge", [(0.0, False), (math.nan, True)])
def test_of_equals_one_inside_wins_unless_all_of_them_diverged(each, value, edge):
    """Where every rate solves the task, a wider range would change nothing."""
    trials = 0 if isinstance(each, tuple) else 3
    asked = study(tune={RATE: each}, trials=trials)
    tried = [{RATE: rate} for rate in (1e-4, 1e-3, 1e-2)]
    chosen, listed = outcomes.tuning(asked, runs(asked, tried, lambda *_: value))
    assert set(map(str, chosen.values())) == {str({RATE: 1e-3})}
    assert {t["edge"] for t in listed if t["chosen"]} == {edge}


def test_what_an_arm_chooses_depends_on_no_other_arm():
    asked = study()
    tried = cells.tuning_grid(asked)
    scores = np.random.default_rng(1).uniform(size=(2, 16)).tolist()

    def best_of_post(others):
        def value(arm, settings):
            return {"pre": others, "post": scores[0]}[arm][tried.index(settings)]

        return outcomes.tuning(asked, runs(asked, tried, value))[0]["post"]

    assert best_of_post(scores[0]) == best_of_post(scores[1]) == best_of_post([0] * 16)


@pytest.mark.parametrize("trials", [1, 3, 8, 20])
def test_a_larger_budget_goes_on_with_the_points_of_a_smaller_one(trials):
    space = SPACE | {WARMUP: linear(0, 40), "model.norm": choice("pre", "post")}
    fewer = points(space, {WARMUP}, trials, 7)
    more = points(space, {WARMUP}, 2 * trials, 7)
    assert more[:trials] == fewer and len(fewer) == trials
    assert fewer != points(space, {WARMUP}, trials, 8)


def test_points_are_distinct_and_those_of_integers_integers():
    space = {WARMUP: linear(0, 3), "model.norm": choice("pre", "post", "none")}
    tried = points(space, {WARMUP}, 12, 0)
    assert {(k[WARMUP], k["model.norm"]) for k in tried} == {
        (n, norm) for n in range(4) for norm in ("pre", "post", "none")
    }
    assert all(type(k[WARMUP]) is int for k in tried)
    with pytest.raises(ValueError, match="trials=13: .* has 12 settings"):
        points(space, {WARMUP}, 13, 0)


@pytest.mark.parametrize("each", [log(3e-5, 7e-3), linear(0.9, 0.999), linear(-2, 5)])
def test_points_lie_in_their_range_and_spread_evenly_on_its_scale(each):
    values = [k["x"] for k in points({"x": each}, (), 64, 3)]
    assert each.low <= min(values) and max(values) <= each.high
    counts, _ = np.histogram([each.unit(v) for v in values], 8, (0, 1))
    assert counts.tolist() == [8] * 8  # no point is rounded over a border here
    assert all(len(repr(v)) <= 9 for v in values)


def test_a_knob_says_whether_its_numbers_are_integers():
    tune = {RATE: linear(0, 1), WARMUP: linear(0, 400.0)}
    tried = cells.tuning_grid(study(tune=tune))
    assert all(type(k[RATE]) is float and type(k[WARMUP]) is int for k in tried)
    assert any(0 < k[RATE] < 1 for k in tried)


@pytest.mark.parametrize(
    "each, best, others, edge",
    [
        (log(1e-4, 1e-2), 1.1e-4, (1.05e-4, 1e-3), True),  # 0.02 of the range
        (log(1e-4, 1e-2), 1e-3, (1e-4, 5e-3), False),
        (log(1e-4, 1e-2), 5e-3, (1e-4, 1e-3), True),  # the largest that was tried
        (choice(1e-4, 1e-2), 1e-2, (1e-4,), False),
        (linear(0, 1e-2), 1e-5, (1e-3, 5e-3), False),  # no rate is below 0
        (linear(0, 1e-2), 1e-3, (3e-3, 5e-3), True),  # but many below the least tried
        (linear(0, 1e-2), 9.9e-3, (1e-3, 9.95e-3), True),
        ((1e-4, 1e-2), 1e-2, (1e-4,), True),
        ((0.0, 1e-2), 0.0, (1e-2,), False),
        ((1e-3,), 1e-3, (), False),  # nothing to choose from
    ],
)
def test_an_optimum_near_the_end_of_a_range_is_marked(each, best, others, edge):
    budget = 0 if isinstance(each, tuple) else 1 + len(others)
    asked = study(tune={RATE: each}, trials=budget)
    tried = [{RATE: x} for x in (best, *others)]
    values = {x: float(n) for n, x in enumerate((best, *others))}
    _, trials = outcomes.tuning(asked, runs(asked, tried, lambda _, k: values[k[RATE]]))
    assert {t["edge"] for t in trials if t["chosen"]} == {edge}
    assert not any(t["edge"] for t in trials if not t["chosen"])


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(trials=0), r"peak_lr=log\(0.0001, 0.01\) with trials=0: say how many"),
        (dict(trials=-1), "trials=-1 must be an integer from 0 to 1,000"),
        (dict(trials=2.0), "trials=2.0 must be an integer"),
        (dict(tune={}), "trials=16, but tune={} says nothing to try"),
        (dict(tune={RATE: (1e-3, 2e-3)}), r"choose from \(log\(low, high\)"),
        (dict(proposer="tpe"), r"proposer='tpe'; choose from \(sobol, optuna\)"),
        (
            dict(tune={RATE: (1e-3,)}, trials=0, proposer="optuna"),
            "proposer='optuna' needs trials",
        ),
        (dict(proposer="optuna", vmapped=True), "vmapped=True: trials of proposer="),
    ],
)
def test_a_search_that_is_none_is_one_line(changes, words):
    with pytest.raises(ValueError, match=words):
        study(**changes)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: log(0, 1), r"log\(0, 1\): low must be above 0"),
        (lambda: log(2, 1), r"log\(2, 1\): low must be below high"),
        (lambda: linear(0, math.inf), "finite"),
        (lambda: linear("0", 1), "both finite numbers"),
        (lambda: Range(0, 1, "cubic"), "scale='cubic'; choose from"),
        (lambda: choice(1), r"choice\(1\): values must be distinct, and two at least"),
        (lambda: choice("a", "a"), "must be distinct"),
    ],
)
def test_a_range_that_is_none_says_why(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    "tune, words",
    [
        ({"optim.peek_lr": log(1, 2)}, "no knob 'optim.peek_lr'; did you mean"),
        ({WARMUP: linear(0.5, 3)}, "optim.warmup_steps=0.5,3; expected integers"),
        (
            {"model.activation": linear(0, 1)},
            r"model.activation=linear\(0, 1\): it takes no num",
        ),
        ({WARMUP: linear(0, 4)}, r"trials=16: .* has 5 settings"),
    ],
)
def test_a_range_of_no_such_knob_is_refused_before_anything_runs(tune, words):
    with pytest.raises(ConfigError, match=words):
        cells.tuning_grid(study(tune=tune))


def test_spaces_are_data():
    assert {dataclasses.is_dataclass(c) for c in (Range, Choice)} == {True}
    assert dataclasses.asdict(study())["tune"] == {
        RATE: {"low": 1e-4, "high": 1e-2, "scale": "log"}
    }
