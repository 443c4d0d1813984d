"""Claims: what the paper says in words, as conditions on its numbers."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Numbers(NamedTuple):
    """Of ``numbers.of_reports``, by what they are of."""

    arms: Mapping
    lost: Mapping
    deeper: Mapping
    slope: Mapping
    sesoi: float


def _highest_pre(x):
    return max(arm["high"] for (norm, *_), arm in x.arms.items() if norm == "pre")


CLAIMS: dict[str, Callable[[Numbers], bool]] = {
    "no best rate is the smallest or the largest": lambda x: all(
        arm["rates"][0][0] < arm["rate"] < arm["rates"][-1][0]
        for arm in x.arms.values()
    ),
    "Post-LN loses more with four layers than with two": lambda x: (
        x.deeper["post", 2, 4]["low"] > 0
    ),
    "with four and six it cannot be told apart": lambda x: (
        x.deeper["post", 4, 6]["low"] < 0 < x.deeper["post", 4, 6]["high"]
    ),
    "whether two layers lose more than what is of interest is undecided": lambda x: (
        x.lost["post", 2]["low"] < x.sesoi < x.lost["post", 2]["high"]
    ),
    "Pre-LN loses less than that with two layers and six, but something": lambda x: all(
        0 < x.lost["pre", depth]["low"] and x.lost["pre", depth]["high"] < x.sesoi
        for depth in (2, 6)
    ),
    "with four layers of Pre-LN it cannot be told": lambda x: (
        x.lost["pre", 4]["low"] < 0 and x.sesoi < x.lost["pre", 4]["high"]
    ),
    "six layers of Post-LN are worse than any Pre-LN, with warm-up too": lambda x: (
        _highest_pre(x) < x.arms["post", "warmup", 6]["low"]
    ),
    "the power of Post-LN is not 0, but within 0.15": lambda x: (
        0 < x.slope["low"] < x.slope["high"] < 0.15
    ),
}


def broken(taken: Mapping[str, Any]) -> list[str]:
    """What the paper says and these numbers do not bear."""
    by = Numbers(
        {(arm["norm"], arm["warmup"], arm["layers"]): arm for arm in taken["arms"]},
        {(x["norm"], x["layers"]): x for x in taken["lost"]},
        {(x["norm"], *x["layers"]): x for x in taken["deeper"]},
        taken["slopes"]["post"],
        taken["sesoi"],
    )
    return [said for said, holds in CLAIMS.items() if not holds(by)]
