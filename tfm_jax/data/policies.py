"""Policies for bad examples: dropped, kept (cut where they are too long), refused."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfm_jax import knobs
from tfm_jax.data.errors import DataError

POLICIES = ("drop", "keep", "error")
_ROOM = {"length", "source_length", "target_length"}


def invalid_utf8_knob() -> Any:
    """The knob ``invalid_utf8`` of a section that reads text."""
    return knobs.knob(
        "error",
        "what a byte that is no UTF-8 gets; replace: U+FFFD",
        choices=("error", "replace"),
    )


def sift(
    cfg: Any,
    bad: Mapping[str, Any],
    what: str,
    *,
    clause: Callable | None = None,
    some: bool = False,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Which examples stay: (bool [n], report of how many were bad).

    Args:
        cfg: a section; its knobs named as the keys of ``bad`` are POLICIES.
        bad: knob -> bool [n]; what one knob has dropped, the next does not judge.
        what: one of the examples, such as "pair".
        clause: (knob, number from 0) -> what is wrong with that example, in words.
        some: whether one must be left.
    Raises: DataError naming the first bad example if a policy says so.
    """
    clause = clause or (lambda knob, number: f"{what} {number + 1} is {knob}")
    report: dict[str, Any] = {}
    keep: Any = np.ones(len(next(iter(bad.values()))), bool)
    for knob, wrong in bad.items():
        policy, wrong = getattr(cfg, knob), np.asarray(wrong, bool) & keep
        count = int(wrong.sum())
        if policy == "error" and count:
            raise DataError(
                f"{clause(knob, int(wrong.argmax()))}, {count} in all; in a run "
                f"data.{knob}=drop leaves them out"
            )
        if policy == "drop":
            keep &= ~wrong
        report[knob] = {"policy": policy, f"{what}s": count}
    if some and not keep.any():
        counts = (f"{said[f'{what}s']} {knob}" for knob, said in report.items())
        room = sorted(_ROOM & {*vars(cfg)}) if "overlong" in bad else []
        of_rows = ", ".join(f"data.{knob}={getattr(cfg, knob)}" for knob in room)
        raise DataError(
            f"none of {len(keep)} {what}s is left: {', '.join(counts)}"
            + (f"; a row has {of_rows}" if room else "")
        )
    return keep, report
