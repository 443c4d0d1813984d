"""Contrasts: in what runs differ, and what came of it, a row each."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.compare.grid import spelled
from experiments.compare.workdirs import Workdir
from tfm_jax.api import score_goals

Rows = dict[str, list[Any]]  # name -> a value for each run; None: it has none
LONGEST = 48  # characters of what differs, in a legend
ASIDE = {"operation", "execution"}  # roles of knobs that no curve follows from


def knobs(runs: Sequence[Workdir]) -> Rows:
    """Knobs that all runs have and in which they differ."""
    return {k: row for k, row in _knobs(runs).items() if None not in row}


def knobs_of_some(runs: Sequence[Workdir]) -> Rows:
    """Knobs that not all runs have."""
    return {k: row for k, row in _knobs(runs).items() if None in row}


def environments(runs: Sequence[Workdir]) -> Rows:
    """Fields of what they ran on in which those differ that have recorded it."""
    rows = _rows([run.environment for run in runs])
    return {name: row for name, row in rows.items() if len({*row} - {None}) > 1}


def environment_of_all(runs: Sequence[Workdir]) -> dict[str, str]:
    """Fields that are the same for all who have recorded them."""
    rows = _rows([run.environment for run in runs])
    values = {name: {*row} - {None} for name, row in rows.items()}
    return {name: value for name, (value, *more) in values.items() if not more}


def _rows(sides):
    names = dict.fromkeys(name for side in sides for name in side)
    return {name: [side.get(name) for side in sides] for name in names}


def _knobs(runs):
    rows = _rows([run.knobs for run in runs])
    return {name: row for name, row in rows.items() if len({*map(spelled, row)}) > 1}


def scores(runs: Sequence[Workdir]) -> Rows:
    """Scores after training; of runs that are not as far, where all have been."""
    rows, goals = final_scores(runs), score_goals()
    if all(run.scores for run in runs) and len({run.step for run in runs}) == 1:
        return rows
    for key in logged(runs):
        several = sum(key in run.lines for run in runs) > 1
        if several and key[0] == "valid" and key[1] in goals:
            last = along(runs, key, 1)
            rows |= {f"{'/'.join(key)} at {step}": row for step, row in last.items()}
    return rows


def final_scores(runs: Sequence[Workdir]) -> Rows:
    """Scores after training."""
    return _rows([run.scores for run in runs])


def logged(runs: Sequence[Workdir]) -> list[tuple[str, str]]:
    """(kind, score) of all that they logged, the loss first."""
    keys = dict.fromkeys(key for run in runs for key in run.lines)
    return sorted(keys, key=lambda key: key != ("train", "loss"))


def along(runs: Sequence[Workdir], key: tuple[str, str], count: int) -> Rows:
    """A curve at ``count`` steps, the last among them, that all who have it share."""
    lines = [dict(run.lines.get(key, ())) for run in runs]
    steps = [np.array([*line]) for line in lines if line]
    shared = functools.reduce(np.intersect1d, steps)
    picked = np.linspace(len(shared) - 1, 0, min(count, len(shared))).round()[::-1]
    return {
        f"{step:.0f}": [line.get(step) for line in lines]
        for step in shared[picked.astype(int)]
    }


def labels(runs: Sequence[Workdir]) -> list[str]:
    """``name: what differs`` of each run, as far as it fits into a legend."""
    if len({run.kind for run in runs}) > 1:
        return [f"{run.name}: {run.kind}" for run in runs]
    told = [k for k in knobs(runs) if runs[0].roles.get(k) not in ASIDE]
    return [f"{run.name}{_told(run, told)}" for run in runs]


def _told(run, told):
    text = ""
    for knob in told:
        more = f"{knob.rpartition('.')[2]}={spelled(run.knobs[knob])}"
        if len(text) + len(more) > LONGEST:
            return f"{text} …"
        text += f"{' ' if text else ': '}{more}"
    return text
