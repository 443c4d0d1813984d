"""Stopwatch: seconds of several programs on a machine that drifts."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import jax

Name = TypeVar("Name", bound=Hashable)
SHORT = 0.02  # seconds; what takes less is called several times in a row


def medians(
    programs: Mapping[Name, Callable[[], Any]], rounds: int, rng: Any
) -> dict[Name, float]:
    """Seconds of one call of each program: the median of ``rounds``.

    A round measures all of them once, in a new order, so that no drift of the machine
    falls on one of them; the first calls, which warm caches up, are not counted.

    Args: programs: without arguments; what they return is waited for. rng: of NumPy.
    """
    calls = {name: _calls(program) for name, program in programs.items()}
    measured = {name: [] for name in programs}
    names = list(programs)
    for _ in range(rounds):
        for place in rng.permutation(len(names)):
            name = names[place]
            measured[name].append(_seconds(programs[name], calls[name]))
    return {name: statistics.median(seconds) for name, seconds in measured.items()}


def _calls(program):
    """How many in a row take ``SHORT``; the first call warms caches up."""
    seconds = _seconds(program, 1)
    if seconds < 1.0:
        seconds = _seconds(program, 1)
    return max(1, round(SHORT / seconds))


def _seconds(program, calls):
    began = time.perf_counter()
    for _ in range(calls):
        jax.block_until_ready(program())
    return (time.perf_counter() - began) / calls
