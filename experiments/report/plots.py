"""The figures of the report, each None when the runs cannot fill it."""

from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from experiments.report import canvas, curves, tables
from experiments.report.canvas import ACCENT, ALARM, BAND, FAINT, INK, PAPER, SOFT
from experiments.report.numbers import decimals, fixed, plain, quantity


def draw(report: dict) -> dict:
    """All figures: {name: ``Picture`` or None} in the order of the page."""
    drawings = {
        "differences": differences,
        "curves": curves.values,
        "curves_against_time": curves.against_time,
        "curve_differences": curves.differences,
        "rates": rates,
        "divergence": divergence,
        "cost": cost,
    }
    with canvas.styled():
        return {key: drawing(report) for key, drawing in drawings.items()}


def differences(report: dict) -> Any:
    """Paired differences: a dot a seed, mean, both intervals, noise and sesoi bands."""
    arms = [arm for arm in report["arms"] if (arm["difference"] or {}).get("n")]
    if not arms:
        return None
    base = next(a for a in report["arms"] if a["name"] == report["baseline"])
    figure = canvas.figure(0.6 + 0.66 * len(arms))
    axis = figure.subplots()
    digits, said = tables.places(report), []
    for row, arm in enumerate(arms):
        _bands(axis, report, row)
        d = arm["difference"]
        seeds = [
            value - base["values"][seed]
            for seed, value in sorted(arm["values"].items())
            if value is not None and base["values"].get(seed) is not None
        ]
        color = {"better": ACCENT, "worse": ALARM}.get(arm["word"], SOFT)
        _interval(axis, row + 0.14, d["low_holm"], d["high_holm"], color, 1.0)
        _interval(axis, row + 0.14, d["low"], d["high"], color, 2.8)
        dots = dict(s=13, color=PAPER, edgecolor=SOFT, lw=0.9, zorder=4)
        axis.scatter(seeds, [row + 0.33] * len(seeds), **dots)
        if d["mean"] is None:
            continue
        axis.plot(d["mean"], row + 0.14, "D", color=color, ms=6, mec=PAPER, zorder=4)
        text = fixed(d["mean"], digits, sign=True).text
        if d["low_holm"] is not None:
            ends = (d[end] for end in ("low_holm", "high_holm"))
            ends = (fixed(end, digits, sign=True).text for end in ends)
            text += " [{}, {}]".format(*ends)
        lost = arm["diverged"]["count"]
        word = arm["word"] + (f", {lost} diverged" if lost else "")
        if d["n"] < len(arm["values"]):
            word += f", {d['n']} of {len(arm['values'])} pairs"
        said.append(f"{arm['name']} {text}, {word}")
        label = canvas.label(report, arm["name"], 30)
        canvas.above(axis, row, 0, INK, left=label, right=text)
        canvas.above(axis, row, 1, color, left=word)
    canvas.rows(axis, [""] * len(arms))
    axis.xaxis.set_major_locator(MaxNLocator(6))  # labels of more may touch
    baseline = canvas.label(report, report["baseline"])
    axis.set_xlabel(
        f"{canvas.name(report['metric'], 30)}: arm − {baseline}"
        f"\n({tables.good_sign(report)})"
    )
    return canvas.picture(
        figure,
        f"Differences to {report['baseline']} in {report['metric']}, mean and 95 % "
        f"interval: {'; '.join(said) or 'no pair'}.",
        "One circle is one seed: the arm minus the baseline of the same seed. The "
        "diamond is their mean, the thick line its 95 % paired t interval, the thin "
        "line that interval adjusted where several arms are tried (Holm). "
        + _bands_said(report),
    )


def _interval(axis, row, low, high, color, width):
    if low is not None and high is not None:
        axis.plot([low, high], [row, row], color=color, lw=width, zorder=3)


def _bands(axis, report, row):
    sesoi, noise = report["sesoi"], report["noise"]["other_seeds"]
    ends = (row + 0.02, row + 0.44)
    if sesoi:
        axis.fill_betweenx(ends, -sesoi, sesoi, color=BAND, lw=0, zorder=0)
        axis.vlines((-sesoi, sesoi), *ends, color=FAINT, lw=0.9, ls=(0, (3, 2)))
    if noise and noise["low"] is not None:
        box = dict(facecolor="none", edgecolor=FAINT, hatch="////", lw=0, zorder=0.4)
        axis.fill_betweenx(ends, noise["low"], noise["high"], **box)
    axis.vlines(0, *ends, color=INK, lw=0.9, zorder=1)


def _bands_said(report):
    noise, said = report["noise"]["other_seeds"], ""
    if report["sesoi"]:
        said += f"Grey: smaller than the effect of interest, ±{report['sesoi']:g}. "
    if noise and noise["low"] is not None:
        said += "Hatched: noise floor, the baseline against itself with other seeds."
    return said.strip()


def rates(report: dict) -> Any:
    """Metric against the tuned setting, a panel an arm, a dot a tuning seed."""
    key = tables.tuned_setting(report)
    if key is None or report["search"]:
        return None
    trials = [t for t in report["tuning"] if key in t["settings"]]
    names = list(dict.fromkeys(t["arm"] for t in trials))
    levels = sorted({t["settings"][key] for t in trials})
    finished = [t["value"] for t in trials if t["value"] is not None]
    if not finished:
        return None
    figure, panels, left, lowest = canvas.grid(len(names), 1.45)
    bottom, top = canvas.window(finished, report["goal"])
    digits, said = decimals([(top - bottom) / 10]), []
    for panel, arm in zip(panels, names, strict=True):
        color = canvas.look(report, arm)["color"]
        own = [t for t in trials if t["arm"] == arm]
        means = {
            level: np.mean([t["value"] for t in tried])
            for level in levels
            if (tried := _at(own, key, level)) and all(map(_finished, tried))
        }
        panel.plot(list(means), list(means.values()), color=color, lw=1.4)
        points = [(t["settings"][key], t["value"]) for t in own if _finished(t)]
        faces = [color if t["chosen"] else PAPER for t in own if _finished(t)]
        dots = dict(s=14, facecolor=faces, edgecolor=color, lw=1, zorder=4)
        panel.scatter(*zip(*points, strict=True), **dots) if points else None
        lost = [t["settings"][key] for t in own if not _finished(t)]
        worst = top if report["goal"] == "min" else bottom
        panel.plot(lost, [worst] * len(lost), "x", color=ALARM, ms=5, clip_on=False)
        chosen = next((t for t in own if t["chosen"]), None)
        edge = chosen is not None and chosen["edge"]
        title = canvas.label(report, arm, 20) + (
            "\noptimum at the edge" if edge else ""
        )
        panel.set_title(title, color=ALARM if edge else INK)
        if chosen is not None:
            best = means.get(chosen["settings"][key])
            shown = fixed(best, digits).text if best is not None else "with lost seeds"
            warning = " at the edge" if edge else ""
            said.append(f"{arm} best {shown} at {chosen['settings'][key]:g}{warning}")
    panels[0].set_ylim(bottom, top)
    if levels[0] > 0 and levels[-1] / levels[0] > 4:
        panels[0].set_xscale("log")
    for panel in panels:
        panel.grid(axis="y", color=BAND, lw=0.8)
        panel.set_axisbelow(True)
        panel.minorticks_off()
        panel.margins(x=0.14)
    apart = -(-len(levels) // 4)  # labels of more would touch
    labels = ["" if i % apart else plain(level) for i, level in enumerate(levels)]
    panels[0].set_xticks(levels, labels)
    _label(left, lowest, report, canvas.name(key, 26))
    return canvas.picture(
        figure,
        f"{report['metric']} for each {key}: {'; '.join(said) or 'none chosen'}.",
        "One dot is one tuning seed, the line their mean where none diverged, filled "
        "dots the chosen value, crosses runs that diverged. A flat valley means that "
        "the comparison hardly depends on tuning. Values beyond the frame are cut off.",
    )


def _at(trials, key, level):
    return [trial for trial in trials if trial["settings"][key] == level]


def _finished(trial):
    return trial["value"] is not None


def _label(left, lowest, report, xlabel):
    for panel in left:
        panel.set_ylabel(canvas.name(report["metric"], 18))
    for panel in lowest:
        panel.set_xlabel(xlabel)


def divergence(report: dict) -> Any:
    """Share of diverged runs with its Clopper-Pearson interval."""
    arms = [arm for arm in report["arms"] if arm["diverged"]["n"]]
    if not any(arm["diverged"]["count"] for arm in arms):
        return None
    figure = canvas.figure(0.85 + 0.3 * len(arms))
    axis, said = figure.subplots(), []
    for row, arm in enumerate(arms):
        lost = arm["diverged"]
        share = lost["count"] / lost["n"]
        axis.barh(row, share, height=0.56, color=ALARM, lw=0)
        axis.plot([lost["low"], lost["high"]], [row, row], color=INK, lw=1.2)
        canvas.beside(axis, row, f"{lost['count']} of {lost['n']}")
        said.append(f"{arm['name']} {lost['count']} of {lost['n']}")
    canvas.rows(axis, [canvas.label(report, arm["name"]) for arm in arms])
    axis.set_xlim(0, 1)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axis.set_xlabel("runs that diverged")
    return canvas.picture(
        figure,
        f"Diverged runs: {'; '.join(said)}.",
        "Bar: share of runs that diverged. Line: 95 % Clopper-Pearson interval.",
    )


COSTS = {  # field of an arm -> its axis
    "flops_per_step": "FLOPs per step",
    "seconds": "wall clock, seconds",
}


def cost(report: dict) -> Any:
    """Metric against FLOPs per step and against time, a panel each."""
    arms = [arm for arm in report["arms"] if arm["mean"] is not None]
    if len(arms) < 2:
        return None
    fields = [field for field in COSTS if any(arm[field] for arm in arms)]
    if not fields:
        return None
    figure = canvas.figure(2.5)
    panels = figure.subplots(1, len(fields), sharey=True, squeeze=False)[0]
    digits, said = tables.places(report), []
    for panel, field in zip(panels, fields, strict=True):
        for arm in (arm for arm in arms if arm[field]):
            look = canvas.look(report, arm["name"])
            del look["linestyle"]
            kept = [value for value in arm["values"].values() if value is not None]
            panel.scatter([arm[field]] * len(kept), kept, s=5, alpha=0.45, lw=0, **look)
            look |= dict(s=42, edgecolor=PAPER, lw=0.8, zorder=4)
            label = canvas.label(report, arm["name"])
            panel.scatter(arm[field], arm["mean"], label=label, **look)
        panel.margins(x=0.12)
        panel.grid(color=BAND, lw=0.8)
        panel.set_axisbelow(True)
        panel.set_xlabel(COSTS[field])
        panel.xaxis.set_major_locator(MaxNLocator(3))
        panel.xaxis.set_major_formatter(lambda x, _: quantity(x).text)
    panels[0].set_ylabel(f"{canvas.name(report['metric'], 18)} ({tables.goal(report)})")
    canvas.legend(figure, panels[0])
    for arm in arms:
        costs = (f"{arm[f]:.3g} {COSTS[f]}" for f in fields if arm[f])
        mean = fixed(arm["mean"], digits).text
        said.append(f"{arm['name']} {mean} at {' and '.join(costs)}")
    return canvas.picture(
        figure,
        f"{report['metric']} against cost: {'; '.join(said)}.",
        "Large mark: mean of an arm; small marks: its seeds. Runs are matched by "
        f"{report['match']}; what lies apart here was not matched.",
    )
