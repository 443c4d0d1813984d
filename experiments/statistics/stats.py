"""Statistics of an ablation: paired seeds, several arms.

A difference is arm minus baseline at one seed, in the metric's unit. A value is None
where the run diverged. Whatever draws at random takes a ``numpy.random.Generator``.
"""

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special, stats

from experiments.study import FEWEST_SEEDS, GOALS

NEGLIGIBLY = "negligibly "


class Interval(NamedTuple):
    """A confidence interval, both ends included, in the unit of what it covers."""

    low: float
    high: float


class Paired(NamedTuple):
    """Mean paired difference with its t interval; see ``paired``."""

    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    p: float | None


class Unpaired(NamedTuple):
    """Difference of two means with its t interval; see ``unpaired``."""

    n: int
    n_other: int
    mean: float | None
    low: float | None
    high: float | None
    p: float | None


class Wins(NamedTuple):
    """Seeds at which the arm beats, loses to and ties with the baseline."""

    wins: int
    losses: int
    ties: int


def complete_pairs(arm: Sequence, baseline: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Values of the seeds at which neither run diverged: two [n] float64 arrays.

    Raises: ValueError if the two do not list the same number of seeds.
    """
    pairs = zip(arm, baseline, strict=True)
    kept = [(a, b) for a, b in pairs if a is not None and b is not None]
    return tuple(np.array(kept, np.float64).reshape(-1, 2).T)


def paired(differences: Any, confidence: float = 0.95) -> Paired:
    """Mean of paired differences, t interval and two-sided p, n - 1 degrees of freedom.

    Source: Student 1908; the paired t test. Differences that are all equal have the
    interval [mean, mean] and p = 0, or p = 1 if they are zero.
    Args: differences: [..., n]; leading axes are samples of their own.
    Returns: floats, or arrays [...]; low, high and p are None for n < 3.
    Raises: ValueError if a difference is not finite.
    """
    differences = _finite(differences)
    n = differences.shape[-1]
    if n == 0:
        return Paired(0, None, None, None, None, None)
    constant = np.ptp(differences, axis=-1) == 0
    mean = np.where(constant, differences[..., 0], differences.mean(-1))
    if n == 1:
        return Paired(1, _plain(mean), None, None, None, None)
    sd = np.where(constant, 0.0, differences.std(-1, ddof=1))
    if n < FEWEST_SEEDS:
        return Paired(n, _plain(mean), _plain(sd), None, None, None)
    half = special.stdtrit(n - 1, (1 + confidence) / 2) * sd / math.sqrt(n)
    p = 2 * special.stdtr(n - 1, -_studentised(np.abs(mean), sd, n))
    return Paired(n, *map(_plain, (mean, sd, mean - half, mean + half, p)))


def unpaired(values: Any, others: Any, confidence: float = 0.95) -> Unpaired:
    """Mean of ``values`` minus that of ``others``, which share no seed: t interval, p.

    Source: Welch 1947; the variances may differ. Samples of no variance have the
    interval [mean, mean]. Returns: low, high and p are None if either has n < 3.
    """
    values, others = _finite(values), _finite(others)
    sizes = len(values), len(others)
    if not all(sizes):
        return Unpaired(*sizes, None, None, None, None)
    mean = float(values.mean() - others.mean())
    if min(sizes) < FEWEST_SEEDS:
        return Unpaired(*sizes, mean, None, None, None)
    errors = [x.var(ddof=1) / len(x) if np.ptp(x) else 0.0 for x in (values, others)]
    error = math.sqrt(sum(errors))
    if not error:
        return Unpaired(*sizes, mean, mean, mean, float(mean == 0))
    parts = [e**2 / (n - 1) for e, n in zip(errors, sizes, strict=True)]
    freedom = error**4 / sum(parts)
    half = float(special.stdtrit(freedom, (1 + confidence) / 2)) * error
    p = float(2 * special.stdtr(freedom, -abs(mean) / error))
    return Unpaired(*sizes, mean, mean - half, mean + half, p)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm-adjusted p-values, in the order given.

    Source: Holm 1979. None stays None and is no member of the family.
    """
    adjusted = list(p_values)
    floor = 0.0
    ranked = _ranked(p_values)
    for rank, i in enumerate(ranked):
        floor = max(floor, min(1.0, (len(ranked) - rank) * p_values[i]))
        adjusted[i] = floor
    return adjusted


def holm_intervals(
    samples: Sequence,
    confidence: float = 0.95,
    nominal: Callable[[float], float] = lambda alpha: alpha,
) -> list[Interval | None]:
    """Intervals (t) that exclude 0 exactly where ``holm``'s p is below 1 - confidence.

    The arm of rank r (0: smallest p) of m has its interval at level alpha / (m - r).
    From the first one that contains 0 on, all have that one's level. The chance that
    any excludes 0 wrongly is at most alpha, whatever the dependence; the intervals do
    not cover all true means at once with that confidence. Intervals that do, and agree
    with Holm's test, end at 0 however large the effect (arXiv:2402.13719, section 1).
    Args: samples: one array [n] of differences per arm. nominal: level of one look at
        which a test is made whose level over all looks is alpha, ``sequential.Look``.
    Returns: None for an arm with n < 3, which is no member of the family.
    """
    p_values = [paired(differences).p for differences in samples]
    intervals: list[Interval | None] = [None] * len(p_values)
    ranked = _ranked(p_values)
    members = len(ranked)
    for i in ranked:
        _, _, _, low, high, _ = paired(
            samples[i], 1 - nominal((1 - confidence) / members)
        )
        intervals[i] = Interval(low, high)
        if not low <= 0 <= high:
            members -= 1
    return intervals


@functools.cache
def clopper_pearson(count: int, n: int, confidence: float = 0.95) -> Interval:
    """Exact interval of a proportion, ``count`` out of ``n``; [0, 1] for n = 0.

    Source: Clopper & Pearson 1934.
    """
    if n == 0:
        return Interval(0.0, 1.0)
    exact = stats.binomtest(count, n).proportion_ci(confidence, method="exact")
    return Interval(*map(float, exact))


@functools.cache
def rates_differ(count: int, other: int, n: int) -> float:
    """Two-sided p that ``count`` and ``other``, each out of ``n``, have one rate.

    Source: Fisher 1935, the exact test.
    """
    return float(stats.fisher_exact([[count, n - count], [other, n - other]]).pvalue)


def sign_flip(
    differences: Any, rng: Any = None, resamples: int = 10_000
) -> float | None:
    """Two-sided p of the sign-flip test of the mean: differences symmetric about 0.

    Source: Fisher 1935, section 21. All 2**n flips up to n = 16, so that p is at least
    2 / 2**n; beyond, ``resamples`` of them drawn with ``rng``. None for n < 3.
    Raises: ValueError if it has to draw and ``rng`` is None.
    """
    differences = _finite(differences)
    n = len(differences)
    if n < FEWEST_SEEDS:
        return None
    if n > 16 and rng is None:
        raise ValueError(f"n={n}: sign flips are drawn for n > 16; give rng")
    draws = 2**n if n <= 16 else resamples
    test = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=draws, rng=rng
    )
    return float(test.pvalue)


def bca(differences: Any, rng: Any, confidence: float = 0.95) -> Interval | None:
    """Bias-corrected and accelerated bootstrap interval of the mean; None for n < 20.

    Source: Efron 1987. With fewer pairs it is too narrow: .867 for .95 at n = 5.
    """
    differences = _finite(differences)
    if len(differences) < 20:
        return None
    if np.ptp(differences) == 0:
        return Interval(*2 * [float(differences[0])])
    bootstrapped = stats.bootstrap(
        (differences,), np.mean, method="BCa", confidence_level=confidence, rng=rng
    )
    return Interval(*map(float, bootstrapped.confidence_interval))


def minimum_detectable_effect(
    sd: float | None, n: int, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """Mean difference that the two-sided paired t test finds with ``power``.

    Source: Cohen 1988, chapter 2, through the noncentral t distribution.
    Args: sd: of the differences; power: at most .99.  Returns: None for n < 3.
    """
    return None if n < FEWEST_SEEDS else sd * _detectable(n, alpha, power)


@functools.cache
def _detectable(n, alpha, power):
    """``minimum_detectable_effect`` of differences whose sd is 1."""
    critical = special.stdtrit(n - 1, 1 - alpha / 2)

    def lacking(shift):  # below -critical as the mirror image: nct.cdf is nan there
        return power - stats.nct.sf(critical, n - 1, [shift, -shift]).sum()

    with warnings.catch_warnings():
        # in far tails a series of scipy's ends early
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(optimize.brentq(lacking, 0, 4 * critical) / math.sqrt(n))


def wins(arm: Sequence, baseline: Sequence, goal: str) -> Wins:
    """Counts seed by seed; None (diverged) loses to every value and ties with None."""
    sign = _sign(goal)

    def rank(value):
        return -math.inf if value is None else sign * value

    pairs = [(rank(a), rank(b)) for a, b in zip(arm, baseline, strict=True)]
    outcomes = [(a > b) - (a < b) for a, b in pairs]
    return Wins(*map(outcomes.count, (1, -1, 0)))


def sign_test(counts: Wins) -> float:
    """Exact two-sided p that wins and losses are equally likely; ties are left out."""
    decided = counts.wins + counts.losses
    return float(stats.binomtest(counts.wins, decided).pvalue) if decided else 1.0


def correlation(arm: Sequence, baseline: Sequence) -> float | None:
    """Pearson's rho over complete pairs: what sharing a seed buys.

    None for fewer than 3 pairs or where either side does not vary.
    """
    a, b = complete_pairs(arm, baseline)
    if len(a) < FEWEST_SEEDS or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(stats.pearsonr(a, b).statistic)


def verdict(
    differences: Any,
    interval: Any,
    *,
    goal: str,
    sesoi: float,
    seeds: int,
    diverged: int = 0,
    baseline_diverged: int = 0,
    both_diverged: int = 0,
    confidence: float = 0.95,
    ties: int = FEWEST_SEEDS,
) -> str:
    """The word for an arm; the first that applies.

    "diverged", "baseline diverged": more than half of its seeds did. "anecdotal": fewer
    than 3 complete pairs, or fewer than ``ties`` that all differ by the same. All
    others say where ``interval`` lies, so that none can contradict it. "better",
    "worse": it excludes 0; "negligibly better" or "negligibly worse" if it lies within
    +-``sesoi`` all the same. "equivalent": it lies within +-``sesoi`` and includes 0;
    one of 95 % is two one-sided tests at .025 (Schuirmann 1987; ICH E9, section 3.3.2).
    "no difference after Holm": it includes 0, and the unadjusted one does not. Else
    "no difference detected".

    A diverged seed ranks worst, as if its value were as bad as can be. A word that
    favours a side which lost a seed that the other kept would not survive that, and is
    "undecided"; seeds that both lost are left out. So no side gains by losing seeds.
    Source: Lachin 1999, Controlled Clinical Trials 20(5), worst-rank scores.

    Args:
        differences: [n] over complete pairs. interval: that decides, such as of
            ``holm_intervals``. sesoi: smallest effect size of interest, in the metric's
            unit. seeds: that the arm ran. diverged: how many of them did;
            ``both_diverged`` of these at seeds of which the baseline's did too.
            confidence: of an interval that is not adjusted. ties: see
            ``sequential.Look.ties``.
    Raises: ValueError for an unknown goal.
    """
    sign = _sign(goal)
    if 2 * diverged > seeds:
        return "diverged"
    if 2 * baseline_diverged > seeds:
        return "baseline diverged"
    if len(differences) < (ties if tied(differences) else FEWEST_SEEDS):
        return "anecdotal"
    alone = {"better": diverged - both_diverged}
    alone["worse"] = baseline_diverged - both_diverged
    word = _direction(interval, sign)
    small = -sesoi < interval[0] and interval[1] < sesoi
    if word:
        if alone[word]:
            return "undecided"
        return NEGLIGIBLY * (small and not any(alone.values())) + word
    if small:
        return "undecided" if any(alone.values()) else "equivalent"
    hidden = _direction(paired(differences, confidence)[3:5], sign)
    return "no difference after Holm" if hidden else "no difference detected"


def tied(values: Any) -> bool:
    """Whether all of them are one number, but for how differences of it round."""
    return np.allclose(values, values[:1], rtol=1e-9, atol=1e-12)


def _direction(interval, sign):
    low, high = sorted((sign * interval[0], sign * interval[1]))
    return "better" if low > 0 else "worse" if high < 0 else ""


def _finite(differences):
    differences = np.asarray(differences, np.float64)
    if not np.isfinite(differences).all():
        raise ValueError("differences must be finite; a diverged run leaves its pair")
    return differences


def _studentised(effect, sd, n):
    """Effect over standard error; 0 where both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.divide(effect, sd / math.sqrt(n))
    return np.where(np.isnan(t), 0.0, t)


def _ranked(p_values):
    known = [i for i, p in enumerate(p_values) if p is not None]
    return sorted(known, key=p_values.__getitem__)


def percentiles(drawn: Any, confidence: float) -> Interval:
    """The middle ``confidence`` of what a bootstrap has drawn."""
    tail = (1 - confidence) / 2
    return Interval(*np.quantile(drawn, [tail, 1 - tail]).tolist())


def _plain(value):
    return value.item() if np.ndim(value) == 0 else value


def _sign(goal):
    if goal not in GOALS:
        raise ValueError(f"goal={goal!r}; choose from ({', '.join(GOALS)})")
    return GOALS[goal]
