"""Several looks make no more errors than one, and find what they are planned to find.

The rule is simulated through the project's own tests and intervals; nothing trains.
"""

import dataclasses
import functools
import itertools

import numpy as np
import pytest
from scipy import special

from experiments.statistics import findings, power, sequential, stats, verdicts
from experiments.statistics.sequential import Look
from experiments.study import better, diverges, equivalent, within
from tests.experiments.test_study import study

PLANNED = (5, 10, 15, 20)
STUDIES = 20_000
LOOKS = [Look(PLANNED, number) for number in range(1, len(PLANNED) + 1)]


@functools.cache
def intervals(mean, looks=tuple(LOOKS), share=1):
    """Repeated confidence intervals of simulated studies, sd 1: two of [looks, S]."""
    values = np.random.default_rng(17).normal(mean, 1, (STUDIES, looks[-1].planned[-1]))
    ends = [
        stats.paired(values[:, :n], 1 - look.nominal(0.05 / share))[3:5]
        for look, n in zip(looks, looks[-1].planned, strict=True)
    ]
    return tuple(np.array(end) for end in zip(*ends, strict=True))


def error_of(rate):
    """Twice the Monte Carlo error of a rate."""
    return 2 * np.sqrt(rate * (1 - rate) / STUDIES)


def test_boundaries_are_the_published_ones_for_known_variance():
    """Five looks, two-sided .05, O'Brien-Fleming spending; of many seeds t is normal.

    Lan & DeMets 1983; the values are those that Jennison & Turnbull 2000 and the
    program of Reboussin et al. 2000 give.
    """
    planned = (30, 60, 90, 120, 150)
    levels = [Look(planned, number).nominal(0.05) for number in range(1, 6)]
    published = [4.877, 3.357, 2.680, 2.290, 2.031]
    assert -special.ndtri(np.array(levels) / 2) == pytest.approx(published, abs=4e-3)


def test_one_look_is_an_ordinary_test():
    look = Look((5,), 1)
    assert look.nominal(0.0123) == 0.0123 and look.confidence(0.95) == 0.95
    assert look.p_value(0.3) == 0.3 and look.p_value(None) is None
    assert look.spent(0.05) == 0.05
    values = [np.random.default_rng(n).normal(0.4, 1, 5) for n in range(4)]
    corrected = stats.holm_intervals(values, 0.95, look.nominal)
    assert corrected == stats.holm_intervals(values, 0.95)


@pytest.mark.parametrize("planned", [PLANNED, (3, 6, 9), (5, 8), (3, 20)])
@pytest.mark.parametrize("share", [1, 3])
def test_looks_together_err_no_more_than_alpha(planned, share):
    looks = tuple(Look(planned, n + 1) for n in range(len(planned)))
    low, high = intervals(0.0, looks, share)
    rejected = ((low > 0) | (high < 0)).any(0).mean()
    assert rejected == pytest.approx(0.05 / share, abs=1.5 * error_of(0.05 / share))


def test_looks_without_a_correction_would_err_more():
    values = np.random.default_rng(17).normal(0, 1, (STUDIES, 20))
    p_values = [stats.paired(values[:, :n]).p for n in PLANNED]
    assert (np.array(p_values) < 0.05).any(0).mean() > 0.1


def test_the_smallest_detectable_effect_is_detected_as_often_as_planned():
    effect = stats.minimum_detectable_effect(1.0, 20, LOOKS[-1].nominal(0.05))
    low, high = intervals(effect)
    assert (low > 0).any(0).mean() == pytest.approx(power.POWER, abs=0.03)
    assert (high < 0).any(0).mean() < 0.001


def test_equal_arms_are_called_equivalent_as_often_as_planned():
    margin = power.margin(1.0, 20, LOOKS[-1].nominal(0.05))
    low, high = intervals(0.0)
    shown = ((-margin < low) & (high < margin)).any(0).mean()
    assert shown == pytest.approx(power.POWER, abs=0.03)


def test_arms_at_the_margin_are_hardly_ever_called_equivalent():
    margin = power.margin(1.0, 20, LOOKS[-1].nominal(0.05))
    low, high = intervals(margin)
    shown = ((-margin < low) & (high < margin)).any(0).mean()
    assert shown <= 0.025 + error_of(0.025)


@pytest.mark.parametrize("n", [3, 5, 20])
def test_one_look_shows_the_planned_margin_as_often_as_it_says(n):
    margin = power.margin(2.0, n)
    values = np.random.default_rng(1).normal(0, 2, (STUDIES, n))
    low, high = stats.paired(values)[3:5]
    shown = ((-margin < low) & (high < margin)).mean()
    assert shown == pytest.approx(power.POWER, abs=error_of(0.8))
    assert power.margin(2.0, 2) is None


@pytest.mark.parametrize(
    "claim", [better("a", "b", ""), equivalent("a", "b", ""), within("a", -0.5, 2, "")]
)
def test_what_a_study_says_at_each_look_is_what_was_simulated(claim):
    """``judge`` decides by the interval whose errors and power are counted above."""
    lows, highs = intervals(0.7)
    values = np.random.default_rng(17).normal(0.7, 1, (STUDIES, 20))
    made = study(
        arms={"a": {}, "b": {}},
        baseline="b",
        goal="max",
        sesoi=1.5,
        seeds=tuple(range(5)),
        looks=PLANNED,
        expect=(claim,),
    )
    told = set()
    for number, trial in itertools.product(range(4), range(50)):
        n, low, high = PLANNED[number], lows[number, trial], highs[number, trial]
        now = dataclasses.replace(made, seeds=tuple(range(n)))
        arms = {
            "a": dict(enumerate(values[trial, :n])),
            "b": dict.fromkeys(range(n), 0),
        }
        verdict = findings.judge(made.expect[0], arms, now)["verdict"]
        small = -1.5 < low and high < 1.5
        if claim.kind == "equivalent":
            wanted = "REPRODUCED" if small else "UNDERPOWERED"
            wanted = "NOT REPRODUCED" if low > 1.5 or high < -1.5 else wanted
        elif claim.kind == "within":
            wanted = "REPRODUCED" if -0.5 <= low and high <= 2 else "UNDERPOWERED"
            wanted = "NOT REPRODUCED" if low > 2 or high < -0.5 else wanted
        else:
            wanted = "REPRODUCED" if low > 0 else "UNDERPOWERED"
            wanted = "NOT REPRODUCED" if high < 0 or (small and low <= 0) else wanted
        assert verdict == wanted
        told.add(verdict)
    assert len(told) > 1


def test_rates_of_divergence_are_looked_at_as_often():
    """Five of five runs are a rule at .05 one-sided, not at the first of four looks."""
    made = study(arms={"a": {}}, baseline="a", expect=(diverges("a", ""),))
    told = {}
    for n, planned in ((5, ()), (5, PLANNED), (10, PLANNED)):
        now = dataclasses.replace(made, seeds=tuple(range(n)), looks=planned)
        values = {"a": dict.fromkeys(range(n))}
        told[n, planned] = findings.judge(made.expect[0], values, now)["verdict"]
    assert [*told.values()] == ["REPRODUCED", "UNDERPOWERED", "REPRODUCED"]
    claim, arms = better("a", "b", ""), {"a": {}, "b": {}}
    for n, planned, verdict in (
        (3, (), "NOT REPRODUCED"),
        (3, (3, 6, 9), "UNDERPOWERED"),  # three that are lost are no rule
        (9, (3, 6, 9), "NOT REPRODUCED"),
    ):
        seeds, fixed = tuple(range(n)), dict(arms=arms, baseline="b", expect=(claim,))
        made = study(**fixed, seeds=seeds, looks=planned)
        lost = dict.fromkeys(arms, dict.fromkeys(range(n)))
        assert findings.judge(claim, lost, made)["verdict"] == verdict


def test_intervals_and_p_values_of_looks_tell_the_same():
    rng = np.random.default_rng(3)
    for look in LOOKS[:3]:
        n = look.planned[look.number - 1]
        samples = [rng.normal(shift, 1, n) for shift in (0.2, 0.8, 1.2)]
        p_values = [look.p_value(stats.paired(sample).p) for sample in samples]
        adjusted = stats.holm(p_values)
        corrected = stats.holm_intervals(samples, 0.95, look.nominal)
        for p, interval in zip(adjusted, corrected, strict=True):
            assert (p < 0.05) == (not interval.low <= 0 <= interval.high)


def test_levels_grow_with_alpha_so_that_holm_holds_at_every_look():
    """What Maurer & Bretz 2013 ask of spending functions."""
    alphas = np.geomspace(1e-6, 0.5, 8)
    for look in LOOKS:
        levels = [look.nominal(float(alpha)) for alpha in alphas]
        assert (np.diff(levels) >= 0).all() and levels[-1] > levels[0]
        assert look.p_value(look.nominal(0.01)) == pytest.approx(0.01, rel=1e-3)
    assert LOOKS[0].p_value(0.0) == sequential.FLOOR and LOOKS[0].p_value(1.0) == 1.0


def test_alpha_is_spent_as_lan_and_demets_say():
    """4 (1 - Phi(z(alpha / 4) / sqrt(t))), all of it at the end; z(.0125) = 2.2414."""
    tail = special.ndtr(-2.2414 / 0.5)
    assert sequential.spent(0.25, 0.05) == pytest.approx(4 * tail, rel=1e-3)
    assert [look.spent(0.05) for look in LOOKS][-1] == 0.05


@pytest.mark.parametrize("planned", [(3, 6, 9), PLANNED])
def test_a_few_ties_do_not_end_a_study(planned):
    """One arm solves its task in 95 of 100 runs, the other in 60, all to one score.

    Three seeds of each are all solved in (.95 x .6)^3 = 19 % of studies, and five in
    6 %; a t test of differences without any variance is certain that there are none.
    """
    made = study(
        arms={"a": {}, "b": {}}, baseline="b", goal="max", sesoi=0.02, looks=planned,
        seeds=tuple(range(planned[0])), expect=(better("a", "b", ""),),
    )  # fmt: skip
    solved = np.random.default_rng(0).random((400, 2, planned[-1]))
    solved = np.where(solved < np.array([0.95, 0.6])[:, None], 1.0, 0.02)
    told = []
    for trial in solved.tolist():
        arms = dict(zip("ab", map(dict, map(enumerate, trial)), strict=True))
        for n in planned:
            now = dataclasses.replace(made, seeds=tuple(range(n)))
            some = {arm: {s: arms[arm][s] for s in range(n)} for arm in arms}
            told.append(findings.judge(made.expect[0], some, now)["verdict"])
            if told[-1] != "UNDERPOWERED":
                break
    assert told.count("NOT REPRODUCED") <= 0.025 * len(solved)
    assert told.count("REPRODUCED") > 0.3 * len(solved)


@pytest.mark.parametrize(
    "claim", [better("a", "b", ""), equivalent("a", "b", ""), within("a", 0, 2, "")]
)
def test_ties_tell_where_flips_of_signs_would_hardly_make_them(claim):
    """2^(1 - n) against the level: .25 of three, .0039 of nine at the last look."""
    told, smallest, tables = [], [], []
    for n, planned in ((3, ()), (3, (3, 6, 9)), (9, (3, 6, 9))):
        made = study(
            arms={"a": {}, "b": {}}, baseline="b", goal="max", sesoi=0.5,
            seeds=tuple(range(n)), looks=planned, expect=(claim,),
        )  # fmt: skip
        noise = np.random.default_rng(0).normal(1, 1e-2, n)  # of pairs, which rounds
        noise *= claim.kind != "within"
        of_arms = {"a": noise + 0.1, "b": noise}
        arms = {arm: dict(enumerate(x.tolist())) for arm, x in of_arms.items()}
        told.append(findings.judge(claim, arms, made)["verdict"])
        smallest.append(power.of_expectation(claim, made, {"": arms})["seen"])
        tables.append(verdicts._compare(arms, ["a"], made)["a"])
    assert told == ["REPRODUCED", "UNDERPOWERED", "REPRODUCED"]
    assert [len(seen) for seen in smallest] == [1, 0, 1]
    if claim.kind != "within":
        d = tables[1]["difference"]
        assert d["mean"] == pytest.approx(0.1) and tables[1]["word"] == "anecdotal"
        assert {d[k] for k in ("low", "p", "p_holm", "low_holm", "mde")} == {None}
        assert tables[2]["difference"]["p_holm"] < 0.05
