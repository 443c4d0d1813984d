"""Power: the smallest effect that a study can detect, before its runs and after.

Every pair of arms that is compared has a smallest effect that would be told from none,
and a smallest margin within which equal arms would be called equivalent, each with
``POWER``. Of several looks the last decides: that one before it detects what the last
does not adds a percent or two.
"""

import bisect
import functools
import html
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import optimize, special

from experiments.runs import outcomes
from experiments.statistics import findings, stats
from experiments.statistics.findings import CONFIDENCE
from experiments.statistics.sequential import look_of
from experiments.study import FEWEST_SEEDS, Expectation, Study

if TYPE_CHECKING:
    from experiments.plan import Plan

POWER = 0.8
MOST = 1_000  # seeds
PAGES = Path(__file__).parents[2] / "docs" / "studies"  # published reports


class Comparison(NamedTuple):
    """Two arms that are compared, or one with bounds.

    Attributes: tests: over which Holm's adjustment is. metric: "": the study's.
    """

    arms: tuple[str, ...]
    metric: str
    tests: int

    @property
    def text(self) -> str:
        """In words."""
        of_metric = f", {self.metric}" if self.metric else ""
        return " minus ".join(self.arms) + of_metric


def compared(expectation: Expectation, study: Study) -> list[Comparison]:
    """What one expectation compares; nothing if it counts, or compares no arms."""
    arms, kind = expectation.arms, expectation.kind
    metric = "" if expectation.metric == study.metric else expectation.metric
    if kind not in ("better", "equivalent", "monotone", "within"):
        return []
    if kind == "monotone":
        pairs = [(b, a) for a, b in itertools.pairwise(arms)]
    else:
        pairs = [arms]
    return [Comparison(pair, metric, 1) for pair in pairs]


def comparisons(study: Study) -> list[Comparison]:
    """Those of expectations, and each arm against the baseline, every pair once."""
    listed = [c for e in study.expect for c in compared(e, study)]
    alone = findings.planned(study)
    others = [a for a in study.arms if a != study.baseline and a not in alone]
    listed += [Comparison((arm, study.baseline), "", len(others)) for arm in others]
    unique = {(frozenset(c.arms), c.metric): c for c in reversed(listed)}
    return [c for c in listed if unique[frozenset(c.arms), c.metric] is c]


def margin(
    sd: float | None, n: int, alpha: float = 0.05, power: float = POWER
) -> float | None:
    """Smallest margin within which the interval of equal means lies with ``power``.

    The interval is that of level ``alpha``, two one-sided tests at half of it.
    Source: Schuirmann 1987; the power of Phillips 1990, J. Pharmacokinet. Biopharm. 18,
    for paired differences. Returns: in units of ``sd``; None for n < 3.
    """
    return None if n < FEWEST_SEEDS or sd is None else sd * _margin(n, alpha, power)


@functools.cache
def _margin(n, alpha, power):
    """``margin`` of differences whose sd is 1."""
    critical = -special.stdtrit(n - 1, alpha / 2)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    sd = np.sqrt(special.chdtri(n - 1, (1 + nodes) / 2) / (n - 1))  # at its quantiles

    def lacking(root_n_margin):
        within = np.maximum(root_n_margin - critical * sd, 0)
        return power - special.erf(within / math.sqrt(2)) @ weights / 2

    return float(optimize.brentq(lacking, 0, 8 + 4 * critical) / math.sqrt(n))


def detectable(sd: float, n: int, level: float) -> dict[str, float | None]:
    """Smallest ``effect`` and ``margin`` that ``n`` pairs show at a level."""
    effect = stats.minimum_detectable_effect(sd, n, level, POWER)
    return {"effect": effect, "margin": margin(sd, n, level)}


def seeds_for(effect: float, sd: float, level: float) -> int | None:
    """Fewest pairs that detect an effect, or that equal arms differ by less.

    Returns: None if ``MOST`` do not. Of one look; several need a few percent more.
    """

    def enough(n):
        return max(detectable(sd, n, level).values()) <= effect

    place = bisect.bisect_left(range(MOST + 1), True, lo=FEWEST_SEEDS, key=enough)
    return place if place <= MOST else None


def before(study: Study, assumed: Mapping[str, float]) -> list[dict]:
    """What the planned seeds can detect, of every comparison.

    Args: assumed: text of a comparison -> sd of its paired differences; that of one it
        does not have is the unit.
    Returns: rows of ``comparison``, ``metric``, ``tests``, ``sd`` (None: the unit),
        ``n``, ``effect``, ``margin``.
    """
    look, rows = look_of(study).last, []
    for pair in comparisons(study):
        sd, n = assumed.get(pair.text), look.planned[-1]
        level = look.nominal((1 - CONFIDENCE) / pair.tests)
        seen = detectable(1.0 if sd is None else sd, n, level)
        rows.append(_row(pair, sd, n) | seen)
    return rows


def after(
    study: Study, values: Mapping[str, Mapping], listed: Sequence[Comparison]
) -> list[dict | None]:
    """What the runs could detect, of each comparison; None where it has no interval.

    Args: values: metric -> arm -> seed -> value; "" is the study's metric.
    Returns: rows as those of ``before``, with the sd that was measured.
    """
    look, rows = look_of(study), []
    for pair in listed:
        differences = _differences(pair, values[pair.metric])
        p = look.paired(differences, CONFIDENCE)
        if p.low is None:
            rows.append(None)
            continue
        sd, n = p.sd, p.n
        level = look.nominal((1 - CONFIDENCE) / pair.tests)
        rows.append(_row(pair, sd, n) | detectable(sd, n, level))
    return rows


def of_expectation(
    expectation: Expectation, study: Study, values: Mapping[str, Mapping]
) -> dict[str, Any]:
    """What the runs could show of one expectation.

    Returns: ``seen``, smallest effects or margins, and ``detectable``, the same in
        words; both are empty if nothing is compared, or of fewer than 3 pairs.
    """
    rows = after(study, values, compared(expectation, study))
    what = "effect" if expectation.kind in ("better", "monotone") else "margin"
    smallest = [] if None in rows else [row[what] for row in rows]
    sign = "±" * (what == "margin")
    numbers = ", ".join(f"{sign}{number:.2g}" for number in smallest)
    words = f"smallest detectable {what} {numbers}" if smallest else ""
    return {"seen": smallest, "detectable": words}


def lines(plan: "Plan") -> list[str]:
    """What a plan's seeds can detect, a line each comparison."""
    known, look = assumed(plan), look_of(plan.study)
    rows = before(plan.study, known["sd"])
    source, seeds = known["source"], look.planned[-1]
    if seeds < FEWEST_SEEDS or not rows:
        few = f"too few seeds to tell an effect: {seeds}; {FEWEST_SEEDS} at least"
        return [few] if rows else []
    unit = f"with the sd of {source}" if source else "in sd of a paired difference"
    listed = [
        f"smallest detectable effect and margin of equivalence of {seeds} seeds, "
        f"{POWER:.0%} power, {unit}:"
    ]
    if len(look.planned) > 1:
        after = ", ".join(map(str, look.planned))
        listed.insert(0, f"look {look.number}, of those after {after} seeds")
    for row in rows:
        unit = " sd" * (row["sd"] is None)
        numbers = f"{row['effect']:9.2g}{unit}    ±{row['margin']:.2g}{unit}"
        notes = [f"Holm, {row['tests']} arms"] if row["tests"] > 1 else []
        if row["sd"] and plan.study.sesoi and not row["metric"]:
            level = (1 - CONFIDENCE) / row["tests"]
            needed = seeds_for(plan.study.sesoi, row["sd"], level) or f"over {MOST}"
            notes.append(f"±{plan.study.sesoi:g} needs {needed} seeds")
        note = f"  ({'; '.join(notes)})" if notes else ""
        listed.append(f"  {row['comparison']:36}{numbers}{note}")
    return listed


def _row(pair, sd, n):
    named = {"comparison": pair.text, "metric": pair.metric}
    return named | {"tests": pair.tests, "sd": sd, "n": n}


def _differences(pair, values):
    """Of complete pairs; the values themselves of one arm."""
    if len(pair.arms) == 1:
        return [v for v in values[pair.arms[0]].values() if v is not None]
    return findings.pairs(*(values[arm] for arm in pair.arms)).differences


def measured(study: Study, values: Mapping[str, Mapping]) -> dict[str, float]:
    """Text of a comparison -> sd of its paired differences, as far as runs say it."""
    rows = filter(None, after(study, values, comparisons(study)))
    return {row["comparison"]: row["sd"] for row in rows}


def assumed(plan: "Plan") -> dict:
    """``sd`` of comparisons and the ``source`` of it: earlier runs, or published ones.

    Of a study without either, ``sd`` is empty.
    """
    study = plan.study
    if sd := measured(study, outcomes.values_by_metric(study, plan.finals)):
        return {"source": "earlier runs of this study", "sd": sd}
    path = PAGES / f"{plan.name}-{plan.scale}.md"
    if path.is_file() and not plan.path:
        published = of_page(path.read_text("utf-8"), study.metric)
        values = {arm: published.get(arm, {}) for arm in study.arms}
        nothing = {arm: {} for arm in study.arms}
        known = {c.metric: nothing for c in comparisons(study)} | {"": values}
        return {"source": f"docs/studies/{path.name}", "sd": measured(study, known)}
    return {"source": "", "sd": {}}


def of_page(page: str, metric: str) -> dict[str, dict[int, float]]:
    """Arm -> seed -> metric of the final runs that a published report lists."""
    values, columns = {}, []
    for line in page.splitlines():
        cells = [_plain(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[:2] == ["Run", "Arm"]:
            columns = cells
        row = dict(zip(columns, cells, strict=False))
        if row.get("Phase") == "final" and _is_number(row.get(metric, "")):
            arm = values.setdefault(row["Arm"], {})
            arm[int(row["Seed"])] = float(row[metric])
    return values


def _plain(cell):
    text = html.unescape(re.sub(r"\\(.)", r"\1", cell.strip()))
    return text.replace("−", "-")


def _is_number(text):
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None
