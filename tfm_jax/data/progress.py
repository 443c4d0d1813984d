"""How far a preparation is that takes long, and how long it will still take."""

import contextlib
import datetime
import sys
import threading
import time
from collections.abc import Callable, Iterator

from tfm_jax.terminal import say

_SILENT = 5.0  # seconds, in which most are done
_EVERY = 30.0  # seconds from line to line, where no terminal is


@contextlib.contextmanager
def announced(what: str) -> Iterator[None]:
    """Says on stderr that ``what`` is under way, if it takes more than some seconds."""
    timer = threading.Timer(_SILENT, say, (f"{what} ...",), {"file": sys.stderr})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[..., None]]:
    """Yields ``advance(count)``, to be told how much more of ``total`` is done.

    After some seconds it shows this on stderr, a bar or lines, with the time left;
    ``advance(count, before=True)`` says that an earlier process did it.
    """
    from rich.console import Console
    from rich.progress import Progress

    began = said = time.monotonic()
    done = taken_over = 0
    with contextlib.ExitStack() as stack:
        bar = None

        def advance(count: int, *, before: bool = False) -> None:
            nonlocal bar, done, taken_over, said
            done, now = done + count, time.monotonic()
            taken_over += count * before
            if not total or now - began < _SILENT or done == taken_over:
                return
            if sys.stderr.isatty():
                if not bar:
                    bar = Progress(console=Console(stderr=True), transient=True)
                    bar.add_task(what, total=total)
                    stack.enter_context(bar)
                bar.update(bar.task_ids[0], completed=done)
            elif now - said >= _EVERY:
                said = now
                each = (now - began) / (done - taken_over)
                left = datetime.timedelta(seconds=round(each * max(total - done, 0)))
                say(f"{what}: {done / total:.0%}, {left} left", file=sys.stderr)

        yield advance
