"""Figures of a search: its budget, and the metric against each knob."""

import math
from typing import Any

from matplotlib.ticker import MaxNLocator

from experiments.report import canvas, tables
from experiments.report.canvas import ALARM, BAND, INK, PAPER
from experiments.report.numbers import decimals, fixed, plain
from experiments.report.search import summary


def draw(report: dict) -> list[tuple[str, Any]]:
    """Title and picture, each; none of a study without a search."""
    if not summary.arms(report):
        return []
    with canvas.styled():
        drawn = [("Best against trials", best(report))]
        for knob in report["search"]["knobs"]:
            drawn.append((f"Trials against {knob}", isolated(report, knob)))
    return [(title, picture) for title, picture in drawn if picture]


def best(report: dict) -> Any:
    """Best of so many trials, a line an arm."""
    figure = canvas.figure(2.5)
    axis, said, ends = figure.subplots(), [], []
    digits = tables.places(report)
    for arm, own in summary.arms(report).items():
        line = [(k, v) for k, v in enumerate(own["best"], 1) if v is not None]
        if not line:
            continue
        look = canvas.look(report, arm) | {"ms": 2.5}
        label = canvas.label(report, arm)
        axis.plot(*zip(*line, strict=True), lw=1.4, label=label, **look)
        ends += [value for _, value in line]
        both = (f"{fixed(v, digits).text} of {k}" for k, v in (line[0], line[-1]))
        said.append(f"{arm} {', '.join(both)}")
    if not ends:
        return None
    axis.set_ylim(canvas.window(ends, report["goal"]))
    axis.grid(axis="y", color=BAND, lw=0.8)
    axis.set_axisbelow(True)
    axis.set_xlabel("trials")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_ylabel(f"{canvas.name(report['metric'], 18)} ({tables.goal(report)})")
    canvas.legend(figure, axis)
    return canvas.picture(
        figure,
        f"Best {report['metric']} of so many trials: {'; '.join(said)}.",
        f"{summary.ORDER[report['search']['proposer']]} Where a line is flat, more "
        "trials would find little; where two cross, the better arm depends on the "
        "budget.",
    )


def isolated(report: dict, knob: str) -> Any:
    """Metric against one knob, whatever the others were: a panel an arm, a dot a trial.

    Source: isolation plots, Godbole et al. 2023, Deep Learning Tuning Playbook.
    """
    arms, space = summary.arms(report), report["search"]["knobs"][knob]
    trials = [trial for own in arms.values() for trial in own["trials"]]
    values = [t["value"] for t in trials if t["value"] is not None]
    if not values:
        return None
    levels = sorted({t["settings"][knob] for t in trials}, key=tables.rank)
    figure, panels, left, lowest = canvas.grid(len(arms), 1.45)
    bottom, top = canvas.window(values, report["goal"])
    digits, said = decimals([(top - bottom) / 10]), []
    for panel, (arm, own) in zip(panels, arms.items(), strict=True):
        color = canvas.look(report, arm)["color"]
        for trial in own["trials"]:
            at, value = trial["settings"][knob], trial["value"]
            x = levels.index(at) if space["scale"] == "choice" else at
            if value is None:
                worst = top if report["goal"] == "min" else bottom
                panel.plot(x, worst, "x", color=ALARM, ms=5, clip_on=False)
                continue
            face = color if trial["chosen"] else PAPER
            dot = dict(s=14, facecolor=face, edgecolor=color, lw=1, zorder=4)
            panel.scatter(x, value, **dot)
            if trial["chosen"]:
                said.append(f"{arm} best {fixed(value, digits).text} at {plain(at)}")
        edge = knob in own["edges"]
        title = canvas.label(report, arm, 20) + "\noptimum at the edge" * edge
        panel.set_title(title, color=ALARM if edge else INK)
        panel.grid(axis="y", color=BAND, lw=0.8)
        panel.set_axisbelow(True)
    panels[0].set_ylim(bottom, top)
    if space["scale"] == "choice":
        panels[0].set_xticks(range(len(levels)), map(plain, levels))
        panels[0].set_xlim(-0.5, len(levels) - 0.5)
    else:
        _span(panels, **space)
    for panel in left:
        panel.set_ylabel(canvas.name(report["metric"], 18))
    for panel in lowest:
        panel.set_xlabel(canvas.name(knob, 26))
    return canvas.picture(
        figure,
        f"{report['metric']} of each trial against {knob}: {'; '.join(said)}.",
        "One dot is one trial, its mean over the tuning seeds; the filled one was "
        "chosen, crosses diverged. What else is tuned varies from dot to dot. Values "
        "beyond the frame are cut off.",
    )


def _span(panels, scale, low, high, **_):
    """The whole range, so that what lies at an end is seen to lie there."""
    panels[0].set_xscale(scale)
    margin = 0.1
    if scale == "log":
        apart = (high / low) ** margin
        panels[0].set_xlim(low / apart, high * apart)
        ticks = low, math.sqrt(low * high), high
        panels[0].set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
        for panel in panels:
            panel.minorticks_off()
    else:
        apart = (high - low) * margin
        panels[0].set_xlim(low - apart, high + apart)
