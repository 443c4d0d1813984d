"""Search: what the trials of a tuning say of its budget, and of the learning rate."""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.runs.cells import START
from experiments.space import Range
from experiments.study import GOALS, Study

RATE = "optim.peak_lr"


def analyse(study: Study, trials: Iterable[Mapping]) -> dict[str, Any] | None:
    """Of a search with ``Study.trials``, plain JSON; None of other tunings.

    Args: trials: see ``outcomes.tuning``.
    Returns: ``knobs`` (knob -> ``range``, ``scale``, ends or choices), ``proposer``,
        ``trials`` and ``arms``: those whose tuning has finished, each with its
        ``trials`` (``settings``, ``value``, the mean over seeds or None if one
        diverged, ``chosen``), ``best`` of 1, 2, ... trials (see ``expected_best``; of
        trials that follow from others ``best_so_far``), ``edges`` (knobs at the edge),
        ``lost`` (how many diverged) and ``sensitivity`` (see ``deviation``; None if no
        rate has a range).
    """
    if not study.trials:
        return None
    by_arm = _means(trials)
    real = [t["value"] for own in by_arm.values() for t in own if not _lost(t)]
    worst = max(real, key=lambda v: -GOALS[study.goal] * v, default=None)
    return {
        "knobs": {
            knob: {"range": str(each), "scale": "choice"} | dataclasses.asdict(each)
            for knob, each in study.tune.items()
        },
        "proposer": study.proposer,
        "trials": study.trials,
        "arms": {arm: _of_arm(own, study, worst) for arm, own in by_arm.items()},
    }


def _of_arm(trials, study, worst):
    values, rate = [t["value"] for t in trials], isinstance(study.tune.get(RATE), Range)
    follow = study.proposer == "optuna"  # no sample of the space, but for the first
    best_of = best_so_far if follow else expected_best
    spread = values[:START] if follow else values
    return {
        "trials": trials,
        "best": best_of(values, study.goal),
        "edges": next(trial["edges"] for trial in trials if trial["chosen"]),
        "lost": values.count(None),
        "sensitivity": deviation(spread, study.goal, worst) if rate else None,
    }


def _means(trials):
    """Arm -> its trials, each with the mean over its seeds; None if one diverged."""
    by_arm, ended = {}, set()
    for trial in trials:
        own = by_arm.setdefault(trial["arm"], {})
        own.setdefault(repr(trial["settings"]), []).append(trial)
        ended |= {trial["arm"]} if trial["chosen"] else set()
    return {
        arm: [
            {
                "settings": tried[0]["settings"],
                "value": None
                if any(map(_lost, tried))
                else statistics.fmean(trial["value"] for trial in tried),
                "chosen": tried[0]["chosen"],
                "edges": tried[0]["edges"],
            }
            for tried in own.values()
        ]
        for arm, own in by_arm.items()
        if arm in ended
    }


def _lost(trial):
    return trial["value"] is None


def expected_best(values: Sequence[float | None], goal: str) -> list[float | None]:
    """Expected best of k of n trials, for k = 1 to n: the mean over all subsets of k.

    Source: Tang et al. 2020, arXiv:2004.13705: a U-statistic, without bias for trials
    drawn independently; that of Dodge et al. 2019, arXiv:1909.03004, which draws with
    replacement, is too low. Quasi-random points are spread more evenly than those
    drawn independently, so what k of them in their order find is a little better.
    Args: values: None of a trial that diverged, which is worse than any.
    Returns: None where a subset may have none that did not diverge.
    """
    sign = GOALS[goal]
    ranked = np.sort([-math.inf if v is None else sign * v for v in values])
    n, lost = len(ranked), [*values].count(None)
    expected: list[float | None] = []
    for k in range(1, n + 1):
        if k <= lost:
            expected.append(None)
            continue
        place = np.arange(n, k, -1)  # C(i - 1, k - 1) / C(n, k), from i = n downwards
        weights = np.cumprod([k / n, *(place - k) / (place - 1)])
        best = ranked[::-1][: n - k + 1]
        kept = np.isfinite(best)
        expected.append(sign * float(weights[kept] @ best[kept]))
    return expected


def best_so_far(values: Sequence[float | None], goal: str) -> list[float | None]:
    """Best of the first k trials, for k = 1 to n; None where all of them diverged."""
    sign = GOALS[goal]
    signed = [-math.inf if v is None else sign * v for v in values]
    best = itertools.accumulate(signed, max)
    return [None if math.isinf(v) else sign * v for v in best]


def deviation(
    values: Sequence[float | None], goal: str, worst: float | None
) -> float | None:
    """Expected distance from the best over all trials, at least 0.

    Source: Wortsman et al. 2023, arXiv:2309.14322, learning-rate sensitivity, of rates
    evenly on their range's scale. Deviates: no loss is cut off at that of an untrained
    model; a trial that diverged counts as the ``worst`` of any arm that did not; what
    else is tuned varies with the rate.
    """
    sign = GOALS[goal]
    real = [v for v in values if v is not None]
    if worst is None or not real:
        return None
    best = max(real, key=lambda v: sign * v)
    return statistics.fmean(abs((worst if v is None else v) - best) for v in values)
