"""Group-sequential t tests: several looks at growing samples, one error rate in all.

Alpha is spent over the looks (Lan & DeMets 1983, Biometrika 70(3)) as O'Brien & Fleming
1979 do: almost none of it early. A test of overall level alpha is made at look k at a
nominal level, and ``1 - nominal`` is the confidence of the interval there, which with
those of all other looks covers the true mean at ``1 - alpha``, whatever made one stop
(repeated confidence intervals, Jennison & Turnbull 2000, chapter 9). Of several tests
each gets Holm's share of alpha, and its nominal level follows (Maurer & Bretz 2013).
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from experiments.statistics import stats
from experiments.study import FEWEST_SEEDS, Study

FLOOR = 1e-10  # no nominal level is below: its t interval would end nowhere
_ANGLES, _OF_ANGLES = np.polynomial.legendre.leggauss(64)
# dense at the ends, where samples about to reject are
NODES = np.sin(np.pi / 2 * _ANGLES)
WEIGHTS = np.pi / 2 * np.cos(np.pi / 2 * _ANGLES) * _OF_ANGLES
NEGLIGIBLE = 1e-9  # share of a tail that is left out
TAIL, TAIL_WEIGHTS = np.polynomial.legendre.leggauss(24)


class Look(NamedTuple):
    """One analysis of those planned.

    Attributes: planned: seeds of an arm at each. number: of this one, from 1.
    """

    planned: tuple[int, ...]
    number: int

    def nominal(self, alpha: float) -> float:
        """Two-sided level at which a test of overall level ``alpha`` is made here."""
        return _level(self.planned, self.number, alpha)

    def confidence(self, confidence: float) -> float:
        """Of the interval that, of all looks together, covers with ``confidence``."""
        return 1 - self.nominal(1 - confidence)

    def p_value(self, p: float | None) -> float | None:
        """The overall level whose nominal one is ``p``: the repeated p-value."""
        if p is None or len(self.planned) == 1 or p >= 1:
            return p
        if p <= self.nominal(FLOOR):
            return FLOOR

        def lacking(log_alpha):
            return math.log(self.nominal(math.exp(log_alpha)) / p)

        lowest, highest = math.log(FLOOR), math.log(0.999)
        if lacking(highest) <= 0:
            return 1.0
        return math.exp(optimize.brentq(lacking, lowest, highest, xtol=1e-4))

    def spent(self, alpha: float) -> float:
        """What of ``alpha`` is spent once this look is over."""
        return spent(self.planned[self.number - 1] / self.planned[-1], alpha)

    def ties(self, alpha: float) -> int:
        """Fewest differences that tell something though all of them are equal.

        They have no variance, and a t test is as sure of three as of a hundred. Flips
        of their signs make them so with chance 2^(1 - n), which must be below the
        nominal level: else a look would end a study that happens to tie. Of one look,
        no fewer than an interval takes.
        """
        if len(self.planned) == 1:
            return FEWEST_SEEDS
        return 1 + math.ceil(-math.log2(self.nominal(alpha)))

    def paired(self, differences: Sequence[float], confidence: float) -> stats.Paired:
        """``stats.paired`` at the level of this look; no interval of too few ``ties``.

        Its p is the nominal one.
        """
        p = stats.paired(differences, self.confidence(confidence))
        if stats.tied(differences) and p.n < self.ties(1 - confidence):
            return p._replace(low=None, high=None, p=None)
        return p

    @property
    def last(self) -> "Look":
        """The last one planned."""
        return Look(self.planned, len(self.planned))


def look_of(study: Study) -> Look:
    """The look that a study has seeds for; the only one of most studies."""
    planned = study.looks or (len(study.seeds),)
    return Look(planned, planned.index(len(study.seeds)) + 1)


def spent(fraction: float, alpha: float) -> float:
    """Two-sided ``alpha`` spent at a fraction of the planned sample.

    Source: Lan & DeMets 1983, alpha_1*, of each side: what O'Brien and Fleming's test
    would have spent if it looked all the time.
    """
    if fraction in (0, 1):
        return fraction * alpha
    return 4 * float(special.ndtr(special.ndtri(alpha / 4) / math.sqrt(fraction)))


@functools.cache
def _level(planned, number, alpha):
    """Nominal two-sided level of the t statistic at a look, exact.

    Let r be the cosine between a sample and (1, ..., 1), so that t = r sqrt(n - 1) /
    sqrt(1 - r^2). Without an effect a sample's direction tells nothing of its length,
    so the cosines of nested samples are a Markov chain. Its density, where no look has
    rejected yet, is integrated from look to look, as Armitage, McPherson & Rowe 1969 do
    for known variances and Jennison & Turnbull 1991, Biometrika 78(1), for t. Pairs are
    counted as planned; one that diverged changes no level.
    """
    earlier, n = (0, *planned)[number - 1 : number + 1]
    fractions = earlier / planned[-1], n / planned[-1]
    target = max(spent(fractions[1], alpha) - spent(fractions[0], alpha), FLOOR)
    if number == 1:
        return target
    return _crossing(target, *_undecided(planned, number - 1, alpha), earlier, n)


@functools.cache
def _undecided(planned, number, alpha):
    """Cosines at which no look up to one has rejected, and their probability mass."""
    n = planned[number - 1]
    bound = _cosine(n, _level(planned, number, alpha))
    nodes = bound * NODES
    if number == 1:
        density = (1 - nodes**2) ** ((n - 3) / 2) / special.beta(0.5, (n - 1) / 2)
    else:
        before, mass = _undecided(planned, number - 1, alpha)
        density = mass @ _transition(before, nodes, planned[number - 2], n)
    return nodes, density * bound * WEIGHTS


def _crossing(target, nodes, mass, n, after):
    """The level at which what has not rejected yet does so with chance ``target``."""

    def lacking(log_level):
        level = math.exp(log_level)
        bound = _cosine(after, level)
        half = (_cosine(after, level * NEGLIGIBLE) - bound) / 2
        beyond = _transition(nodes, bound + half * (1 + TAIL), n, after)
        both = 2 * mass @ beyond @ (half * TAIL_WEIGHTS)
        return math.log(max(both, 1e-300) / target)

    start = math.log(target)
    if lacking(start) >= 0:
        return target
    return math.exp(optimize.brentq(lacking, start, -1e-9, xtol=1e-7))


def _cosine(n, level):
    """Of the sample whose two-sided p is ``level``."""
    t = -special.stdtrit(n - 1, level / 2)
    return float(t / math.sqrt(n - 1 + t**2))


def _transition(start, end, n, after):
    """Density of the cosine of ``after`` values, given that of the first ``n``.

    With y^2 the first values' share of the squared length, beta(n / 2, m / 2), and c
    the cosine of the other m values, r' = r y sqrt(n / after) + c sqrt((1 - y^2) m /
    after), where c has a density proportional to (1 - c^2)^((m - 3) / 2).
    Args: start, end: [S], [E] cosines. Returns: [S, E].
    """
    m = after - n
    r, to = start[:, None], end[None, :]
    a, b = r * math.sqrt(n / after), m / after
    # those y for which |c| < 1 lie between the roots of a quadratic
    root = np.sqrt(np.maximum(a**2 + b - to**2, 0) * b)
    lowest, high = ((a * to + sign * root) / (a**2 + b) for sign in (-1, 1))
    low = np.maximum(lowest, 0)
    angle, weight = np.polynomial.legendre.leggauss(max(32, 6 * math.isqrt(after)))
    half = np.maximum(high - low, 0)[..., None] / 2
    y = low[..., None] + half * (1 + np.sin(np.pi / 2 * angle))
    inner = (low - lowest)[..., None] + half * (1 + np.sin(np.pi / 2 * angle))
    inner *= half * (1 - np.sin(np.pi / 2 * angle)) * (a**2 + b)[..., None]
    left = (1 - y**2) * b
    with np.errstate(divide="ignore", invalid="ignore"):
        log_density = (
            (m - 3) / 2 * np.log(inner / left)
            - np.log(left) / 2
            + (n - 1) * np.log(y)
            + (m / 2 - 1) * np.log1p(-(y**2))
        )
    log_density -= special.betaln(0.5, (m - 1) / 2) + special.betaln(n / 2, m / 2)
    density = np.where(half > 0, np.exp(log_density), 0)
    step = half * np.pi / 2 * np.cos(np.pi / 2 * angle) * weight
    return 2 * (density * step).sum(-1)
