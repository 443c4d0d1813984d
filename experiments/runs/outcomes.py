"""From run directories to numbers, regenerated each time."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.runs import attempts, cells, files
from experiments.runs.attempts import Run
from experiments.runs.cells import FINAL, Cell
from experiments.space import EDGE, Choice, Range
from experiments.study import Expectation, Study, parts
from tfm_jax.api import ConfigError

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 1e100  # the squares of numbers beyond 1e154 are none


def metric(run: Run, name: str) -> float | None:
    """A metric of a finished run; None if it diverged or has not finished.

    A score that is no number below ``LARGEST`` is that of a run that diverged.

    Args: name: ``split/score``, or ``split/score - split/score``.
    """
    if run.status.name != "done":
        return None
    scores, (first, *others) = files.scores(run.status.results), parts(name)
    for one in (first, *others):
        if one not in scores:
            path = run.cell.directory / "results.json"
            known = ", ".join(scores)
            raise ConfigError(f"{one} is not in {path}; choose from {known}")
    return _finite(scores[first] - sum(scores[one] for one in others))


def _finite(value):
    return float(value) if abs(value) < LARGEST else None


def records(study: Study, runs: Iterable[Run]) -> list[dict]:
    """One row for each run: what it is, how it ended, what it scored."""
    return [
        {
            "id": cell.id,
            "arm": cell.arm,
            "seed": cell.seed,
            "phase": cell.phase,
            "settings": dict(cell.settings),
            "status": status.name,
            "metric": metric(Run(cell, status), study.metric),
            "attempts": status.attempts,
            "seconds": status.seconds or None,
            "memory_bytes": status.results.get("memory_bytes"),
            "parameters": status.results.get("parameters"),
            "directory": str(cell.directory),
            "command": cell.shown,
            "error": status.error,
        }
        for cell, status in runs
    ]


def table(rows: Iterable[Mapping]) -> "pd.DataFrame":
    """The runs as a data frame, one column for each setting that varies."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    settings = pd.DataFrame(list(frame.pop("settings")), index=frame.index)
    varies = [c for c in settings if settings[c].map(repr).nunique() > 1]
    return frame.join(settings[[c for c in varies if c != "seed"]])


def tuning(study: Study, runs: Iterable[Run]) -> tuple[dict, list[dict]]:
    """The knobs chosen for each arm whose tuning has finished, and every trial.

    The best mean over the tuning seeds wins; a trial with a diverged seed loses against
    any without; of equals, as where all solve the task, one wins that is at no end of
    its range, or the first. ``edge`` marks a winner at such an end, where something
    better may lie outside, as it may where all diverged: its arm has not been tuned;
    ``edges`` are the knobs.

    Args: runs: of the tuning.
    """
    sign = 1 if study.goal == "min" else -1
    trials, chosen = [], {}
    planned = cells.budget(study) * len(study.tune_seeds)
    by_arm = {arm: [] for arm in study.arms}
    for run in runs:
        knobs = {k: run.cell.settings[k] for k in study.tune}
        by_arm[run.cell.arm].append((run, knobs, metric(run, study.metric)))
    for arm, tried in by_arm.items():
        best, edges = None, []
        finished = all(run.status.finished for run, *_ in tried)
        if tried and finished and len(tried) == planned:
            grid, cell = [knobs for _, knobs, _ in tried], tried[0][0].cell
            costs = [_cost([v for _, k, v in tried if k == g], sign) for g in grid]
            equal = [g for g, c in zip(grid, costs, strict=True) if c == min(costs)]
            of_equal = [at_edge(study, g, grid, cell) for g in equal]
            edges = min(of_equal, key=len)
            best = chosen[arm] = equal[of_equal.index(edges)]
            if all(value is None for *_, value in tried):
                edges = [
                    knob for knob in study.tune if any(knob in e for e in of_equal)
                ]
        trials += [
            {
                "arm": arm,
                "settings": knobs,
                "seed": run.cell.seed,
                "value": value,
                "chosen": knobs == best,
                "edge": knobs == best and bool(edges),
                "edges": edges if knobs == best else [],
            }
            for run, knobs, value in tried
        ]
    return chosen, trials


def at_edge(
    study: Study, best: Mapping, tried: Sequence[Mapping], cell: Cell
) -> list[str]:
    """Tuned knobs of which the smallest or the largest number tried is the best.

    Of a range also if it lies in the outer ``space.EDGE`` of it; but not there, nor at
    an end of a list, if the knob has no values beyond. A ``Choice`` has no ends.

    Args: tried: settings of the arm, ``best`` among them. cell: of the arm.
    """
    return [
        knob
        for knob, value in best.items()
        if _is_at_edge(study.tune[knob], value, [t[knob] for t in tried], knob, cell)
    ]


def _is_at_edge(values, value, tried, knob, cell):
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(values, Choice) or not number:
        return False
    least, most = cells.legal(cell, knob)
    low, high = value == min(tried), value == max(tried)
    if not isinstance(values, Range):
        return low != high and (low and least < value or high and value < most)
    share = values.unit(value)  # of the range that lies below
    below = least < values.low if share < EDGE else low
    above = values.high < most if share > 1 - EDGE else high
    return below or above


def values_of(
    study: Study, finals: Iterable[Run], expectation: Expectation | None = None
) -> dict[str, dict[int, float | None]]:
    """Arm -> seed -> metric; None where the run diverged.

    Args: expectation: take its metric, of its arms; by default the study's, of all.
    """
    values: dict[str, dict[int, float | None]] = {arm: {} for arm in study.arms}
    name, wanted = study.metric, tuple(study.arms)
    if expectation and expectation.metric:
        name, wanted = expectation.metric, expectation.arms
    for run in finals:
        arm, seed, phase = run.cell.arm, run.cell.seed, run.cell.phase
        if phase == FINAL and run.status.finished and arm in wanted:
            values[arm][seed] = metric(run, name)
    return values


def values_by_metric(study: Study, finals: Sequence[Run]) -> dict[str, dict[str, dict]]:
    """Metric of an expectation -> ``values_of`` its arms; "" is the study's metric."""
    values: dict[str, dict[str, dict]] = {"": values_of(study, finals)}
    for expectation in study.expect:
        if expectation.metric:
            own = values_of(study, finals, expectation)
            of_arms = {arm: own[arm] for arm in expectation.arms}
            values[expectation.metric] = values.get(expectation.metric, {}) | of_arms
    return values


def curves(study: Study, runs: Iterable[Run]) -> dict[str, dict[str, list]]:
    """Arm -> seed -> [[step, metric], ...] while it trained."""
    split, score = study.metric.split("/")
    drawn = {}
    for cell, _ in runs:
        if cell.phase != FINAL or split != "valid":
            continue
        points = [
            [record["step"], _finite(record[score])]
            for record in files.history(cell.directory)
            if record["kind"] == "valid" and files.is_number(record.get(score))
        ]
        if points:
            drawn.setdefault(cell.arm, {})[str(cell.seed)] = points
    return drawn


def environments(runs: Iterable[Run]) -> list[dict[str, str]]:
    """The distinct environments that attempts at these runs recorded."""
    distinct = {}
    for cell, _ in runs:
        for recorded in attempted_in(cell.directory):
            distinct.setdefault(json.dumps(recorded, sort_keys=True), recorded)
    return list(distinct.values())


def attempted_in(directory: Path) -> list[dict[str, str]]:
    """The environments that attempts at a run recorded, in order."""
    paths = (path / "environment.json" for path in attempts.folders(directory))
    return [x for x in (files.read(path, _is_text) for path in paths) if x is not None]


def _is_text(environment):
    return all(isinstance(value, str) for value in environment.values())


def _cost(values, sign):
    real = [v for v in values if v is not None]
    return len(values) - len(real), sign * sum(real) / max(len(real), 1)
