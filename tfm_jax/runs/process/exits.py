"""Exit codes: what a scheduler may do with a run that has ended.

======  ==============  ==========================================================
code    name            what to do
======  ==============  ==========================================================
0       OK              nothing: finished, or another process already runs it
1       (unknown)       retry at most twice, then look
65      BAD_DATA        never retry: data or every checkpoint is unreadable
69      INFRASTRUCTURE  retry: full disk, vanished workdir, dead worker, stalled data
75      PREEMPTED       start again: the state is saved, this attempt does not count
78      BAD_CONFIG      never retry: a setting is wrong or does not fit the checkpoint
79      DIVERGED        never retry: the training diverged, which is a result
======  ==============  ==========================================================

65, 69, 75 and 78 are EX_DATAERR, EX_UNAVAILABLE, EX_TEMPFAIL and EX_CONFIG of
``sysexits.h``.
"""

import errno
import functools
import os
import signal
import sys
from collections.abc import Callable, Sequence

from tfm_jax import terminal

OK = 0
UNKNOWN = 1
BAD_DATA = 65
INFRASTRUCTURE = 69
PREEMPTED = 75
BAD_CONFIG = 78
DIVERGED = 79
FINAL = (BAD_DATA, BAD_CONFIG, DIVERGED)  # the same again if retried

STORAGE_ERRNOS = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
)
NAME_ERRNOS = frozenset(  # of a name that was given: no file or folder can be there
    (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)
)


class Preempted(Exception):
    """A signal asked the run to stop; the state is saved."""


class Diverged(Exception):
    """The loss or the gradients stopped being finite."""


class InfrastructureError(Exception):
    """The machine failed, not the run: disk, workdir, data worker."""


class PeerFailed(InfrastructureError):
    """Another process of the run failed for good; this one ends with its code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class AlreadyRunning(Exception):
    """Another live process holds the workdir."""


class CorruptCheckpoint(Exception):
    """No checkpoint can be trusted, or the one asked for cannot."""


class CheckpointMismatch(ValueError):
    """The checkpoint is sound, but belongs to another model or optimizer."""


def one_line(exc: object) -> str:
    """What ``exc`` says, without line breaks and control characters.

    Not all of it if a value of somebody else's made it endless.
    """
    return terminal.shortened(terminal.one_line(exc))


def exit_code(exc: BaseException | None) -> int:
    """The code of a process that ends with ``exc``; None: nothing was raised."""
    # Imported here: `tfm_jax.config` needs ml_collections, this module needs nothing.
    from tfm_jax.config import ConfigError
    from tfm_jax.data.errors import DataError

    table = (
        (AlreadyRunning, OK),
        (Preempted, PREEMPTED),
        (Diverged, DIVERGED),
        (InfrastructureError, INFRASTRUCTURE),
        ((CorruptCheckpoint, DataError), BAD_DATA),
        ((CheckpointMismatch, ConfigError), BAD_CONFIG),
    )
    if exc is None:
        return OK
    if isinstance(exc, PeerFailed):
        return exc.code
    for kinds, code in table:
        if isinstance(exc, kinds):
            return code
    if isinstance(exc, OSError) and exc.errno in STORAGE_ERRNOS:
        return INFRASTRUCTURE
    if isinstance(exc, OSError) and exc.errno in NAME_ERRNOS:
        return BAD_CONFIG
    return UNKNOWN


def end_when_asked(said: str = "tfm_jax: asked to stop; nothing to save") -> None:
    """SIGTERM and Ctrl-C end this process at once with code 75, and with what is said.

    For a command that is starting: a run listens itself from its first step on, see
    ``runs.process.preemption``.
    """

    def end(number, frame):
        del number, frame
        os.write(2, f"{said}\n".encode())
        os._exit(PREEMPTED)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def command(name: str) -> Callable:
    """Decorator of a command's ``main(argv)``, whose exit code it returns.

    An exception that has a code is one line on standard error; others pass, for their
    traceback.
    """

    def decorate(main):
        @functools.wraps(main)
        def coded(argv: Sequence[str]) -> int:
            try:
                return main(argv) or OK
            except Exception as error:
                code = exit_code(error)
                if code == UNKNOWN:
                    raise
                terminal.say(f"{name}: {one_line(error)}", file=sys.stderr)
                return code

        return coded

    return decorate
