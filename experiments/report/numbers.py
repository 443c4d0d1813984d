"""Numbers as the tables print them; each keeps the exact value it was rounded from."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

DASH = "–"
MINUS = "−"


class Shown(NamedTuple):
    """One number of a table.

    Attributes:
        text: rounded, with its unit. exact: the number itself, None if there is none.
        reason: why there is none.
    """

    text: str
    exact: float | None = None
    reason: str = ""


def absent(reason: str) -> Shown:
    """An en dash, and ``reason`` as the footnote that explains it."""
    return Shown(DASH, None, reason)


def fixed(
    value: float | None, places: int, reason: str = "", *, sign: bool = False
) -> Shown:
    """``value`` with ``places`` decimals; ``sign`` prints a plus too; never "-0.0"."""
    if value is None:
        return absent(reason)
    return Shown(rounded(value, places, sign=sign).replace("-", MINUS), value)


def rounded(value: float, places: int, *, sign: bool = False) -> str:
    """``fixed`` for a terminal, in ASCII."""
    return f"{value:{'+' if sign else ''}z.{places}f}"


def decimals(spreads: Iterable[float]) -> int:
    """Decimals, at most 9, that leave two digits of the smallest positive spread.

    Source: the uncertainty's two digits, as in the GUM, JCGM 100:2008, 7.2.6.
    """
    positive = [s for s in spreads if s is not None and s > 0]
    if not positive:
        return 4
    return min(max(1 - math.floor(math.log10(min(positive))), 0), 9)


def p_value(p: float | None, reason: str = "") -> Shown:
    """A probability, cut off below one in a thousand."""
    if p is None:
        return absent(reason)
    return Shown("< 0.001" if p < 0.001 else f"{p:.3f}", p)


def quantity(value: float | None, reason: str = "") -> Shown:
    """A count with three digits and the letter of its thousands: 12.3 M."""
    if value is None:
        return absent(reason)
    letters = ["", " k", " M", " G", " T", " P", " E"]
    power = int(math.log10(abs(value)) // 3) if abs(value) >= 1 else 0
    power = min(max(power, 0), len(letters) - 1)
    scaled = value / 1000**power
    if power and abs(scaled) >= 999.5 and power < len(letters) - 1:
        power, scaled = power + 1, scaled / 1000
    whole = float(value).is_integer() and not power
    text = f"{scaled:.0f}" if whole else f"{scaled:#.3g}".rstrip(".")
    return Shown(text + letters[power], value)


def duration(seconds: float | None, reason: str = "") -> Shown:
    """Seconds below two minutes, then minutes, then hours."""
    if seconds is None:
        return absent(reason)
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return Shown(f"{seconds / length:.1f} {unit}", seconds)
    return Shown(f"{seconds:.{1 if seconds < 10 else 0}f} s", seconds)


def memory(size: float | None, reason: str = "") -> Shown:
    """Bytes, as MiB or GiB."""
    if size is None:
        return absent(reason)
    mebibytes = size / 2**20
    if mebibytes < 1000:
        return Shown(f"{mebibytes:.1f} MiB", size)
    return Shown(f"{mebibytes / 1024:.1f} GiB", size)


def plain(value: Any) -> str:
    """A setting's value on one line: 0.0003, true, a word."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
