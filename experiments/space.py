"""Search space: the range of each tuned knob, and quasi-random points in it."""

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tfm_jax.api import no_choice

SCALES = ("linear", "log")
PROPOSERS = ("sobol", "optuna")
MOST_TRIALS = 1_000
EDGE = 0.05  # share of a range at either end where an optimum may lie outside
DIGITS = 4  # of a point, in units of its range; more change no result


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included, evenly on a ``scale``.

    Those of a knob that takes integers are integers.
    Raises: ValueError for ends that are no range, naming them.
    """

    low: float
    high: float
    scale: str = "linear"

    def __post_init__(self):
        if self.scale not in SCALES:
            raise ValueError(no_choice("scale", self.scale, SCALES))
        numbers = all(type(end) in (int, float) for end in (self.low, self.high))
        if not numbers or not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"{self}: low must be below high, both finite numbers")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"{self}: low must be above 0; or take linear")

    def __str__(self) -> str:
        return f"{self.scale}({self.low!r}, {self.high!r})"

    def value(self, unit: float, whole: bool) -> float:
        """What lies at ``unit``, in [0, 1), of the range. Args: whole: an integer."""
        half = 0.5 if whole else 0.0  # so that each integer has its share
        low, high = self.low - half, self.high + half
        if self.scale == "log":
            return self.rounded(low * (high / low) ** unit, whole)
        return self.rounded(low + (high - low) * unit, whole)

    def rounded(self, value: float, whole: bool) -> float:
        """A number near ``value`` that reads well, in the range."""
        if whole:
            return int(min(max(round(value), self.low), self.high))
        near = self.high - self.low
        near = min(near, value) if self.scale == "log" else near
        short = round(float(value), DIGITS - 1 - math.floor(math.log10(near)))
        return float(min(max(short, self.low), self.high))

    def unit(self, value: float) -> float:
        """Where ``value`` lies between both ends, in [0, 1], on the scale."""
        if self.scale == "log":
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def size(self, whole: bool) -> float:
        """How many values there are."""
        return self.high - self.low + 1 if whole else math.inf


@dataclasses.dataclass(frozen=True)
class Choice:
    """Values in no order, each as likely as another."""

    choices: tuple

    def __post_init__(self):
        if len(set(map(repr, self.choices))) < max(2, len(self.choices)):
            raise ValueError(f"{self}: values must be distinct, and two at least")

    def __str__(self) -> str:
        return f"choice({', '.join(map(repr, self.choices))})"

    def value(self, unit: float, whole: bool) -> Any:
        """See ``Range.value``."""
        return self.choices[int(unit * len(self.choices))]

    def size(self, whole: bool) -> float:
        """How many values there are."""
        return len(self.choices)


Space = Mapping[str, Range | Choice]


def log(low: float, high: float) -> Range:
    """Numbers whose logarithms are spread evenly, such as learning rates."""
    return Range(low, high, "log")


def linear(low: float, high: float) -> Range:
    """Numbers that are spread evenly; integers, if the knob takes integers."""
    return Range(low, high)


def choice(*values: Any) -> Choice:
    """Any of these values; of numbers in an order see ``log`` and ``linear``."""
    return Choice(values)


def points(
    space: Space, whole: Collection[str], trials: int, seed: int
) -> list[dict[str, Any]]:
    """Distinct quasi-random settings; those of fewer trials are the first of them.

    A Sobol' sequence, scrambled (Matoušek 1998, as ``scipy.stats.qmc``). Of its first
    2^k points each 2^k-th of a knob's range has one, so whatever is best for a knob, a
    point is no further than 2^-k of its range away; of the first two knobs each of the
    2^k rectangles of equal shape has one (Sobol' 1967; Joe and Kuo 2008). What rounding
    makes equal counts once.

    Args: whole: knobs that take integers.
    Raises: ValueError if there are not so many settings.
    """
    from scipy.stats import qmc

    size = math.prod(each.size(knob in whole) for knob, each in space.items())
    sequence = qmc.Sobol(len(space), rng=seed)
    distinct: dict[str, dict[str, Any]] = {}
    power = math.ceil(math.log2(trials))
    for doubling in range(8) if size >= trials else ():
        for point in sequence.random_base2(power + max(0, doubling - 1)):
            setting = {
                knob: space[knob].value(float(unit), knob in whole)
                for knob, unit in zip(space, point, strict=True)
            }
            distinct.setdefault(repr(setting), setting)
        if len(distinct) >= trials:
            return list(distinct.values())[:trials]
    said = ", ".join(f"{knob}={each}" for knob, each in space.items())
    count = int(size) if size < trials else len(distinct)
    raise ValueError(f"trials={trials}: {said} has {count} settings")


def problems(tune: Mapping[str, Any], trials: int, proposer: str) -> Iterator[str]:
    """What is wrong with the tuning of a study, in words."""
    searched = [k for k, v in tune.items() if isinstance(v, Range | Choice)]
    if type(trials) is not int or not 0 <= trials <= MOST_TRIALS:
        yield f"trials={trials!r} must be an integer from 0 to {MOST_TRIALS:,}"
    elif trials and not tune:
        yield f"trials={trials}, but tune={tune} says nothing to try"
    elif searched and not trials:
        knob = searched[0]
        yield (
            f"tune: {knob}={tune[knob]} with trials={trials}: say how many points of "
            "the ranges are tried for each arm"
        )
    for knob, values in tune.items():
        if knob in searched:
            continue
        if trials:
            yield (
                f"tune: {knob}={values!r} with trials={trials}; choose from "
                "(log(low, high), linear(low, high), choice(value, ...))"
            )
        elif not values or len(set(map(repr, values))) < len(values):
            yield f"tune: {knob}={values!r} must be distinct, and one at least"
    if proposer not in PROPOSERS:
        yield no_choice("proposer", proposer, PROPOSERS)
    elif proposer != PROPOSERS[0] and not trials:
        yield f"proposer={proposer!r} needs trials and ranges in tune"
