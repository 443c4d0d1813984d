"""What figures are drawn on: two colour schemes, one SVG, text that is only text."""

import base64
import collections
import functools
import io
import math
import os
import re
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from experiments.report.text import shortened

WIDTH = 4.2  # inches at 96 pixels: a phone's width, or half the page's column
PAPER, INK, SOFT, FAINT, BAND = "#fdfdfb", "#22221f", "#63625c", "#d6d5cf", "#e9e8e2"
ACCENT, ALARM = "#0b5c9e", "#c2410c"
# Okabe and Ito 2008, without yellow, which is lost on white paper
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = "sD^vP>"

DARK = {  # the same figure on a dark page
    PAPER: "#16181b",
    INK: "#e7e5df",
    SOFT: "#a5a39c",
    FAINT: "#45474a",
    BAND: "#2a2d31",
    ACCENT: "#7db7f0",
    ALARM: "#ff9a62",
    "#0072b2": "#4d9ff0",
    "#d55e00": "#ff8548",
    "#009e73": "#34c79a",
    "#cc79a7": "#e8a3c9",
    "#e69f00": "#f2b53a",
    "#56b4e9": "#a9dcfb",
}
STYLE = {
    "svg.fonttype": "none",  # the reader's fonts have every script
    "svg.hashsalt": "report",  # the same dict gives the same bytes
    "text.parse_math": False,  # "$" in a name is a dollar
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "savefig.facecolor": "auto",
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.formatter.useoffset": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.labelcolor": INK,
}


class Picture(NamedTuple):
    """One figure of the page.

    Attributes:
        light, dark: data URIs of the SVG. width, height: CSS pixels.
        alt: what the figure says, in numbers. caption: how to read it.
        svg: of either scheme, in the colours that the reader has.
    """

    light: str
    dark: str
    width: int
    height: int
    alt: str
    caption: str
    svg: str


def figure(height: float, **options: Any) -> Figure:
    """An empty figure ``WIDTH`` wide and ``height`` inches high."""
    return Figure(figsize=(WIDTH, height), **{"layout": "constrained"} | options)


def picture(drawn: Figure, alt: str, caption: str) -> Picture:
    """``drawn`` as SVG in both colour schemes.

    Only colours that stand in a style are exchanged, so no text can change. An image
    runs no scripts and loads nothing, whatever its text says.
    """
    light = svg(drawn)
    dark = re.sub(
        r"(?<=fill: |roke: )#[0-9a-f]{6}", lambda c: DARK.get(c[0], c[0]), light
    )
    width, height = (round(96 * side) for side in drawn.get_size_inches())
    both = _in_both(light)
    return Picture(_uri(light), _uri(dark), width, height, alt, caption, both)


def svg(drawn: Figure, both: bool = False) -> str:
    """``drawn`` in light colours; ``both``: in dark ones where the reader has them."""
    file = io.StringIO()
    bare = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with warnings.catch_warnings():
        # the reader's fonts draw the text, not the one that measures it here
        warnings.filterwarnings("ignore", message=".*missing from font")
        drawn.savefig(file, format="svg", metadata=bare)
    text = file.getvalue()
    text = text[text.index("<svg") :].replace("'DejaVu Sans'", "system-ui")
    return _in_both(text) if both else text


def _in_both(drawn):
    """Styles of elements have their colours of ``DARK`` on a dark page."""
    rules = [
        f'[style*="{role}: {light}"] {{{role}: {dark} !important}}'
        for light, dark in DARK.items()
        for role in ("fill", "stroke")
    ]
    rules = "\n".join(rules)
    dark = f"<style>@media (prefers-color-scheme: dark) {{\n{rules}\n}}</style>"
    return drawn.replace("<defs>", f"<defs>{dark}", 1)


def _uri(svg):
    encoded = base64.b64encode(svg.encode()).decode()
    return f"data:image/svg+xml;base64,{encoded}"


def styled(changes: Mapping[str, Any] | None = None) -> Any:
    """The context in which figures are made and drawn."""
    return matplotlib.rc_context(STYLE | dict(changes or {}))


def name(text: str, length: int = 24) -> str:
    """A name for a figure; legends would skip one that begins with "_"."""
    short = shortened(text, length)
    return f" {short}" if short.startswith("_") else short


def label(report: dict, arm: str, length: int = 24) -> str:
    """``name`` of an arm; where others' would be equal, without their common start.

    With its number in front where that does not part them, either.
    """
    return _labels(tuple(a["name"] for a in report["arms"]), length)[arm]


@functools.lru_cache
def _labels(arms, length):
    """Arm -> its label; all differ."""
    alike = collections.defaultdict(list)
    for arm in arms:
        alike[name(arm, length)].append(arm)
    labels = {}
    for short, equal in alike.items():
        start = os.path.commonprefix(equal)
        for arm in equal:
            apart = name("…" + arm.removeprefix(start), length)
            labels[arm] = apart if len(equal) > 1 else short
    counts = collections.Counter(labels.values())
    return {
        arm: labels[arm]
        if counts[labels[arm]] == 1
        else name(f"{number}. {labels[arm]}", length)
        for number, arm in enumerate(arms, 1)
    }


def look(report: dict, arm: str) -> dict:
    """Colour, dashes and marker of ``arm``, the same in every figure.

    The baseline is black; beyond six arms the colours return with dashes.
    """
    others = [a["name"] for a in report["arms"] if a["name"] != report["baseline"]]
    return line(0 if arm == report["baseline"] else 1 + others.index(arm))


def line(number: int) -> dict:
    """Colour, dashes and marker of line ``number``; 0 is the black one."""
    if not number:
        return {"color": INK, "linestyle": "-", "marker": "o"}
    turn, place = divmod(number - 1, len(SERIES))
    marker = MARKERS[(place + turn) % len(MARKERS)]
    dashes = ("-", (0, (4, 1.5)), (0, (1, 1)))[turn % 3]
    return {"color": SERIES[place], "linestyle": dashes, "marker": marker}


def grid(count: int, height: float) -> Any:
    """Small panels that share both axes, two to a row; titles have up to two lines.

    Returns: figure, the panels in use, the leftmost of each row, the lowest of each
        column.
    """
    across = min(count, 2)
    down = math.ceil(count / across)
    total = 0.77 + down * height
    drawn = figure(total, layout="none")
    panels = drawn.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    drawn.subplots_adjust(
        **dict(left=0.17, right=0.975, top=1 - 0.4 / total, bottom=0.5 / total),
        **dict(hspace=0.45, wspace=0.1),
    )
    used = panels.flat[:count]
    for panel in panels.flat[count:]:
        panel.remove()
    lowest = [used[max(range(c, count, across))] for c in range(across)]
    for panel in lowest:
        panel.tick_params(axis="x", labelbottom=True)
    return drawn, used, list(panels[:, 0]), lowest


def rows(axis: Any, labels: list[str]) -> None:
    """Makes ``axis`` a list: label i at height i, the first on top."""
    axis.set_yticks(range(len(labels)), labels)
    axis.tick_params(axis="y", length=0, labelcolor=INK, labelsize=9)
    axis.set_ylim(len(labels) - 0.45, -0.55)
    axis.spines["left"].set_visible(False)


def beside(axis: Any, row: float, text: str) -> None:
    """Writes ``text`` right of the frame at height ``row``."""
    style = dict(va="center", fontsize=8.5, color=INK)
    axis.text(1.015, row, text, transform=axis.get_yaxis_transform(), **style)


def above(axis: Any, row: float, line: int, color: str, **sides: str) -> None:
    """Writes ``left`` and ``right`` on a line (0 or 1) over the marks of ``row``."""
    for side, text in sides.items():
        style = dict(ha=side, va="center", fontsize=8.5, color=color)
        style["transform"] = axis.get_yaxis_transform()
        axis.text(side == "right", row - 0.3 + 0.21 * line, text, **style)


def window(values: Any, goal: str) -> tuple[float, float]:
    """Limits that show the good three quarters of ``values`` and what lies near them.

    Source: the fence of Tukey 1977, wider: 2.5 times the good part's range beyond it.
    """
    signed = np.asarray(values, float) * (1 if goal == "min" else -1)
    best, usual, worst = np.quantile(signed, (0, 0.75, 1))
    worst = min(worst, usual + 2.5 * (usual - best))
    margin = 0.08 * (worst - best) or abs(best) * 0.05 or 1.0
    low, high = best - margin, worst + margin
    return (low, high) if goal == "min" else (-high, -low)


def legend(drawn: Any, axis: Any) -> None:
    """The axis' legend in rows above all panels; the figure grows by their height."""
    handles, labels = axis.get_legend_handles_labels()
    across = max(1, min(len(labels), int(68 / (max(map(len, labels)) + 7))))
    drawn.set_figheight(drawn.get_figheight() + 0.18 * -(-len(labels) // across))
    drawn.legend(
        *(handles, labels),
        **dict(loc="outside upper left", ncols=across, borderpad=0),
        **dict(handletextpad=0.5, columnspacing=1.6, borderaxespad=0.2),
    )
