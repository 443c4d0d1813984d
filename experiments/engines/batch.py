"""What a run is to any batch scheduler: a place in ``plan.json`` and an exit code."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from tfm_jax.train import exits

GRACE = 120  # seconds from SIGTERM to the end, to finish a step and save
RETRIES = 2  # of a run that failed for a reason that may pass
FINAL = (exits.BAD_DATA, exits.BAD_CONFIG, exits.DIVERGED)  # the same again if retried

STUDY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")


def legal(what: str, text: str, pattern: re.Pattern) -> str:
    """``text``, which goes into a file that others read as commands.

    Raises: ValueError if not all of it matches ``pattern``.
    """
    if not pattern.fullmatch(text):
        raise ValueError(f"{what} {text!r}: must match {pattern.pattern}")
    return text


def missing(directory: Path, indices: Iterable[int]) -> list[int]:
    """Those of the runs of ``plan.json`` that have no result and may be tried.

    Args: directory: of the study; those of its runs are in it.
    Raises: ValueError if there are none.
    """
    planned = json.loads((directory / "plan.json").read_text("utf-8"))["cells"]
    left = [
        index
        for index in indices
        if not _ended(directory / Path(planned[index]["directory"]).name)
    ]
    if not left:
        raise ValueError(f"{directory}: every run asked for has ended")
    return left


def _ended(run):
    if (run / "DONE.json").exists():
        return True
    failed = run / "FAILED.json"
    return failed.exists() and not json.loads(failed.read_text("utf-8")).get(
        "retryable"
    )
