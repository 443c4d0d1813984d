"""Forest plot: every published finding, as it came out here and as it was published."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from experiments.overview.entries import (
    OPEN,
    PUBLISHED,
    answered_by,
    answering,
    grouped,
    name_of,
)
from experiments.overview.words import Words
from experiments.report import canvas
from experiments.report.canvas import ACCENT, ALARM, BAND, FAINT, INK, PAPER, SOFT
from experiments.statistics.findings import NOT_REPRODUCED, REPRODUCED
from experiments.study import parts

WIDTH, ROW = 900, 17.5  # CSS pixels
COLUMNS = (0.008, 0.222, 0.53, 0.825, 0.84)  # study, finding, frame, its end, word
FURTHEST = 100.0  # of the axis, in units of the smallest effect of interest
DIAMOND = dict(ms=5, mec=PAPER, mew=0.6)
HOLLOW = dict(mfc="none", mec=INK, mew=1.1, ms=6.5)
COLORS = {REPRODUCED: ACCENT, NOT_REPRODUCED: ALARM}  # the others are grey


class Heading(NamedTuple):
    """A question, and how many of the findings under it were reproduced."""

    text: str
    word: str


class Row(NamedTuple):
    """One effect, signed so that right is as published.

    Attributes:
        study, text: labels. color, word: of the verdict. effect: (low, mean, high) in
            units of the smallest effect of interest, if there is one. target: where the
            interval lies if it is as published. reported: the published effect.
        own_unit: nobody has said what is of interest; its interval is +-1 wide.
    """

    study: str
    text: str
    color: str
    word: str
    effect: tuple[float, float, float]
    target: tuple[float, float] | None
    reported: float | None
    own_unit: bool


def rows(entry: Mapping, words: Words) -> list[Row]:
    """All effects of what an entry's source has published, or of an open question."""
    expectations, listed = entry["expectations"], []
    published = [e for e in expectations if e["claim"] == PUBLISHED]
    opened = [e for e in expectations if e["claim"] == OPEN]
    texts = defaultdict(list)  # of a finding -> metrics
    for expected in published:
        texts[expected["text"]].append(expected["metric"])
    for expected in published or opened:
        for number, effect in enumerate(expected["effects"]):
            arms = text = effect["of"].replace(" minus ", " − ")
            if len(expected["effects"]) == 1:
                text = expected["text"] or text
            elif not number:
                text = f"{expected['text']}: {text}"
            metrics = texts[expected["text"]]
            if len(metrics) > 1:  # the same is said of several scores, or arms
                alike = metrics.count(expected["metric"]) > 1
                score = parts(expected["metric"])[0].partition("/")[2]
                text += f": {arms}" if alike else f", {score}"
            color, word = _verdict(effect["verdict"], expected, entry, words)
            if answered_by(entry):  # another one answers
                color, word = SOFT, f"({word})"
            listed.append(
                Row(
                    study="" if listed else name_of(entry),
                    text=canvas.name(text, 52),
                    color=color,
                    word=word,
                    **_scaled(expected, effect),
                )
            )
    return listed


def _verdict(verdict, expected, entry, words):
    """Colour and word of one effect."""
    if expected["claim"] != PUBLISHED:
        return SOFT, words.verdicts[entry["verdict"]][0].lower()
    if verdict == REPRODUCED and (blocked := words.blocked(entry)):
        return SOFT, blocked
    return COLORS.get(verdict, SOFT), words.short[verdict]


def _scaled(expected, effect):
    """Of ``Row``: effect, target, reported and own_unit."""
    half = (effect["high"] - effect["low"]) / 2
    unit, centre, sign = expected["sesoi"] or half or 1.0, 0.0, 1
    own_unit, target = not expected["sesoi"], (0.0, FURTHEST)
    low, high = expected.get("bounds", (0.0, 0.0))
    if expected["claim"] == OPEN:
        target = None
    elif expected["kind"] in ("equivalent", "steady"):
        target = (-1.0, 1.0)
    elif expected["kind"] != "within":
        sign = -1 if expected["goal"] == "min" else 1
    elif low >= 0 and len(parts(expected["metric"])) == 2:  # a difference of scores
        target = (low / unit, high / unit)
    else:  # a level: its range is from -1 to 1, or from 0 to 1 if it begins at 0
        centre = (low + high) / 2 if low else 0.0
        unit, own_unit = (high - centre) or 1.0, False
        target = (-1.0 if low else 0.0, 1.0)
    ends = sorted(sign * (effect[end] - centre) / unit for end in ("low", "high"))
    reported = effect.get("reported")
    return {
        "effect": (ends[0], sign * (effect["mean"] - centre) / unit, ends[1]),
        "target": target,
        "reported": None if reported is None else sign * (reported - centre) / unit,
        "own_unit": own_unit,
    }


def draw(entries: Sequence[Mapping], words: Words) -> str:
    """SVG of all studies that compare something, in either colour scheme."""
    listed: list[Heading | Row] = []
    for number, studies in grouped(entries):
        under = [row for entry in studies for row in rows(entry, words)]
        good, of = reproduced(answering(studies), words)
        told = words.reproduced.format(good, of) if of else ""
        listed += [Heading(words.question(number), told), *under]
    with canvas.styled():
        return canvas.svg(_figure(listed, words), both=True)


def reproduced(entries: Iterable[Mapping], words: Words) -> tuple[int, int]:
    """How many effects are as published, and of how many; each result counts its own.

    Args: entries: all, or those that answer.
    """
    good = [
        effect["verdict"] == REPRODUCED and not words.blocked(entry)
        for entry in entries
        for expected in entry["expectations"]
        if expected["claim"] == PUBLISHED
        for effect in expected["effects"]
    ]
    return sum(good), len(good)


def _figure(listed, words):
    heights = [1.6 if isinstance(each, Heading) else 1.0 for each in listed]
    total = sum(heights)
    height = ROW * (total + 7.4)
    figure = Figure(figsize=(WIDTH / 96, height / 96))
    left, right = COLUMNS[2:4]
    bottom, top = 3.2 * ROW / height, 1 - 4.2 * ROW / height
    axis = figure.add_axes((left, bottom, right - left, top - bottom))
    _axis(axis, total, words)
    across = blended_transform_factory(figure.transFigure, axis.transData)

    def write(column, at, text, **style):
        style = dict(va="center", fontsize=8.5, color=INK) | style
        axis.text(COLUMNS[column], at, text, transform=across, **style)

    ends = itertools.accumulate(heights)
    for each, end in zip(listed, ends, strict=True):
        at = end - 0.5
        write(4, at, each.word, color=getattr(each, "color", SOFT))
        if isinstance(each, Heading):
            write(0, at, each.text, fontweight="bold", fontsize=9.5)
            line = dict(color=FAINT, lw=0.8, transform=across, clip_on=False)
            axis.plot((COLUMNS[0], 0.992), (end - 1.25,) * 2, **line)
            continue
        write(0, at, each.study, color=SOFT)
        write(1, at, each.text)
        _mark(axis, at, each)
    _key(figure, axis, total, words)
    return figure


def _axis(axis, total, words):
    axis.set_xscale("symlog", linthresh=1, linscale=0.9)
    axis.set_xlim(-FURTHEST, FURTHEST)
    axis.set_ylim(total + 0.2, -0.2)
    ticks = [sign * 10**power for sign in (-1, 1) for power in range(3)]
    axis.set_xticks([0, *ticks], ["0", *(f"{t:d}".replace("-", "−") for t in ticks)])
    axis.minorticks_off()
    axis.set_yticks([])
    axis.tick_params(axis="x", labeltop=True, top=True, length=3)
    axis.set_xlabel(words.axis, fontsize=8.5, color=SOFT, labelpad=4)
    for side in ("left", "right"):
        axis.spines[side].set_visible(False)
    axis.spines["top"].set_visible(True)


def _key(figure, axis, total, words):
    """What the marks mean, above the rows; which side is which, above the frame."""
    inside = axis.get_yaxis_transform()
    for x, text, side in ((0, words.opposite, "left"), (1, words.same, "right")):
        axis.text(x, -2.5, text, transform=inside, color=SOFT, fontsize=8.5, ha=side)
    across = blended_transform_factory(figure.transFigure, axis.transData)
    style = dict(transform=across, clip_on=False)
    ends, middle = (0.012, 0.042), 0.027
    here, reported, target = lines = -3.2, -2.15, -1.1
    axis.plot(ends, (here, here), color=ACCENT, lw=1.8, **style)
    axis.plot(middle, here, "D", color=ACCENT, **DIAMOND, **style)
    axis.plot(middle, reported, "o", **HOLLOW, **style)
    band = dict(color=BAND, lw=11, solid_capstyle="butt")
    axis.plot(ends, (target, target), **band, **style)
    for at, text in zip(lines, words.key, strict=True):
        axis.text(0.055, at, text, transform=across, fontsize=8.5, va="center")


def _mark(axis, number, row):
    low, mean, high = row.effect
    ends = number - 0.42, number + 0.42
    if row.target:
        axis.fill_betweenx(ends, *row.target, color=BAND, lw=0, zorder=0)
    axis.vlines(0, number - 0.5, number + 0.5, color=INK, lw=0.8, zorder=1)
    style = dict(color=row.color, lw=1.8, zorder=3, solid_capstyle="butt")
    if row.own_unit:
        style |= dict(linestyle=(0, (1.2, 0.8)))
    shown = [min(max(x, -FURTHEST), FURTHEST) for x in (low, high)]
    axis.plot(shown, (number, number), **style)
    if row.reported is not None:
        at, mark = _within_axis(row.reported, "o")
        axis.plot(at, number, mark, **HOLLOW, zorder=5, clip_on=False)
    at, mark = _within_axis(mean, "D")
    axis.plot(at, number, mark, color=row.color, **DIAMOND, zorder=4, clip_on=False)


def _within_axis(x, mark):
    """Where an effect is drawn, and its mark: an arrow if it lies beyond the axis."""
    if abs(x) <= FURTHEST:
        return x, mark
    return (FURTHEST, ">") if x > 0 else (-FURTHEST, "<")
