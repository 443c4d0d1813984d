"""Figures of the paper: held-out loss against depth, and against the learning rate."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from experiments.report import canvas
from experiments.report.numbers import plain

LABELS = {
    ("post", "none"): "Post-LN, no warm-up",
    ("post", "warmup"): "Post-LN, warm-up",
    ("pre", "none"): "Pre-LN, no warm-up",
    ("pre", "warmup"): "Pre-LN, warm-up",
}
LOSS = "held-out nll [nats]"


def draw(numbers: Mapping[str, Any]) -> dict[str, str]:
    """Name of each figure -> SVG in either colour scheme."""
    drawn = {}
    with canvas.styled(canvas.ON_PAPER):
        for name, figure in (("depth", against_depth), ("rates", against_rates)):
            drawn[f"paper-{name}.svg"] = canvas.svg(figure(numbers), both=True)
    return drawn


def against_depth(numbers: Mapping[str, Any]) -> Figure:
    """Mean loss of each norm, with and without warm-up, with 95 % intervals."""
    figure = canvas.figure(2.9)
    axis = figure.subplots()
    for number, (norm, warmup) in enumerate(LABELS):
        arms = _arms(numbers, norm=norm, warmup=warmup)
        style = canvas.line(number)
        x = [arm["layers"] + 0.06 * (number - 1.5) for arm in arms]
        axis.vlines(x, *_ends(arms), color=style["color"], lw=1.4)
        means = [arm["mean"] for arm in arms]
        axis.plot(x, means, ms=4, lw=1.2, label=LABELS[norm, warmup], **style)
    axis.set_xticks(numbers["depths"])
    axis.set_xlabel("layers of encoder and of decoder")
    _of_loss(figure, axis)
    return figure


def against_rates(numbers: Mapping[str, Any]) -> Figure:
    """Loss of the tuning seed at each learning rate, of the deepest models."""
    figure = canvas.figure(2.9)
    axis = figure.subplots()
    deepest = max(numbers["depths"])
    for number, (norm, warmup) in enumerate(LABELS):
        (arm,) = _arms(numbers, norm=norm, warmup=warmup, layers=deepest)
        rates, values = zip(*arm["rates"], strict=True)
        style = canvas.line(number)
        axis.plot(rates, values, ms=4, lw=1.2, label=LABELS[norm, warmup], **style)
    axis.set_xscale("log")
    axis.minorticks_off()
    axis.set_xticks(rates, [*map(plain, rates)])
    axis.set_xlabel(f"peak learning rate, {deepest} layers")
    _of_loss(figure, axis)
    return figure


def _of_loss(figure, axis):
    """A legend, and losses of all sizes with labels that are only text."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_ylabel(LOSS)
    canvas.legend(figure, axis)


def _arms(numbers, **wanted):
    return [
        arm for arm in numbers["arms"] if all(arm[k] == v for k, v in wanted.items())
    ]


def _ends(arms):
    return [arm["low"] for arm in arms], [arm["high"] for arm in arms]
