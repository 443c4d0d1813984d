"""A folder for what is too large for memory while data is prepared."""

import contextlib
import contextvars
from collections.abc import Iterator
from pathlib import Path

_FOLDER: contextvars.ContextVar[Path | None] = contextvars.ContextVar(
    "data.workspace", default=None
)


@contextlib.contextmanager
def working_in(path: Path) -> Iterator[None]:
    """What is prepared inside may use ``path``, where a killed process left its own."""
    token = _FOLDER.set(path)
    try:
        yield
    finally:
        _FOLDER.reset(token)


def workspace() -> Path | None:
    """The folder, which is there; None: everything has to be in memory."""
    path = _FOLDER.get()
    if path is not None:
        path.mkdir(mode=0o700, exist_ok=True)
    return path
