"""Statistics: published numbers, independent references, coverage by simulation."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp, ttest_ind, ttest_rel

from experiments.statistics import stats

# Multiples of 1/64: sums of a few are exact.
EXACT = st.integers(-1000, 1000).map(lambda i: i / 64)
SAMPLES = st.lists(EXACT, min_size=3, max_size=8)
P_VALUES = st.lists(st.none() | st.floats(0, 1), max_size=8)
ARM = [2.31, 2.28, 2.40, 2.35, 2.29, 2.33]
BASELINE = [2.30, 2.31, 2.37, 2.36, 2.30, 2.31]
DIFFERENCES = np.subtract(ARM, BASELINE)
NO_MATTER = ("equivalent", "negligibly better", "negligibly worse")


def word_of(differences, sesoi):
    (interval,) = stats.holm_intervals([differences])
    seeds = len(differences)
    return stats.verdict(differences, interval, goal="min", sesoi=sesoi, seeds=seeds)


# The t interval.


@pytest.mark.parametrize("n", [3, 5, 8, 40])
def test_paired_is_the_paired_t_test_of_scipy(n):
    a, b = np.random.default_rng(n).normal(size=(2, n))
    ours, theirs = stats.paired(a - b, 0.9), ttest_rel(a, b)
    interval = theirs.confidence_interval(0.9)
    expected = (n, (a - b).mean(), (a - b).std(ddof=1), *interval, theirs.pvalue)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


@pytest.mark.parametrize("n, m", [(3, 3), (5, 8), (40, 4)])
def test_unpaired_is_the_test_of_welch_of_scipy(n, m):
    a, b = np.random.default_rng(n).normal(size=n), np.arange(m) / 3
    theirs = ttest_ind(a, b, equal_var=False)
    interval = theirs.confidence_interval(0.9)
    expected = (n, m, a.mean() - b.mean(), *interval, theirs.pvalue)
    np.testing.assert_allclose(stats.unpaired(a, b, 0.9), expected, rtol=1e-12)


def test_unpaired_samples_of_no_variance_are_certain_and_few_are_not():
    assert stats.unpaired([2.0] * 3, [1.5] * 4) == (3, 4, 0.5, 0.5, 0.5, 0)
    assert stats.unpaired([2.0] * 3, [2.0] * 3)[-1] == 1
    assert stats.unpaired([2.0] * 3, [1, 2]) == (3, 2, 0.5, None, None, None)
    assert stats.unpaired([], [1, 2])[2:] == (None,) * 4


def test_rates_are_told_apart_by_the_exact_test_of_fisher():
    # 2 of the 252 ways to choose 5 of 10, 2 of the 70 ways to choose 4 of 8
    assert stats.rates_differ(0, 5, 5) == pytest.approx(2 / 252)
    assert stats.rates_differ(4, 0, 4) == pytest.approx(2 / 70)
    assert stats.rates_differ(2, 2, 5) == 1


def test_half_width_in_units_of_sd_is_that_of_the_t_table():
    # t(.975, n - 1) / sqrt(n): 4.303, 2.776, 2.365, 2.262, 2.093
    for n, t in {3: 4.303, 5: 2.776, 8: 2.365, 10: 2.262, 20: 2.093}.items():
        found = stats.paired(np.arange(n))
        width = (found.high - found.low) / 2 / found.sd
        assert width == pytest.approx(t / math.sqrt(n), abs=5e-4)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_95_percent_intervals_cover_95_percent(n):
    found = stats.paired(np.random.default_rng(n).normal(0.3, 2, size=(20_000, n)))
    covered = ((found.low <= 0.3) & (0.3 <= found.high)).mean()
    assert covered == pytest.approx(0.95, abs=0.015)


def test_samples_side_by_side_are_samples_one_by_one():
    samples = np.random.default_rng(0).normal(size=(3, 4))
    samples[1] = 0.1
    together = np.array(stats.paired(samples)[1:]).T
    np.testing.assert_array_equal(together, [stats.paired(x)[1:] for x in samples])


@given(SAMPLES, EXACT)
def test_interval_turns_with_the_sign_and_moves_with_the_mean(sample, shift):
    found, turned = stats.paired(sample), stats.paired(np.negative(sample))
    assert turned[1:] == (-found.mean, found.sd, -found.high, -found.low, found.p)
    moved = stats.paired(np.add(sample, shift))
    np.testing.assert_allclose(moved[3:5], np.add(found[3:5], shift), atol=1e-9)


@given(SAMPLES, st.randoms(use_true_random=False))
def test_order_of_the_seeds_does_not_matter(sample, random):
    shuffled = random.sample(sample, len(sample))
    np.testing.assert_allclose(
        stats.paired(shuffled), stats.paired(sample), rtol=1e-9, atol=1e-12
    )
    assert stats.sign_flip(shuffled) == stats.sign_flip(sample)


def test_fewer_than_three_pairs_have_no_interval():
    nothing = (None, None, None)
    assert stats.paired([]) == (0, None, None, *nothing)
    assert stats.paired([1.5]) == (1, 1.5, None, *nothing)
    assert stats.paired([1.0, 3.0]) == (2, 2.0, math.sqrt(2), *nothing)
    assert stats.sign_flip([1, 2]) is None
    assert stats.minimum_detectable_effect(1.0, 2) is None


@pytest.mark.parametrize("n", [3, 7, 10])
def test_equal_differences_are_certain(n):
    assert stats.paired([0.0] * n)[1:] == (0, 0, 0, 0, 1)
    assert stats.paired([0.1] * n)[1:] == (0.1, 0, 0.1, 0.1, 0)
    assert word_of([0.1] * n, 0.2) == "negligibly worse"
    assert word_of([0.1] * n, 0.05) == "worse"
    assert word_of([0.0] * n, 0.0) == "no difference detected"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_run_is_no_number(value):
    with pytest.raises(ValueError, match="diverged"):
        stats.paired([1, 2, value])


def test_a_pair_is_complete_if_neither_run_diverged():
    arm, baseline = stats.complete_pairs([1, None, 3, 4], [5, 6, None, 8])
    assert (arm.tolist(), baseline.tolist()) == ([1, 4], [5, 8])
    assert [len(side) for side in stats.complete_pairs([None], [1])] == [0, 0]
    with pytest.raises(ValueError):
        stats.complete_pairs([1, 2], [1])


# Several arms.


def test_holm_by_hand():
    # ranks .01 .02 .03 .04 -> 4 x .01, 3 x .02, 2 x .03, then .06 again for 1 x .04
    found = stats.holm([0.04, 0.01, None, 0.03, 0.02])
    assert found == [
        pytest.approx(p) if p else p for p in (0.06, 0.04, None, 0.06, 0.06)
    ]


def test_holm_is_that_of_statsmodels():
    # statsmodels 0.15.0, multipletests(p, method="holm")[1]
    found = stats.holm([0.021, 0.004, 0.3, 0.013, 0.012, 0.9])
    assert found == pytest.approx([0.063, 0.024, 0.6, 0.06, 0.06, 0.9])


@given(P_VALUES)
def test_holm_adjusts_upwards_in_order_and_at_most_as_bonferroni(p_values):
    adjusted = stats.holm(p_values)
    pairs = [(p, q) for p, q in zip(p_values, adjusted, strict=True) if p is not None]
    assert adjusted.count(None) == p_values.count(None)
    assert all(p <= q <= min(1, len(pairs) * p) for p, q in pairs)
    assert [q for _, q in sorted(pairs)] == sorted(q for _, q in pairs)


@given(st.lists(st.lists(EXACT, max_size=6), max_size=6))
def test_holm_interval_excludes_zero_where_the_adjusted_p_is_below_alpha(samples):
    adjusted = stats.holm([stats.paired(sample).p for sample in samples])
    for interval, p in zip(stats.holm_intervals(samples), adjusted, strict=True):
        assert (interval is None) == (p is None)
        if p is not None:
            assert (interval.low > 0 or interval.high < 0) == (p < 0.05)


def test_one_arm_needs_no_adjustment():
    assert stats.holm_intervals([DIFFERENCES]) == [stats.paired(DIFFERENCES)[3:5]]


@pytest.mark.parametrize("shared", [False, True], ids=["independent", "one baseline"])
def test_ten_arms_without_effect_rarely_show_one(shared):
    runs = np.random.default_rng(1).normal(size=(4_000, 11, 5))
    p_values = stats.paired(runs[:, 1:] - shared * runs[:, :1]).p
    wrong = np.mean([min(stats.holm(family)) < 0.05 for family in p_values.tolist()])
    assert wrong <= 0.06
    assert shared or wrong >= 0.04  # the test is exact but for the shared baseline


# Equivalence, power, proportions.


@pytest.mark.parametrize("margin, p", [(0.01, 0.2008601451), (0.05, 0.0015798986)])
def test_equivalence_is_that_of_statsmodels(margin, p):
    # statsmodels 0.15.0, ttost_paired(arm, baseline, -margin, margin)[0]
    assert (word_of(DIFFERENCES, margin) in NO_MATTER) == (p < 0.025)


@given(SAMPLES, EXACT.map(abs))
def test_equivalence_is_two_one_sided_tests_at_half_the_level(sample, margin):
    """Schuirmann 1987, of the 95 % interval that the report shows."""
    assume(np.ptp(sample) > 0)
    sides = ((-margin, "greater"), (margin, "less"))
    tests = [ttest_1samp(sample, end, alternative=side).pvalue for end, side in sides]
    assert (word_of(sample, margin) in NO_MATTER) == (max(tests) < 0.025)


@pytest.mark.parametrize(
    "n, alpha, power, effect",
    [
        (3, 0.05, 0.8, 3.2640435528),
        (8, 0.05, 0.8, 1.1560352720),
        (20, 0.05, 0.8, 0.6604416544),
        (5, 0.01, 0.9, 3.0270740843),
    ],
)
def test_detectable_effect_is_that_of_statsmodels(n, alpha, power, effect):
    # statsmodels 0.15.0, TTestPower().solve_power(None, n, alpha, power)
    found = stats.minimum_detectable_effect(2.0, n, alpha, power)
    assert found == pytest.approx(2 * effect, rel=1e-6)


@pytest.mark.parametrize("n, alpha, power", [(5, 0.05, 0.8), (3, 0.01, 0.9)])
def test_detectable_effect_is_found_as_often_as_it_says(n, alpha, power):
    mean = stats.minimum_detectable_effect(0.5, n, alpha, power)
    runs = np.random.default_rng(2).normal(mean, 0.5, size=(20_000, n))
    assert (stats.paired(runs).p < alpha).mean() == pytest.approx(power, abs=0.015)


@pytest.mark.parametrize(
    "count, n, low, high",
    [
        # Newcombe 1998, table I, method 5
        (81, 263, 0.2527, 0.3676),
        (0, 20, 0.0, 0.1684),
        (1, 29, 0.0009, 0.1776),
        # statsmodels 0.15.0, proportion_confint(count, n, method="beta")
        (1, 5, 0.0050507634, 0.7164179361),
        (3, 8, 0.0852334141, 0.7551367836),
        (0, 0, 0.0, 1.0),  # nothing known
    ],
)
def test_interval_of_a_proportion_is_the_published_one(count, n, low, high):
    assert stats.clopper_pearson(count, n) == pytest.approx((low, high), abs=5e-5)


# Without the normal distribution.


@pytest.mark.parametrize("n", [3, 5, 6, 8, 12])
def test_smallest_sign_flip_p_is_two_of_all_flips(n):
    differences = 1 + np.random.default_rng(n).random(n)
    assert stats.sign_flip(differences) == 2 / 2**n
    assert stats.sign_flip(-differences) == 2 / 2**n


@given(SAMPLES)
def test_sign_flip_counts_the_flips_at_least_as_far_from_zero(sample):
    signs = np.array(np.meshgrid(*len(sample) * [[-1, 1]])).reshape(len(sample), -1)
    far = np.abs(sample @ signs) >= abs(sum(sample))
    assert stats.sign_flip(sample) == pytest.approx(far.mean())


def test_many_signs_are_drawn_with_the_generator():
    differences = np.random.default_rng(0).normal(0.5, 1, 17)
    one, same = (stats.sign_flip(differences, np.random.default_rng(3)) for _ in "ab")
    assert one == same
    assert one == pytest.approx(stats.paired(differences).p, abs=0.02)
    with pytest.raises(ValueError, match="give rng"):
        stats.sign_flip(differences)


def test_bca_agrees_with_t_on_many_pairs_and_is_not_shown_for_few():
    differences = np.random.default_rng(0).normal(1, 1, 200)
    found = stats.bca(differences, np.random.default_rng(1))
    assert found == stats.bca(differences, np.random.default_rng(1))
    assert found == pytest.approx(stats.paired(differences)[3:5], abs=0.02)
    assert stats.bca(differences[:19], np.random.default_rng(1)) is None
    assert stats.bca([2.0] * 20, np.random.default_rng(1)) == (2, 2)


def test_a_diverged_seed_loses_and_two_of_them_tie():
    arm, baseline = [1, None, 3, None, 2], [2, 1, None, None, 2]
    assert stats.wins(arm, baseline, "min") == (2, 1, 2)
    assert stats.wins(arm, baseline, "max") == (1, 2, 2)
    with pytest.raises(ValueError, match=r"choose from \(min, max\)"):
        stats.wins(arm, baseline, "least")


def test_sign_test_leaves_out_ties():
    # 2 x (1 + 8 + 28) / 2^8
    assert stats.sign_test(stats.Wins(6, 2, 5)) == pytest.approx(74 / 256)
    assert stats.sign_test(stats.Wins(0, 0, 4)) == 1


def test_correlation_is_of_complete_pairs():
    assert stats.correlation([1, 2, 4, None], [3, 5, 9, 1]) == pytest.approx(1)
    assert stats.correlation(ARM, BASELINE) == pytest.approx(
        np.corrcoef(ARM, BASELINE)[0, 1]
    )
    assert stats.correlation([1, 2, None], [1, 2, 3]) is None
    assert stats.correlation([1, 1, 1], [1, 2, 3]) is None


@pytest.mark.parametrize(
    "differences, diverged, lower_is, higher_is",
    [
        ([-1.0, -1.1, -1.2, -1.1], 0, "better", "worse"),
        ([1.0, 1.1, 1.2, 1.1], 0, "worse", "better"),
        ([0.01, 0.011, 0.012, 0.011], 0, "negligibly worse", "negligibly better"),
        ([0.01, -0.02, 0.01, 0.0], 0, "equivalent", "equivalent"),
        ([0.0, 0.0, 0.0], 0, "equivalent", "equivalent"),
        ([1.0, -2.0, 3.0, 1.0], 0, *2 * ["no difference detected"]),
        ([-1.0, -1.1, -1.2], 1, "undecided", "worse"),
        ([0.01, -0.02, 0.01], 1, "undecided", "undecided"),
        ([0.010, 0.011, 0.012], 1, "worse", "undecided"),
        ([-1.0, -1.1], 2, "anecdotal", "anecdotal"),  # half of four seeds
        ([-1.0, -1.1, -1.2], 0, "better", "worse"),
        ([-1.0], 3, "diverged", "diverged"),
        ([], 4, "diverged", "diverged"),
    ],
)
def test_verdict(differences, diverged, lower_is, higher_is):
    (interval,) = stats.holm_intervals([differences])
    for goal, word in {"min": lower_is, "max": higher_is}.items():
        found = stats.verdict(
            differences, interval, goal=goal, sesoi=0.1, seeds=4, diverged=diverged
        )
        assert found == word
