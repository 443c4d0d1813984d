"""TensorBoard's event file, written by a thread that neither stops nor slows a run."""

import contextlib
import logging
import os
import queue
import threading
import time
from pathlib import Path

WAITING = 10_000  # events that may wait for the disk
PATIENCE = 10  # seconds the last of them may take when the run ends


class Board:
    """Scalars and texts for TensorBoard; what goes wrong is said once and costs them.

    tensorboardX's own writer blocks its callers for good once its thread has died.

    Args: directory: of the event file. step: the first that this process makes.
    """

    def __init__(self, directory: Path, step: int) -> None:
        self._waiting: queue.Queue = queue.Queue(WAITING)
        self._lost = False
        self._thread = threading.Thread(
            target=self._run, args=(directory, step), name="tensorboard", daemon=True
        )
        self._thread.start()

    def scalar(self, tag: str, value: float, step: int) -> None:
        """One point of a curve."""
        self._add("scalar", tag, value, step)

    def text(self, tag: str, text: str, step: int) -> None:
        """One text."""
        self._add("text", tag, text, step)

    def close(self) -> None:
        """Waits for the last event, but not for ever."""
        deadline = time.monotonic() + PATIENCE
        try:
            self._waiting.put(None, timeout=0 if self._lost else PATIENCE)
        except queue.Full:
            pass
        self._thread.join(max(deadline - time.monotonic(), 0))
        if self._thread.is_alive():
            self._lose(f"the disk takes more than {PATIENCE} s")

    def _add(self, *event):
        if not self._lost:
            try:
                self._waiting.put_nowait((*event, time.time()))
            except queue.Full:
                self._lose(f"{WAITING:,} events wait for the disk")

    def _lose(self, reason):
        if not self._lost:
            self._lost = True
            logging.warning(
                "TensorBoard gets no more events (%s); metrics.jsonl has them all",
                reason,
            )

    def _run(self, directory, step):
        try:
            _write_events(directory, step, self._waiting)
        except Exception as error:
            self._lose(error)


def _write_events(directory, step, waiting):
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(EventsWriter(os.path.join(directory, "events"))) as writer:
        # What an earlier process logged from this step on is hidden.
        start = SessionLog(status=SessionLog.START)
        writer.write_event(Event(step=step, file_version="brain.Event:2"))
        writer.write_event(Event(step=step, session_log=start))
        while (event := waiting.get()) is not None:
            kind, tag, value, at, when = event
            made = getattr(summary, kind)(tag, value)
            writer.write_event(Event(summary=made, step=at, wall_time=when))
            if waiting.empty():
                writer.flush()
