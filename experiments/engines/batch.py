"""What a run is to any batch scheduler: a place in ``plan.json`` and an exit code."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.runs import attempts, files
from experiments.stages import FIRST
from tfm_jax.api import ConfigError, DataError, replace

if TYPE_CHECKING:
    from experiments.plan import Plan
    from experiments.runs.cells import Cell

GRACE = 120  # seconds from SIGTERM to the end, to finish a step and save
RETRIES = 2  # of a run that failed for a reason that may pass

STUDY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")


def legal(what: str, text: str, pattern: re.Pattern) -> str:
    """``text``, which goes into a file that others read as commands.

    Raises: ConfigError if not all of it matches ``pattern``.
    """
    if not pattern.fullmatch(text):
        raise ConfigError(f"{what} {text!r}: must match {pattern.pattern}")
    return text


def missing(directory: Path, indices: Iterable[int]) -> dict[int, list[int]]:
    """Those of the runs of ``plan.json`` that have no result and may be tried.

    Args: directory: of the study; those of its runs are in it.
    Returns: processes of a run -> indices of such runs, fewest processes first.
    Raises: ConfigError if there are none. DataError if ``plan.json`` is damaged.
    """
    planned = read_plan(directory)
    left: dict[int, list[int]] = {}
    for index in indices:
        place = directory / Path(planned[index]["directory"]).name
        if attempts.status(place).unfinished:
            left.setdefault(planned[index].get("processes", 1), []).append(index)
    if not left:
        raise ConfigError(f"{directory}: every run asked for has ended")
    return dict(sorted(left.items()))


def read_plan(directory: Path) -> list[dict]:
    """The runs listed in ``plan.json``: ``id``, ``directory``, ``processes`` of each.

    Raises: DataError if it is not there or damaged.
    """
    plan = files.read(directory / "plan.json", is_plan)
    if plan is None:
        raise DataError(f"{directory}: no plan.json that names the runs")
    return plan["cells"]


def write_plan(plan: "Plan") -> list[str]:
    """Writes ``plan.json``: the runs in the order they became known, and what they do.

    Returns: their ids; no run ever changes its place.
    """
    path = plan.root / "plan.json"
    kept = files.read_or_set_aside(path, is_plan)
    listed = kept["cells"] if kept else []
    known = {entry["id"]: entry for entry in listed}
    for cell in plan.cells():
        if cell.id not in known:
            where = {"directory": str(cell.directory), "command": cell.command}
            known[cell.id] = {"id": cell.id} | where
            listed.append(known[cell.id])
        known[cell.id]["processes"] = processes(cell)
    replace(path, {"study": plan.spec, "cells": listed})
    return [entry["id"] for entry in listed]


def processes(cell: "Cell") -> int:
    """Of one run of a cell, see ``mesh.processes``.

    Raises: ConfigError if the run made before it has another number.
    """
    count = cell.experiment.mesh.processes
    before = cell.first.mesh.processes if cell.first else count
    if before != count:
        raise ConfigError(
            f"arm {cell.arm!r}: {FIRST}.mesh.processes={before}, but mesh.processes="
            f"{count}; the same processes make both runs"
        )
    return count


def is_plan(plan: dict) -> bool:
    """Whether an object is what ``plan.json`` holds."""
    listed, keys = plan["cells"], ("id", "directory")
    return isinstance(listed, list) and all(
        all(isinstance(cell[key], str) for key in keys)
        and type(count := cell.get("processes", 1)) is int
        and count > 0
        for cell in listed
    )
