"""Learning curves: the metric while training, and its paired difference."""

from typing import Any

import numpy as np
from scipy import stats

from experiments.report import canvas, tables
from experiments.report.canvas import BAND, INK

SKIPPED = 0.2  # share of training, from its start, that does not set the limits
POINTS = 240  # drawn for one line, at most
UNLIKE = 1.25  # ratio of times for a step, from which on lines are drawn against time
AGAINST = {
    "step": "",
    "second": " Time is that of an arm's runs on average, compiling and scoring "
    "included, and the same for each step: it is of this machine, and of all that it "
    "did besides.",
}


def _lines(report):
    """{arm: {seed: [P, 2] steps and values}}, arms in the report's order."""
    lines = {}
    for arm in report["arms"]:
        seeds = report["curves"].get(arm["name"], {})
        kept = {
            seed: np.asarray([p for p in points if p[1] is not None], float)
            for seed, points in sorted(seeds.items())
        }
        kept = {seed: points for seed, points in kept.items() if len(points)}
        if kept:
            lines[arm["name"]] = kept
    return lines


def _matched(*lines):
    """Steps [P] that all of ``lines`` hold, and their values there, a row a line."""
    steps = lines[0][:, 0]
    for line in lines[1:]:
        steps = np.intersect1d(steps, line[:, 0])
    steps = steps[:: max(1, -(-len(steps) // POINTS))]
    rows = [dict(line) for line in lines]  # the last value of a step that came twice
    return steps, np.array([[row[s] for s in steps] for row in rows])


def _whole(lines, lost=()):
    """Those that reach the last step of any, none that diverged: a mean of one set.

    Args: lines: {seed: line}. lost: seeds that diverged.
    """
    kept = [line for seed, line in lines.items() if seed not in lost]
    last = max((line[-1, 0] for line in kept), default=0)
    return [line for line in kept if line[-1, 0] == last]


def _of(kept, seeds):
    """Of how many of an arm's runs a mean is, if not of all."""
    return "" if len(kept) == len(seeds) else f", {len(kept)} of {len(seeds)} runs"


def _diverged(report):
    return {
        arm["name"]: {seed for seed, value in arm["values"].items() if value is None}
        for arm in report["arms"]
    }


def _late(lines):
    last = max(line[-1, 0] for line in lines)
    late = [line[line[:, 0] >= SKIPPED * last] for line in lines]
    return np.concatenate(late)[:, 1]


def values(report: dict) -> Any:
    """Every run thin, the mean of each arm over its common steps thick."""
    return _values(report, dict.fromkeys(_lines(report), 1.0), "step")


def against_time(report: dict) -> Any:
    """The same at equal time; None where arms take equal time for a step."""
    lines, seconds = _lines(report), {a["name"]: a["seconds"] for a in report["arms"]}
    lines = {arm: [*seeds.values()] for arm, seeds in lines.items() if seconds[arm]}
    each = {
        arm: seconds[arm] / max(line[-1, 0] for line in own)
        for arm, own in lines.items()
    }
    if not each or max(each.values()) < UNLIKE * min(each.values()):
        return None
    return _values(report, each, "second")


def _values(report, each, unit):
    """Args: each: arm -> units of a step; other arms are not drawn."""
    lines = {arm: seeds for arm, seeds in _lines(report).items() if arm in each}
    if not lines:
        return None
    figure = canvas.figure(2.7)
    axis, means, lost = figure.subplots(), [], _diverged(report)
    for arm in lines:
        look = canvas.look(report, arm) | {"marker": ""}
        look["zorder"] = 3 if arm == report["baseline"] else 2
        for line in lines[arm].values():
            thin = _matched(line)
            axis.plot(each[arm] * thin[0], thin[1][0], lw=0.6, alpha=0.45, **look)
        ended = _whole(lines[arm], lost[arm])
        few = _of(ended, lines[arm])
        steps, matched = _matched(*ended) if ended else ([], np.empty((1, 0)))
        mean = matched.mean(0)
        steps = each[arm] * np.asarray(steps)
        axis.plot(steps, mean, lw=2, label=canvas.label(report, arm) + few, **look)
        if len(steps):
            digits = tables.places(report)
            means.append(f"{arm} {mean[-1]:.{digits}f} at {unit} {steps[-1]:.0f}{few}")
        elif few:
            means.append(arm + few)
    late = _late([line for seeds in lines.values() for line in seeds.values()])
    axis.set_ylim(canvas.window(late, report["goal"]))
    axis.grid(axis="y", color=BAND, lw=0.8)
    axis.set_xlabel(unit)
    axis.set_ylabel(f"{canvas.name(report['metric'], 18)} ({tables.goal(report)})")
    canvas.legend(figure, axis)
    return canvas.picture(
        figure,
        f"Learning curves of {report['metric']}, means: {'; '.join(means)}.",
        "Thin: one run. Thick: the mean of an arm's runs that reached the last step; "
        "the legend says of how many, if not of all. "
        "Early and diverged values beyond the frame are cut off." + AGAINST[unit],
    )


def differences(report: dict) -> Any:
    """Paired difference to the baseline against steps, a panel an arm."""
    lines = _lines(report)
    base = lines.get(report["baseline"], {})
    pairs = {
        arm: {
            seed: _matched(line, base[seed])
            for seed, line in seeds.items()
            if seed in base
        }
        for arm, seeds in lines.items()
        if arm != report["baseline"]
    }
    pairs = {
        arm: kept
        for arm, kept in pairs.items()
        if any(len(steps) for steps, _ in kept.values())
    }
    if not pairs:
        return None
    figure, panels, left, lowest = canvas.grid(len(pairs), 1.45)
    late, means, lost = [], [], _diverged(report)
    for panel, (arm, kept) in zip(panels, pairs.items(), strict=True):
        look = canvas.look(report, arm) | {"marker": "", "linestyle": "-"}
        apart = {
            seed: np.stack([steps, own - other], 1)
            for seed, (steps, (own, other)) in kept.items()
            if len(steps)
        }
        for line in apart.values():
            panel.plot(*line.T, lw=0.6, alpha=0.5, **look)
        late.append(_late([*apart.values()]))
        seeds = _whole(apart, lost[arm] | lost[report["baseline"]])
        few = _of(seeds, lines[arm])
        steps, apart = _matched(*seeds) if seeds else ([], np.empty((1, 0)))
        mean = apart.mean(0)
        panel.plot(steps, mean, lw=1.8, **look)
        if len(seeds) >= 3:
            half = stats.t.ppf(0.975, len(seeds) - 1) * stats.sem(apart, axis=0)
            shade = dict(color=look["color"], alpha=0.18, lw=0)
            panel.fill_between(steps, mean - half, mean + half, **shade)
        panel.axhline(0, color=INK, lw=0.9)
        panel.grid(axis="y", color=BAND, lw=0.8)
        panel.set_axisbelow(True)
        panel.set_title(canvas.label(report, arm, 20) + few.replace(", ", "\n"))
        if len(steps):
            digits = tables.places(report)
            means.append(f"{arm} {mean[-1]:+.{digits}f} at step {steps[-1]:.0f}{few}")
        elif few:
            means.append(arm + few)
    low, high = np.quantile(np.concatenate(late), [0.04, 0.96])
    low, high = min(low, 0.0), max(high, 0.0)
    margin = 0.12 * (high - low) or 1.0
    panels[0].set_ylim(low - margin, high + margin)
    for panel in left:
        panel.set_ylabel("arm − baseline")
    for panel in lowest:
        panel.set_xlabel("step")
    baseline = canvas.label(report, report["baseline"])
    return canvas.picture(
        figure,
        f"Paired difference of {report['metric']} to {report['baseline']}, means: "
        f"{'; '.join(means)}.",
        f"Arm minus {baseline}, seed by seed (thin) and on "
        f"average (thick); {tables.good_sign(report)}. Shaded: 95 % interval, "
        "pointwise. It holds for one step fixed beforehand and says nothing about "
        "where lines cross.",
    )
