"""A watchdog for data that does not come: a blocked pipe, a dead file system."""

import contextlib
import contextvars
import faulthandler
import os
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

_SECONDS = contextvars.ContextVar("data.timeout_seconds", default=0.0)
_TICK = 0.1  # seconds
_waits: dict[Any, list] = {}  # context -> [seconds left, seconds, for what]
_thread = threading.Thread()


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Whatever is ``awaited`` inside may take so long; 0: for ever."""
    token = _SECONDS.set(seconds)
    try:
        yield
    finally:
        _SECONDS.reset(token)


class awaited:
    """Context that ends the process, with code 69 and all stacks, if it takes too long.

    Time in which the process itself is stopped does not count.
    Args: what: named in the message.
    """

    def __init__(self, what: object) -> None:
        self._what = what

    def __enter__(self):
        seconds = _SECONDS.get()
        if seconds:
            _waits[self] = [seconds, seconds, self._what]
            _watch()

    def __exit__(self, *exc_info):
        _waits.pop(self, None)


def each(items: Iterable[Any], what: object) -> Iterator[Any]:
    """The items of an iterable, each of them ``awaited``."""
    items = iter(items)
    while True:
        with awaited(what):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def _watch():
    """Starts the one thread that watches; a forked process has none yet."""
    global _thread
    if not _thread.is_alive():
        _thread = threading.Thread(target=_look, name="watchdog", daemon=True)
        _thread.start()


os.register_at_fork(after_in_child=_waits.clear)


def _look():
    while True:
        time.sleep(_TICK)
        for wait in tuple(_waits.values()):
            wait[0] -= _TICK
            if wait[0] < 0:
                _end(*wait[1:])


def _end(seconds, what):
    message = f"data.timeout_seconds={seconds}: {str(what)!r} gave nothing for so long"
    os.write(2, f"tfm_jax: {message}; what all threads do:\n".encode())
    faulthandler.dump_traceback(2)
    os._exit(os.EX_UNAVAILABLE)
