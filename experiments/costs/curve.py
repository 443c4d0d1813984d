"""Curves: one quantity measured against another, and the power by which it grows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LAST = 3  # points of the largest x, where the highest power shows


class Curve(NamedTuple):
    """What is measured against what; both axes are logarithmic.

    Attributes:
        of: what is measured. x, y: quantities; curves of one x share a figure.
        slope: the score that is its slope, ``log_slope``; "" if there is none.
    """

    of: str
    x: str
    y: str
    slope: str = ""


def log_slope(points: Sequence[Sequence[float]], last: int = LAST) -> float:
    """Power p of y ~ x**p: least squares on logarithms of the ``last`` points.

    Args: points: [x, y], both positive, in any order.
    """
    x, y = np.log(sorted(map(tuple, points))[-last:]).T
    return round(float(np.polyfit(x, y, 1)[0]), 12)  # a constant has 0
