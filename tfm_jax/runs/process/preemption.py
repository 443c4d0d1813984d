"""SIGTERM and Ctrl-C as a request: finish the step, save, leave with code 75."""

import contextlib
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

from tfm_jax.runs.process.exits import PREEMPTED, Preempted
from tfm_jax.terminal import say

SIGNALS = (signal.SIGTERM, signal.SIGINT)
NOTHING = "asked to stop before the first step; nothing to save"
GRACE = 0.7  # seconds that Python has to leave what has nothing to save


class Preemption:
    """Context in which the first signal only raises a flag.

    Ask ``should_stop`` once per step, and ``requested`` wherever else time passes:
    evaluation, waits for data, after the first compilation. A second signal does
    nothing, because the save that the first one asked for may be under way; from then
    on the default action is back, so that a third one kills even inside of XLA.

    With several processes the signal may reach only one of them. JAX listens itself
    then (`jax.distributed`), spreads the news and names one step for all to stop at.
    """

    def __init__(self):
        self._requested = False
        self._abandons = False
        self._previous = {}
        self._until = math.inf
        self.why = "as asked"

    def __enter__(self):
        alone = jax.process_count() == 1
        # Python delivers signals to the main thread only, and installs them from there.
        if alone and threading.current_thread() is threading.main_thread():
            self._previous = {s: signal.signal(s, self._handle) for s in SIGNALS}
        return self

    def __exit__(self, *exc_info):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        del number, frame
        if self._requested:
            for again in SIGNALS:
                signal.signal(again, signal.SIG_DFL)
            return
        self._requested = True
        if self._abandons:
            raise Preempted(NOTHING)

    @contextlib.contextmanager
    def nothing_to_save(self) -> Iterator[None]:
        """Within, a signal is no request but the end, with code 75 in about a second.

        Python code is left by `Preempted`. A library that works on, such as one that
        trains a tokenizer, is not waited for: the process ends beside it.
        """
        if self._requested:
            raise Preempted(NOTHING)
        if not self._previous:  # signals are not ours: other processes, other thread
            yield
            return
        left, (reader, writer) = threading.Event(), socket.socketpair()
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=_end, args=(reader, left), daemon=True).start()
        self._abandons = True
        try:
            yield
        finally:
            self._abandons = False
            left.set()
            signal.set_wakeup_fd(before)
            writer.close()

    def limit(self, hours: float, started: float) -> None:
        """Asks by itself after ``hours``, at the end of a step; 0: never.

        Args: started: what ``time.monotonic()`` was when the hours began.
        """
        if hours and jax.process_index() == 0:
            self._until = started + 3600 * hours

    @property
    def requested(self) -> bool:
        """Whether the run shall stop; the same answer in all processes."""
        return self._requested

    def should_stop(self, step: int) -> bool:
        """Whether to stop after ``step``; all processes ask at every step."""
        alone = jax.process_count() == 1
        if time.monotonic() > self._until:
            self._until, self.why = math.inf, "after train.max_hours"
            if alone:
                self._requested = True
            else:
                os.kill(os.getpid(), signal.SIGTERM)  # JAX spreads it
        if not alone:
            self._requested |= multihost_utils.reached_preemption_sync_point(step)
        return self._requested


def _end(reader, left):
    """Ends the process at a signal that the main thread does not answer.

    Args: reader: gets a byte as soon as a signal comes, whatever the main thread does.
    """
    with reader:
        while received := reader.recv(1):
            if received[0] in SIGNALS and not left.wait(GRACE):
                say(f"tfm_jax: {NOTHING}", file=sys.stderr)
                os._exit(PREEMPTED)
