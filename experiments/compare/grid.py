"""Grid: a table of texts, the same on a terminal and on a page."""

from typing import Any, NamedTuple

from rich.cells import cell_len

from experiments.report.numbers import DASH
from experiments.report.text import shortened
from tfm_jax.api import ConfigError, to_flag

LONGEST = 40  # characters of a cell on a terminal
GAP = "  "


class Grid(NamedTuple):
    """Rows of cells.

    Attributes:
        corner: what the rows are. head: over the columns.
        rows: name -> a cell for each column. turned_corner: of ``turned``.
    """

    corner: str
    head: list[str]
    rows: dict[str, list[str]]
    turned_corner: str = "run"

    def turned(self) -> "Grid":
        """Its rows as columns."""
        columns = map(list, zip(*self.rows.values(), strict=True))
        rows = dict(zip(self.head, columns, strict=True)) if self.rows else {}
        return Grid(self.turned_corner, [*self.rows], rows, self.corner)

    def lines(self, width: int) -> list[str]:
        """Aligned; what does not fit into ``width`` is turned, then folded."""
        columns = _columns(self)
        if _width(columns) > width and self.rows:
            columns = min(columns, _columns(self.turned()), key=_width)
        names, *columns = columns
        lines, block = [], [names]
        for column in columns:
            if len(block) > 1 and _width([*block, column]) > width:
                lines += [*_joined(block), ""]
                block = [names]
            block.append(column)
        return lines + _joined(block)


def spelled(value: Any) -> str:
    """A knob's value as the command line writes it; a dash for None: there is none."""
    if value is None:
        return DASH
    try:
        return to_flag(value)
    except ConfigError:  # of a run that is not ours
        return repr(value)


def number(value: float | None, *, sign: bool = False) -> str:
    """Five digits, or all of a whole number."""
    if value is None:
        return DASH
    if abs(value) < 1e15 and value == int(value):
        return f"{value:{'+' if sign else ''},.0f}"
    return f"{value:{'+' if sign else ''}.5g}"


def _columns(grid):
    """Each column as texts of one width, its head first."""
    rows = [[grid.corner, *grid.head], *([n, *cells] for n, cells in grid.rows.items())]
    columns = [
        [shortened(x, LONGEST) for x in column] for column in zip(*rows, strict=True)
    ]
    widths = [max(map(cell_len, column)) for column in columns]
    return [
        [x + " " * (width - cell_len(x)) for x in column]
        for column, width in zip(columns, widths, strict=True)
    ]


def _width(columns):
    return sum(cell_len(column[0]) + len(GAP) for column in columns) - len(GAP)


def _joined(columns):
    return [GAP.join(row).rstrip() for row in zip(*columns, strict=True)]
