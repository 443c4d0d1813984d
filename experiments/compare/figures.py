"""Figures: curves of several runs, over one another."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from experiments.compare import contrasts
from experiments.compare.grid import number
from experiments.compare.workdirs import Workdir
from experiments.report import canvas
from experiments.report.canvas import ALARM, BAND
from experiments.report.curves import POINTS, SKIPPED
from tfm_jax.api import score_goals

LOSS = ("train", "loss")
LAST = [("train", "grad_norm"), ("train", "learning_rate")]
MOST = 10  # figures
FEW = 6  # runs whose names stand in every figure, and not in that of the loss alone
HUGE = 1e100  # a value beyond it is drawn there; margins of axes overflow
MARKED = 30  # points of a line whose points are marked, at most
WIDE = 2.0  # largest by smallest value from which on an axis is logarithmic
TICKS = {  # largest by smallest value, at most -> multiples of powers of ten
    10: (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    100: (1.0, 2.0, 5.0),
    math.inf: (1.0,),
}
MINIMISED = (
    "The loss that is minimised, of one batch, and of many batches the mean. With "
    "other label smoothing, or for another task, it is another loss."
)
CROSS = "A cross: there it diverged, and values beyond the frame are cut off."


def draw(runs: Sequence[Workdir]) -> dict[str, canvas.Picture]:
    """Title -> figure: the loss, scores of held-out data, then gradients and rates."""
    goals, keys = score_goals(), contrasts.logged(runs)
    names = [canvas.name(label, 64) for label in contrasts.labels(runs)]
    valid = [key for key in keys if key[0] == "valid" and key[1] in goals]
    chosen = [key for key in (LOSS, *valid, *LAST) if key in keys][:MOST]
    with canvas.styled():
        return {
            " ".join(key): _curves(runs, names, key, goals.get(key[1], min))
            for key in chosen
        }


def _curves(runs, names, key, goal):
    figure = canvas.figure(2.6)
    axis, said = figure.subplots(), []
    lines = {
        place: _binned(r.lines[key]) for place, r in enumerate(runs) if key in r.lines
    }
    few = max(map(len, lines.values())) <= MARKED
    for place, line in lines.items():
        run, look = runs[place], canvas.line(place) | {"zorder": 2 + (not place)}
        look |= {"markersize": 3} if few else {"marker": ""}
        axis.plot(*line.T, lw=1.4, label=names[place], **look)
        if run.status == "diverged":
            axis.plot(*line[-1], "x", color=ALARM, ms=7, mew=2, zorder=5)
        step, value = run.lines[key][-1]
        said.append(f"{names[place]} {number(value)} at step {step:.0f}")
    calm = [line for place, line in lines.items() if runs[place].status != "diverged"]
    _scale(axis, calm or [*lines.values()], goal, whole=key in LAST)
    axis.grid(axis="y", color=BAND, lw=0.8)
    axis.set_xlabel("step")
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if key == LOSS or len(runs) <= FEW:
        canvas.legend(figure, axis)
    caption = [MINIMISED] * (key == LOSS) + [CROSS] * (len(calm) < len(lines))
    alt = f"{' '.join(key)}: {'; '.join(said)}."
    return canvas.picture(figure, alt, " ".join(caption))


def _binned(line):
    """At most ``POINTS`` means of neighbours."""
    parts = np.array_split(line, min(len(line), POINTS))
    return np.array([part.clip(-HUGE, HUGE).mean(0) for part in parts])


def _scale(axis, lines, goal, *, whole):
    """A logarithmic axis where values span much, else without what is far off.

    Args: whole: nothing is far off.
    """
    values = np.concatenate(lines)[:, 1]
    low, high = values.min(), values.max()
    if goal is min and low > 1 / HUGE and high > WIDE * low:
        axis.set_yscale("log")
        subs = next(subs for most, subs in TICKS.items() if high <= most * low)
        axis.yaxis.set_major_locator(LogLocator(subs=subs))
        axis.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.set_ylim(low / 1.05, high * 1.05)
    elif not whole:
        last = max(line[-1, 0] for line in lines)
        late = [line[line[:, 0] >= SKIPPED * last] for line in lines]
        late = np.concatenate(late)[:, 1]
        axis.set_ylim(canvas.window(late, "min" if goal is min else "max"))
