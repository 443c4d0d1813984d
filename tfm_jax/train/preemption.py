"""SIGTERM and Ctrl-C as a request: finish the step, save, leave with code 75."""

import signal
import threading

import jax
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)


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
        self._previous = {}

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
        self._requested = True

    @property
    def requested(self) -> bool:
        """Whether the run shall stop; the same answer in all processes."""
        return self._requested

    def should_stop(self, step: int) -> bool:
        """Whether to stop after ``step``; all processes ask at every step."""
        if jax.process_count() > 1:
            self._requested |= multihost_utils.reached_preemption_sync_point(step)
        return self._requested
