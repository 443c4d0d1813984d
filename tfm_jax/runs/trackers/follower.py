"""Follower: passes the record on in a thread that neither stops nor slows a run."""

import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tfm_jax.runs.trackers.redact import redact

WAITING = 10_000  # records that may wait for a disk or a server
PATIENCE = 30  # seconds the last of them may take when the run ends


class Record(NamedTuple):
    """A line of ``metrics.jsonl``, and the seconds since the epoch it was written at.

    The last one, which is no line there, is of kind "end" and says in ``finished``
    whether the run is.
    """

    step: int
    kind: str
    values: Mapping[str, Any]
    time: float

    def numbers(self) -> dict[str, float]:
        """``kind/name`` -> the finite numbers in it."""
        return {
            f"{self.kind}/{name}": value
            for name, value in self.values.items()
            if isinstance(value, float | int) and math.isfinite(value)
        }


class RunInfo(NamedTuple):
    """What a tracker hears of a run before its first record.

    Attributes:
        id: that no other run has, but every process that goes on with this one.
        step: that the run goes on from. knobs: dotted, numbers and texts.
    """

    workdir: Path
    name: str
    id: str
    step: int
    knobs: Mapping[str, Any]


class Follower:
    """One place the record goes to; what goes wrong is said once and costs that place.

    Libraries that write such things block their callers for good once a thread of
    theirs has died, or wait for a server.

    Args:
        name: of the place. write: takes the records, as lists of those that wait.
    """

    def __init__(
        self, name: str, write: Callable[[Iterator[list[Record]]], None]
    ) -> None:
        self.name = name
        self._waiting: queue.Queue = queue.Queue(WAITING)
        self._lost = False
        self._thread = threading.Thread(
            target=self._run, args=(write,), name=name, daemon=True
        )
        self._thread.start()

    def add(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """One more record."""
        if not self._lost:
            try:
                self._waiting.put_nowait(Record(step, kind, values, time.time()))
            except queue.Full:
                self._lose(f"{WAITING:,} records wait for it")

    def close(self) -> None:
        """Waits for the last record, but not for ever."""
        deadline = time.monotonic() + PATIENCE
        try:
            self._waiting.put(None, timeout=0 if self._lost else PATIENCE)
        except queue.Full:
            pass
        self._thread.join(max(deadline - time.monotonic(), 0))
        if self._thread.is_alive():
            self._lose(f"it takes more than {PATIENCE} s")

    def _lose(self, reason):
        if not self._lost:
            self._lost = True
            logging.warning(
                "%s gets no more records (%s); metrics.jsonl has them all",
                *(self.name, redact(str(reason))),
            )

    def _run(self, write):
        try:
            write(self._records())
        except Exception as error:
            self._lose(error)

    def _records(self):
        """What waits, whenever something does; None is the last that comes."""
        while True:
            ready = [self._waiting.get()]
            with contextlib.suppress(queue.Empty):
                while ready[-1] is not None:
                    ready.append(self._waiting.get_nowait())
            ended = ready[-1] is None
            if records := ready[: len(ready) - ended]:
                yield records
            if ended:
                return
