"""Measured: what the runs of a probe say as curves, and under which conditions."""

from collections.abc import Iterable

from experiments.runs import files
from experiments.runs.attempts import Run
from experiments.runs.cells import FINAL
from experiments.statistics.sequential import look_of
from experiments.study import Study


def curves(study: Study, runs: Iterable[Run]) -> list[dict]:
    """Curves that the runs of a probe measured: arm -> seed -> [[x, y], ...] of each.

    Each has what ``costs.curve.Curve`` says of it, and ``slopes``, arm -> mean over
    seeds with its 95 % interval.
    """
    if not study.probe:
        return []
    from experiments.probes import PROBES

    finals = [(c, s.results) for c, s in runs if c.phase == FINAL and s.results]
    look, summaries = look_of(study), []
    for name, curve in PROBES[study.probe].curves.items():
        points, slopes = {}, {}
        for cell, results in finals:
            drawn = results["curves"][name]
            points.setdefault(cell.arm, {})[str(cell.seed)] = drawn
            if curve.slope:
                slope = results["probe"][curve.slope]
                slopes.setdefault(cell.arm, []).append(slope)
        slopes = {arm: look.paired(own, 0.95)._asdict() for arm, own in slopes.items()}
        summaries.append(
            {"name": name, **curve._asdict(), "arms": points, "slopes": slopes}
        )
    return summaries


def conditions(runs: Iterable[Run]) -> dict[str, str]:
    """Under which runs were measured: name -> all their values, numbers as a range."""
    values = {}
    for _, status in runs:
        for name, value in status.results.get("conditions", {}).items():
            values.setdefault(name, set()).add(value)
    return {name: _together(each) for name, each in values.items()}


def _together(values):
    if all(map(files.is_number, values)):
        return " to ".join(f"{x:g}" for x in sorted({min(values), max(values)}))
    return ", ".join(sorted(map(str, values)))
