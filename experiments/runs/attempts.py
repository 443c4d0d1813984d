"""Attempts: processes that computed a run, and where it stands after them."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from experiments.runs import files
from experiments.runs.cells import FINISHED, Cell
from experiments.stages import FIRST
from tfm_jax.api import Lease, exits, replace

RETRIES = {exits.UNKNOWN: 2, exits.INFRASTRUCTURE: 2}  # of other failures: none


class Status(NamedTuple):
    """Where a run stands: done, diverged, failed, running, stopped or missing.

    One that is stopped was started, and neither runs nor has ended; it goes on, from
    its last checkpoint if there is one.

    Attributes:
        retryable: whether a failed one may be tried again.
        attempts: how often it was started. seconds: that it computed, all attempts.
        error: last lines of its log if it failed.
        results: of a run that is done, split -> score -> value, besides other facts.
    """

    name: str
    retryable: bool = False
    attempts: int = 0
    seconds: float = 0.0
    error: str = ""
    results: Mapping[str, Any] = MappingProxyType({})

    @property
    def finished(self) -> bool:
        """Whether it will stay as it is."""
        return self.name in FINISHED

    @property
    def unfinished(self) -> bool:
        """Whether it makes sense to start it, for the first time or once more."""
        return not self.finished and (self.name != "failed" or self.retryable)


class Run(NamedTuple):
    """A cell and where it stood when its files were read."""

    cell: Cell
    status: Status

    def again(self) -> "Run":
        """As it stands now; what has finished is not read again."""
        return self if self.status.finished else look(self.cell)


def look(cell: Cell) -> Run:
    """Reads where a cell stands from its directory alone, each file once."""
    return Run(cell, status(cell.directory))


def status(directory: Path) -> Status:
    """Where the run in a directory stands."""
    attempts = _attempts(directory)
    tried = len(attempts), sum(attempt.get("seconds", 0.0) for attempt in attempts)
    ended = files.read(directory / "DONE.json", lambda d: d["status"] in FINISHED)
    if ended and ended["status"] == "diverged":
        return Status("diverged", False, *tried)
    results = files.results(directory) if ended else None
    if results is not None:
        return Status("done", False, *tried, results=results)
    failed = files.read(directory / "FAILED.json")
    if failed:
        again, error = failed.get("retryable") is True, str(failed.get("error", ""))
        return Status("failed", again, *tried, error)
    if _held(directory):
        return Status("running", False, *tried)
    return Status("stopped" if attempts else "missing", False, *tried)


def _held(directory):
    """Whether a process computes a run; its lease is asked, to read is not to run."""
    return any(Lease(place).held() for place in (directory, directory / FIRST))


def finish(cell: Cell, attempt: Path, code: int, seconds: float) -> Status:
    """Records how an attempt ended; which of DONE and FAILED follows, if any."""
    ended = {"code": code, "seconds": round(seconds, 3)}
    replace(attempt / "exit.json", ended)
    has_results = files.results(cell.directory) is not None
    held = _held(cell.directory)  # by a process that runs it
    # of runs that train together some may diverge and others leave results
    if code == exits.DIVERGED or (code == exits.OK and has_results):
        done = "done" if has_results else "diverged"
        replace(cell.directory / "DONE.json", {"status": done, **ended})
    elif code != exits.PREEMPTED and not (code == exits.OK and held):
        failures = [a for a in _attempts(cell.directory) if a.get("code") == code]
        failed = {
            "status": "failed",
            "retryable": len(failures) <= RETRIES.get(code, 0),
            "error": tail(attempt / "log"),
            **ended,
        }
        replace(cell.directory / "FAILED.json", failed)
    return status(cell.directory)


def forget(cell: Cell) -> None:
    """A failure, so that the cell may be tried again whatever the reason was."""
    (cell.directory / "FAILED.json").unlink(missing_ok=True)


def begin(cell: Cell, environment: Mapping[str, str]) -> Path:
    """The directory of a new attempt at a cell."""
    forget(cell)
    before = [int(path.name) for path in folders(cell.directory)]
    attempt = cell.directory / "attempts" / f"{max(before, default=0) + 1:03d}"
    attempt.mkdir(parents=True)
    replace(attempt / "environment.json", dict(environment))
    replace(attempt / "command", cell.shown + "\n")
    return attempt


def runner_lease(cell: Cell) -> Lease:
    """Held by the runner that works on a cell: two runners share a study."""
    directory = cell.directory / "runner"
    directory.mkdir(parents=True, exist_ok=True)
    return Lease(directory)


def progress(cell: Cell) -> tuple[int, int]:
    """Steps made, of how many."""
    history = files.history(cell.directory)
    step = max((record["step"] for record in history), default=0)
    return step, cell.experiment.train.total_steps


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log; "" if there is none."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-lines:])


def argv(cell: Cell) -> list[str]:
    """The command with this Python."""
    return [sys.executable, *cell.command]


def folders(directory: Path) -> list[Path]:
    """Those of the attempts at a run, in order."""
    there = (directory / "attempts").glob("*")
    return sorted(path for path in there if re.fullmatch("[0-9]{3,9}", path.name))


def ran(directory: Path) -> bool:
    """Whether a run was ever started and not refused for its settings."""
    return any(a.get("code") != exits.BAD_CONFIG for a in _attempts(directory))


def _attempts(directory):
    """How each of them ended; of one whose runner has not seen that, ``seconds``."""

    def legal(ended):
        return type(ended["code"]) is int and ended["seconds"] >= 0

    return [
        files.read(path / "exit.json", legal) or {"seconds": _went_on(path)}
        for path in folders(directory)
    ]


def _went_on(attempt):
    """Seconds from the start of an attempt to the last line of its log."""
    there = [path for name in ("command", "log") if (path := attempt / name).exists()]
    times = [path.stat().st_mtime for path in there]
    return max(times, default=0.0) - min(times, default=0.0)
