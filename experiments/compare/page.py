"""Page: a comparison as one HTML file, and as the part of it that a notebook shows."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from experiments.compare import figures
from experiments.report import text
from experiments.report.page import rendered

if TYPE_CHECKING:
    from experiments.compare.comparison import Comparison

MANY = 6  # runs above which each has a row of its own


def whole(comparison: "Comparison") -> str:
    """The file; it is self-contained, without scripts, and all text is escaped."""
    drawn = figures.draw(comparison.runs)
    return rendered("compare/page.html.jinja", text.html, _view(comparison, drawn))


def part(comparison: "Comparison") -> str:
    """What stands in the file, for a page with styles of its own."""
    drawn = figures.draw(comparison.runs)
    drawn = {name: one._replace(dark="") for name, one in drawn.items()}
    view = _view(comparison, drawn)
    return rendered("compare/sections.html.jinja", text.html, view)


def _view(comparison, drawn):
    names = [run.name for run in comparison.runs]
    return {
        "heading": " · ".join(names) if len(names) <= MANY else f"{len(names)} runs",
        "now": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "runs": comparison.runs,
        "sections": comparison.sections,
        "turned": len(comparison.runs) > MANY,
        "figures": drawn,
    }
