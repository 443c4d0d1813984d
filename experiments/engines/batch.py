"""What a run is to any batch scheduler: a place in ``plan.json`` and an exit code."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.runs import attempts, files
from tfm_jax.api import ConfigError, DataError, exits, replace

if TYPE_CHECKING:
    from experiments.plan import Plan

GRACE = 120  # seconds from SIGTERM to the end, to finish a step and save
RETRIES = 2  # of a run that failed for a reason that may pass
FINAL = (exits.BAD_DATA, exits.BAD_CONFIG, exits.DIVERGED)  # the same again if retried

STUDY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")


def legal(what: str, text: str, pattern: re.Pattern) -> str:
    """``text``, which goes into a file that others read as commands.

    Raises: ConfigError if not all of it matches ``pattern``.
    """
    if not pattern.fullmatch(text):
        raise ConfigError(f"{what} {text!r}: must match {pattern.pattern}")
    return text


def missing(directory: Path, indices: Iterable[int]) -> list[int]:
    """Those of the runs of ``plan.json`` that have no result and may be tried.

    Args: directory: of the study; those of its runs are in it.
    Raises: ConfigError if there are none. DataError if ``plan.json`` is damaged.
    """
    planned = read_plan(directory)
    places = {n: directory / Path(planned[n]["directory"]).name for n in indices}
    left = [n for n, place in places.items() if attempts.status(place).unfinished]
    if not left:
        raise ConfigError(f"{directory}: every run asked for has ended")
    return left


def read_plan(directory: Path) -> list[dict]:
    """The runs listed in ``plan.json``: ``id`` and ``directory`` of each.

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
    known = {entry["id"] for entry in listed}
    for cell in plan.cells():
        if cell.id not in known:
            known.add(cell.id)
            where = {"directory": str(cell.directory), "command": cell.command}
            listed.append({"id": cell.id} | where)
    replace(path, {"study": plan.spec, "cells": listed})
    return [entry["id"] for entry in listed]


def is_plan(plan: dict) -> bool:
    """Whether an object is what ``plan.json`` holds."""
    listed, keys = plan["cells"], ("id", "directory")
    return isinstance(listed, list) and all(
        isinstance(cell[key], str) for cell in listed for key in keys
    )
