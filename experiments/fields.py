"""Fields of a study: what each of them must be, before anything is made of it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.space import Choice, Range
from tfm_jax.api import score_goals

SEVERAL = ("seeds", "tune_seeds", "identical", "other_seeds", "looks", "expect")
_TEXT = (
    *("config", "first", "baseline", "metric", "goal", "match"),
    *("probe", "proposer", "fixed_rate", "caveat"),
)
_NUMBERS = ("sesoi", "solved")
_PAIRS = ("arms", "settings", "tune")


def problems(study: Any) -> Iterator[str]:
    """What is wrong with the kinds of a study's fields, in words."""
    for name in _TEXT:
        if not isinstance(getattr(study, name), str):
            yield _wrong(study, name, "text")
    for name in _NUMBERS:
        value = getattr(study, name)
        if not _is_number(value) and not (name == "solved" and value is None):
            yield _wrong(study, name, "a number")
    for name in SEVERAL:
        if not isinstance(getattr(study, name), tuple):
            example = "(better(...),)" if name == "expect" else "(0, 1, 2)"
            yield _wrong(study, name, f"several of them, {example}")
    for name in _PAIRS:
        value = getattr(study, name)
        if not isinstance(value, Mapping):
            yield _wrong(study, name, "a mapping, {...: ...}")
            continue
        for key, one in value.items():
            if name == "arms" and not isinstance(one, Mapping):
                yield f"arms: {key}={one!r}; write its settings, {{KNOB: VALUE}}"
            if name == "tune" and not isinstance(one, tuple | list | Range | Choice):
                yield f"tune: {key}={one!r}; write several values, or a range"


def wrong_goal(metric: str, goal: str) -> str:
    """What is wrong with the goal of a score whose good side is known; "" if nothing.

    Args: metric: ``split/score``; of a difference of two nothing is known.
    """
    best = score_goals().get(metric.rpartition("/")[2])
    if " - " in metric or best is None or goal in ("", best.__name__):
        return ""
    better = {"min": "less", "max": "more"}[best.__name__]
    return f"goal={goal!r}, but {better} of {metric} is better"


def contradicts(expectation: Any, sign: int, sesoi: float) -> str:
    """What is wrong if a source's own effects are not what it is said to find.

    Args: sign: of a difference that is an improvement.
    """
    kind, gain = expectation.kind, (math.ulp(0.0), math.inf)
    low, high = {  # of a gain, or of the mean of ``within``
        "better": gain,
        "monotone": gain,
        "equivalent": (-sesoi, sesoi),
        "within": (expectation.low, expectation.high),
    }.get(kind, (-math.inf, math.inf))
    for effect in expectation.reported:
        if not low <= (effect if kind == "within" else sign * effect) <= high:
            ends = f", from {low:g} to {high:g}" if high < math.inf else ""
            return f"reported={effect:g} is not {kind} of {expectation.arms}{ends}"
    return ""


def _wrong(study, name, form):
    return f"{name}={getattr(study, name)!r}; write {form}"


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)
