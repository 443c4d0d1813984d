"""Curves that runs measured: figures on logarithmic axes, and a table of slopes."""

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from experiments.report import canvas
from experiments.report.canvas import BAND
from experiments.report.numbers import decimals, fixed
from experiments.report.tables import TOO_FEW


def slopes(report: dict) -> list[dict]:
    """A row for each curve that has slopes: ``title``, and a cell for each arm."""
    curves = [curve for curve in report["measured"] if curve["slope"]]
    spreads = [own["sd"] for curve in curves for own in curve["slopes"].values()]
    digits = min(decimals(spreads), 3)
    return [
        {
            "title": _title(curve, ": "),
            "cells": [_cell(curve, arm["name"], digits) for arm in report["arms"]],
        }
        for curve in curves
    ]


def _cell(curve, arm, digits):
    own = curve["slopes"].get(arm, {})
    ends = {k: fixed(own.get(k), digits, TOO_FEW) for k in ("low", "high")}
    mean = fixed(own.get("mean"), digits, "no finished run")
    return {"arm": arm, "mean": mean} | ends


def figures(report: dict) -> list:
    """(title, ``Picture``) for each quantity that curves are drawn against."""
    drawn = [curve for curve in report["measured"] if curve["arms"]]
    with canvas.styled():
        return [
            (f"Against {x}", _figure(report, x, [c for c in drawn if c["x"] == x]))
            for x in dict.fromkeys(curve["x"] for curve in drawn)
        ]


def _figure(report, x, curves):
    down = -(-len(curves) // 2)
    figure = canvas.figure(0.5 + 1.6 * down)
    panels = list(figure.subplots(down, 2, sharex=True, squeeze=False).flat)
    for panel, curve in zip(panels, curves, strict=False):
        _panel(panel, report, curve)
    for panel in panels[len(curves) :]:
        panel.remove()
    figure.supxlabel(x, fontsize=9, color=canvas.SOFT)
    canvas.legend(figure, panels[0])
    return canvas.picture(
        figure,
        "; ".join(_said(curve) for curve in curves) + ".",
        "Both axes are logarithmic: a straight line is a power, and its slope the "
        "exponent: beside it half its 95 % interval. Small marks: a run. Line: the "
        "mean of an arm's runs; it ends where all that follows is exactly 0.",
    )


def _panel(panel, report, curve):
    for arm, seeds in curve["arms"].items():
        look = canvas.look(report, arm)
        rows = [dict(map(tuple, each)) for each in seeds.values()]
        xs = sorted(set.intersection(*(set(row) for row in rows)))
        values = np.array([[row[x] for x in xs] for row in rows])
        values = np.where(values > 0, values, np.nan)
        means = values.mean(0)
        dots = dict(marker=look["marker"], color=look["color"], ms=2, lw=0, alpha=0.4)
        for row in values:
            panel.plot(xs, row, **dots)
        panel.plot(
            xs, means, label=canvas.label(report, arm), lw=1.4, **look | {"ms": 3}
        )
    panel.set(xscale="log", yscale="log")
    _write_slopes(panel, report, curve)
    panel.set_title(_title(curve, "\n"))
    panel.grid(color=BAND, lw=0.8)
    panel.set_axisbelow(True)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_locator(LogLocator(numticks=5))
        axis.set_major_formatter(lambda value, _: f"{value:g}")


def _write_slopes(panel, report, curve):
    """Below the lines, the first arm on top; with half of each interval."""
    known = [(arm, curve["slopes"].get(arm, {})) for arm in curve["arms"]]
    known = [(arm, own) for arm, own in known if own.get("low") is not None]
    low, high = panel.get_ylim()
    panel.set_ylim(low * (low / high) ** (0.2 * len(known)), high)
    for row, (arm, own) in enumerate(reversed(known)):
        style = dict(ha="right", fontsize=7.5, color=canvas.look(report, arm)["color"])
        text = f"{own['mean']:.2f} ± {own['high'] - own['mean']:.2f}"
        place = 0.97, 0.04 + 0.12 * row
        panel.text(*place, text, transform=panel.transAxes, **style)


def _title(curve, between):
    return f"{curve['of']}{between}{curve['y']}"


def _said(curve):
    """The last value of each arm, and its slope."""
    parts = []
    for arm, seeds in curve["arms"].items():
        last = max(max(points) for points in seeds.values())
        ends = [y for points in seeds.values() for x, y in points if x == last[0]]
        text = f"{arm} {np.mean(ends):.3g} at {last[0]:g}"
        mean = curve["slopes"].get(arm, {}).get("mean") if curve["slope"] else None
        parts.append(text + (f", slope {mean:.2f}" if mean is not None else ""))
    return f"{_title(curve, ': ')}: {', '.join(parts)}"
