"""Grid: a table of texts, the same on a terminal and on a page."""

import math
from typing import Any, NamedTuple

from rich.cells import cell_len

from experiments.report.numbers import DASH
from experiments.report.text import shortened
from tfm_jax.api import ConfigError, to_flag

LONGEST = 40  # characters of a cell on a terminal


class Grid(NamedTuple):
    """Rows of cells.

    Attributes:
        corner: what the rows are. head: over the columns.
        rows: name -> a cell for each column.
    """

    corner: str
    head: list[str]
    rows: dict[str, list[str]]

    def turned(self) -> "Grid":
        """Its rows as columns."""
        columns = map(list, zip(*self.rows.values(), strict=True))
        rows = dict(zip(self.head, columns, strict=True)) if self.rows else {}
        return Grid("run", [*self.rows], rows)

    def lines(self, width: int) -> list[str]:
        """Aligned, with its rows as columns if only so they fit into ``width``."""
        if not self.rows:
            return []
        lines = _aligned(self)
        if _width(lines) > width:
            lines = min(lines, _aligned(self.turned()), key=_width)
        return lines


def spelled(value: Any) -> str:
    """A knob's value as the command line writes it; a dash for None: there is none."""
    if value is None:
        return DASH
    try:
        return to_flag(value)
    except ConfigError:  # of a run that is not ours
        return repr(value)


def number(value: float | None, *, sign: bool = False) -> str:
    """Five digits, or all of a count."""
    if value is None:
        return DASH
    if isinstance(value, int) or (math.isfinite(value) and value == int(value)):
        return f"{value:{'+' if sign else ''},.0f}"
    return f"{value:{'+' if sign else ''}.5g}"


def _aligned(grid):
    table = [
        [grid.corner, *grid.head],
        *([name, *cells] for name, cells in grid.rows.items()),
    ]
    table = [[shortened(cell, LONGEST) for cell in row] for row in table]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell + " " * (width - cell_len(cell))
            for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in table
    ]


def _width(lines):
    return max(map(cell_len, lines))
