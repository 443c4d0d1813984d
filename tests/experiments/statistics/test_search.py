"""Expected best against trials, and how much hangs on the learning rate."""

import itertools
import statistics

import numpy as np
import pytest

from experiments.space import choice, log
from experiments.statistics import search
from experiments.study import Study


def over_subsets(values, k, better):
    """Brute force: the mean, over all subsets of ``k``, of the best of each."""
    return statistics.fmean(better(s) for s in itertools.combinations(values, k))


@pytest.mark.parametrize("goal, better", [("min", min), ("max", max)])
@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_expected_best_is_the_mean_over_all_subsets(goal, better, n):
    values = np.random.default_rng(n).normal(size=n).round(1).tolist()  # with ties
    expected = search.expected_best(values, goal)
    brute = [over_subsets(values, k, better) for k in range(1, n + 1)]
    np.testing.assert_allclose(expected, brute, rtol=1e-12)
    assert expected[0] == pytest.approx(statistics.fmean(values))
    assert expected[-1] == better(values)


def test_a_trial_that_diverged_is_worse_than_any():
    values = [3.0, None, 1.0, 2.0, None]
    bad = [1e9 if v is None else v for v in values]
    first, second, *rest = search.expected_best(values, "min")
    assert first is None and second is None  # of two both may have diverged
    brute = [over_subsets(bad, k, min) for k in (3, 4, 5)]
    np.testing.assert_allclose(rest, brute, rtol=1e-12)
    assert search.expected_best([None, None], "max") == [None, None]


def test_expected_best_has_no_bias_and_drawing_with_replacement_has():
    """Best of k of uniform numbers is k / (k + 1); Dodge et al. 2019 stay below it.

    Their estimator, of n = 8 and k = 4: sum of v_(i) ((i / n)^k - ((i - 1) / n)^k),
    whose expectation is sum of i / (n + 1) times that weight. 2,000 samples, 4 sigma.
    """
    n, k, count = 8, 4, 2_000
    samples = np.random.default_rng(0).uniform(size=(count, n))
    ours = np.array([search.expected_best(s, "max")[k - 1] for s in samples.tolist()])
    places = np.arange(1, n + 1)
    weights = (places / n) ** k - ((places - 1) / n) ** k
    theirs = np.sort(samples) @ weights
    error = 4 * ours.std() / np.sqrt(count)
    assert abs(ours.mean() - k / (k + 1)) < error
    assert abs(theirs.mean() - weights @ places / (n + 1)) < error
    assert theirs.mean() < k / (k + 1) - error


def test_sensitivity_is_the_mean_distance_from_the_best():
    """A parabola of the unit of its range, the best in the middle: 1 / 12 on average.

    The mean of (u - 1/2)^2 over [0, 1] is 1/12 (Wortsman et al. 2023: an expectation
    over the range of rates); the midpoint rule of 64 points is off by 2e-5.
    """
    units = (np.arange(64) + 0.5) / 64
    values = ((units - 0.5) ** 2).tolist()
    flat, steep = (
        search.deviation([2 + s * v for v in values], "min", 9.0) for s in (0.0, 3.0)
    )
    assert flat == 0 and steep == pytest.approx(3 / 12, abs=2e-3)
    assert search.deviation([1.0, None], "min", 5.0) == 2.0
    assert search.deviation([-1.0, None], "max", -5.0) == 2.0
    assert search.deviation([None], "min", 5.0) is None


def trial(arm, rate, seed, value, chosen=False):
    settings = {"optim.peak_lr": rate}
    own = dict(arm=arm, settings=settings, seed=seed, value=value)
    return own | {"chosen": chosen, "edges": []}


def study(**changes):
    fixed = dict(
        config="x.py",
        arms={"a": {}, "b": {}},
        baseline="a",
        seeds=(0,),
        metric="valid/nll",
        tune={"optim.peak_lr": log(1e-3, 1e-1)},
        trials=2,
        tune_seeds=(7, 8),
    )
    return Study(**fixed | changes)


TRIALS = [
    *(trial("a", 1e-3, s, v, True) for s, v in ((7, 1.0), (8, 2.0))),
    *(trial("a", 1e-1, s, v) for s, v in ((7, 1.0), (8, None))),
    *(trial("b", 1e-3, s, v) for s, v in ((7, 4.0), (8, None))),
    *(trial("b", 1e-1, s, None) for s in (7, 8)),
]


def test_a_trial_is_the_mean_of_its_seeds_and_an_unfinished_arm_is_left_out():
    arms = search.analyse(study(), TRIALS)["arms"]
    assert list(arms) == ["a"]  # of b nothing is chosen yet
    assert [t["value"] for t in arms["a"]["trials"]] == [1.5, None]
    assert arms["a"]["best"] == [None, 1.5] and arms["a"]["lost"] == 1
    assert arms["a"]["sensitivity"] == 0  # the worst that did not diverge is the best


def test_only_a_rate_with_a_range_has_a_sensitivity():
    both = [t | {"chosen": True} for t in TRIALS]
    assert search.analyse(study(), both)["arms"]["b"]["sensitivity"] is None
    tune = {"optim.peak_lr": choice(1e-3, 1e-1)}
    chosen = search.analyse(study(tune=tune), TRIALS)["arms"]["a"]
    assert chosen["sensitivity"] is None
    grid = study(tune={"optim.peak_lr": (1e-3, 1e-1)}, trials=0)
    assert search.analyse(grid, TRIALS) is None


def test_of_trials_that_follow_from_others_the_order_counts():
    """They are no sample of the space, so no mean over subsets means anything."""
    values = [3.0, None, 1.0, 2.0]
    assert search.best_so_far(values, "min") == [3.0, 3.0, 1.0, 1.0]
    assert search.best_so_far(values[1:], "max") == [None, 1.0, 2.0]
    trials = [trial("a", 1e-3 * (n + 1), 7, 5.0 - n, n == 9) for n in range(10)]
    own = search.analyse(study(proposer="optuna", trials=10), trials)["arms"]["a"]
    assert own["best"] == [5.0 - n for n in range(10)]
    assert own["sensitivity"] == 3.5  # of the eight quasi-random ones: 0 to 7
