"""Figures of the paper: held-out loss against depth, and against the learning rate."""

import itertools
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from experiments.paper.numbers import DEPTHS, NONE, NORMS, WARM, find
from experiments.report import canvas
from experiments.report.numbers import plain

TITLES = {"post": "Post-LN", "pre": "Pre-LN", NONE: "no warm-up", WARM: "warm-up"}
LINES = [*itertools.product(NORMS, (NONE, WARM))]
LOSS = "held-out nll [nats]"


def draw(numbers: Mapping[str, Any]) -> dict[str, str]:
    """Name of each figure -> SVG in either colour scheme."""
    drawn = {}
    with canvas.styled():
        for name, figure in (("depth", against_depth), ("rates", against_rates)):
            drawn[f"paper-{name}.svg"] = canvas.svg(figure(numbers), both=True)
    return drawn


def against_depth(numbers: Mapping[str, Any]) -> Figure:
    """Mean loss of each norm, with and without warm-up, with 95 % intervals."""
    figure = canvas.figure(2.9)
    axis = figure.subplots()
    for number, (norm, warmup) in enumerate(LINES):
        arms = find(numbers["arms"], norm=norm, warmup=warmup)
        means = [arm["mean"] for arm in arms]
        ends = [
            [abs(arm[end] - arm["mean"]) for arm in arms] for end in ("low", "high")
        ]
        axis.errorbar(
            [arm["layers"] + 0.06 * (number - 1.5) for arm in arms],
            means,
            ends,
            ms=4,
            lw=1.2,
            label=_label(norm, warmup),
            **canvas.line(number),
        )
    axis.set_xticks(DEPTHS)
    axis.set_xlabel("layers of encoder and of decoder")
    _of_loss(figure, axis)
    return figure


def against_rates(numbers: Mapping[str, Any]) -> Figure:
    """Loss of the tuning seed at each learning rate, of the deepest models."""
    figure = canvas.figure(2.9)
    axis = figure.subplots()
    for number, (norm, warmup) in enumerate(LINES):
        (arm,) = find(numbers["arms"], norm=norm, warmup=warmup, layers=DEPTHS[-1])
        rates, values = zip(*arm["rates"], strict=True)
        style = canvas.line(number)
        axis.plot(rates, values, ms=4, lw=1.2, label=_label(norm, warmup), **style)
    axis.set_xscale("log")
    axis.minorticks_off()
    axis.set_xticks(rates, [*map(plain, rates)])
    axis.set_xlabel(f"peak learning rate, {DEPTHS[-1]} layers")
    _of_loss(figure, axis)
    return figure


def _label(norm, warmup):
    return f"{TITLES[norm]}, {TITLES[warmup]}"


def _of_loss(figure, axis):
    """A legend, and losses of all sizes with labels that are only text."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_ylabel(LOSS)
    canvas.legend(figure, axis)
