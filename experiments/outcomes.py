"""From run directories to numbers, regenerated each time."""

import json
import math
from collections.abc import Iterable, Mapping

import pandas as pd

from experiments import cells, run_files
from experiments.cells import FINAL, TUNE, Cell
from experiments.study import Study
from tfm_jax.api import ConfigError


def metric(cell: Cell, name: str) -> float | None:
    """``split/score`` of a finished run; None if it diverged or has not finished.

    A score that is no finite number is that of a run that diverged.
    """
    results = _results(cell)
    if results is None:
        return None
    known = {
        f"{split}/{score}": value
        for split, scores in results.items()
        if isinstance(scores, dict)
        for score, value in scores.items()
        if run_files.is_number(value)
    }
    if name not in known:
        path = cell.directory / "results.json"
        raise ConfigError(f"{name} is not in {path}; choose from {', '.join(known)}")
    return _finite(known[name])


def _finite(value):
    return float(value) if math.isfinite(value) else None


def _results(cell):
    done = cells.status(cell).name == "done"
    return run_files.results(cell.directory) if done else None


def records(study: Study, found: Iterable[Cell]) -> list[dict]:
    """One row for each run: what it is, how it ended, what it scored."""
    rows = []
    for cell in found:
        status = cells.status(cell)
        rows.append(
            {
                "id": cell.id,
                "arm": cell.arm,
                "seed": cell.seed,
                "phase": cell.phase,
                "settings": dict(cell.settings),
                "status": status.name,
                "metric": metric(cell, study.metric),
                "attempts": status.attempts,
                "seconds": status.seconds or None,
                "memory_bytes": (_results(cell) or {}).get("memory_bytes"),
                "directory": str(cell.directory),
                "command": cell.shown,
                "error": status.error,
            }
        )
    return rows


def table(rows: Iterable[Mapping]) -> pd.DataFrame:
    """The runs as a data frame, one column for each setting that varies."""
    frame = pd.DataFrame(rows)
    settings = pd.DataFrame(list(frame.pop("settings")), index=frame.index)
    varies = [c for c in settings if settings[c].map(repr).nunique() > 1]
    return frame.join(settings[[c for c in varies if c != "seed"]])


def tuning(study: Study, found: Iterable[Cell]) -> tuple[dict, list[dict]]:
    """The knobs chosen for each arm whose tuning has finished, and every trial.

    The best mean over the tuning seeds wins; a trial with a diverged seed loses against
    any without. ``edge`` marks a winner at the end of its range, where something better
    may lie outside: its arm has not been tuned.
    """
    sign = 1 if study.goal == "min" else -1
    trials, chosen = [], {}
    grid = cells.tuning_grid(study)
    by_arm = {arm: [] for arm in study.arms}
    for cell in found:
        if cell.phase == TUNE:
            by_arm[cell.arm].append(cell)
    for arm, tried in by_arm.items():
        finished = all(cells.status(c).name in cells.FINISHED for c in tried)
        values = {
            i: [
                metric(c, study.metric)
                for c in tried
                if all(c.settings[k] == v for k, v in knobs.items())
            ]
            for i, knobs in enumerate(grid)
        }
        best = None
        if tried and finished:
            best = min(values, key=lambda i: _cost(values[i], sign))
            chosen[arm] = grid[best]
        for cell in tried:
            knobs = {k: cell.settings[k] for k in study.tune}
            won = best is not None and knobs == grid[best]
            trials.append(
                {
                    "arm": arm,
                    "settings": knobs,
                    "seed": cell.seed,
                    "value": metric(cell, study.metric),
                    "chosen": won,
                    "edge": won and at_edge(study, knobs),
                }
            )
    return chosen, trials


def at_edge(study: Study, knobs: Mapping) -> bool:
    """Whether a tuned number is the smallest or largest that was tried."""
    return any(
        len(set(study.tune[k])) > 1
        and not isinstance(v, str | bool)
        and v in (min(study.tune[k]), max(study.tune[k]))
        for k, v in knobs.items()
    )


def curves(study: Study, found: Iterable[Cell]) -> dict[str, dict[str, list]]:
    """Arm -> seed -> [[step, metric], ...] while it trained."""
    split, score = study.metric.split("/")
    drawn = {}
    for cell in found:
        if cell.phase != FINAL or split != "valid":
            continue
        points = [
            [record["step"], _finite(record[score])]
            for record in run_files.history(cell.directory)
            if record["kind"] == "valid" and run_files.is_number(record.get(score))
        ]
        if points:
            drawn.setdefault(cell.arm, {})[str(cell.seed)] = points
    return drawn


def environments(found: Iterable[Cell]) -> list[dict[str, str]]:
    """The distinct environments that attempts at these runs recorded."""
    distinct = {}
    for cell in found:
        for path in cells.attempts(cell.directory):
            recorded = run_files.read(path / "environment.json", _is_text)
            if recorded is not None:
                distinct.setdefault(json.dumps(recorded, sort_keys=True), recorded)
    return list(distinct.values())


def _is_text(environment):
    return all(isinstance(value, str) for value in environment.values())


def _cost(values, sign):
    real = [v for v in values if v is not None]
    return len(values) - len(real), sign * sum(real) / max(len(real), 1)
