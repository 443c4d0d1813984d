"""Aggregates of scores over several tasks; more is better.

Whatever draws at random takes a ``numpy.random.Generator``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata, trim_mean

from experiments.statistics.stats import percentiles


def iqm(scores: Any) -> float:
    """Interquartile mean over all runs and tasks; Agarwal et al. 2021, section 4.3."""
    return float(trim_mean(scores, 0.25, axis=None))


def stratified_bootstrap(
    scores: Any,
    statistic: Callable,
    rng: Any,
    confidence: float = 0.95,
    resamples: int = 2_000,
) -> Any:
    """Percentile ``Interval`` of ``statistic``: runs are redrawn within each task.

    Source: Agarwal et al. 2021, arXiv:2108.13264, section 4.1. For several tasks; over
    few runs of one task it is too narrow (.83 for .95 at n = 5).
    Args: scores: [runs, tasks]. statistic: maps such an array to a number.
    """
    scores = np.asarray(scores)
    runs, tasks = scores.shape
    drawn = [
        statistic(scores[rng.integers(runs, size=scores.shape), np.arange(tasks)])
        for _ in range(resamples)
    ]
    return percentiles(drawn, confidence)


def probability_of_improvement(x: Any, y: Any) -> float:
    """Chance that a run of x beats one of y on a task drawn at random; ties are half.

    Source: Agarwal et al. 2021, section 4.3. Args: x, y: [runs, tasks], more is better.
    """
    x, y = np.asarray(x)[:, None], np.asarray(y)
    return float(((x > y) + (x == y) / 2).mean())


def leave_one_out_ranks(scores: Sequence, statistic: Callable = iqm) -> np.ndarray:
    """Ranks of the arms as single tasks are left out: a lottery if they change.

    Source: Dehghani et al. 2021, arXiv:2107.07002.
    Args: scores: one array [runs, tasks] per arm, more is better.
    Returns: [1 + tasks, arms] int, 1 is best, equals share the better rank. Row 0 has
        all tasks, row t lacks task t - 1.
    """
    scores = [np.asarray(arm) for arm in scores]
    rows = [
        [-statistic(np.delete(arm, left_out, axis=1)) for arm in scores]
        for left_out in [[], *range(scores[0].shape[1])]
    ]
    return rankdata(rows, method="min", axis=1).astype(int)
