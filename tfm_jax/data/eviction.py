"""Eviction from the cache of prepared data: its size limit, locks and who uses what."""

import contextlib
import fcntl
import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from tfm_jax.data.digests import ENDING
from tfm_jax.knobs import ConfigError

GIGABYTES = "TFM_JAX_CACHE_GB"  # environment variable: the most that entries take
UNFINISHED = ".making-"  # begins the names of folders that are being written
_DEFAULT = 32.0
_DAY = 86_400  # seconds
_pinned: dict[Path, int] = {}  # entry -> file that this process holds while it lives


def pin(entry: Path, part: str) -> None:
    """Keeps an entry from being removed while this process lives.

    Args: part: a file of it.
    """
    with contextlib.suppress(OSError):
        file = os.open(entry / part, os.O_RDONLY)
        if entry in _pinned:
            os.close(_pinned[entry])  # of an entry that was damaged
        _pinned[entry] = file
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def size_limit() -> float:
    """Bytes. Raises: ConfigError naming the variable if it is no such number."""
    said = os.environ.get(GIGABYTES, _DEFAULT)
    gigabytes = math.nan
    with contextlib.suppress(ValueError):
        gigabytes = float(said)
    if not 0 <= gigabytes < math.inf:
        raise ConfigError(f"{GIGABYTES}={said!r} must be a finite number, at least 0")
    return gigabytes * 1e9


def remove(path: Path) -> None:
    """A folder, a file or a link that may be there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def evict(directory: Path, part: str) -> None:
    """Removes what is unfinished for a day, unused for a month, or too much in all.

    Of what is too much, entries go that no process holds, the longest unused first.

    Args: part: the file by which an entry is held.
    """
    for unfinished in directory.glob(f"{UNFINISHED}*"):
        with _another_cleans():
            if _age(unfinished) > _DAY:
                with _unlocked(_lock_of(unfinished)) as free:
                    if free:
                        remove(unfinished)
    for lock in directory.glob("*.lock"):  # written at each use of its entry
        with _another_cleans():
            if _age(lock) > 30 * _DAY:
                _evicted(lock.with_suffix(""), part)
    for note in directory.glob(f"*{ENDING}"):
        with _another_cleans():
            if _age(note) > 30 * _DAY:
                remove(note)
    _shrink(directory, part)
    for path in directory.iterdir():
        with _another_cleans():
            if not path.exists():  # a link whose entry is gone
                remove(path)


def _another_cleans():
    """Context that ends where another process has removed what is asked about."""
    return contextlib.suppress(OSError)


def _lock_of(unfinished):
    return unfinished.with_name(f"{unfinished.name.removeprefix(UNFINISHED)}.lock")


def _shrink(directory, part):
    entries = {}  # -> (time without use, bytes)
    for path in directory.iterdir():
        with _another_cleans():
            if path.is_dir() and not path.is_symlink() and path.name[0] != ".":
                size = sum(file.lstat().st_size for file in path.iterdir())
                entries[path] = _unused(path), size
    left = sum(size for _, size in entries.values())
    for entry in sorted(entries, key=entries.__getitem__, reverse=True):
        with _another_cleans():
            if left > size_limit() and _evicted(entry, part):
                left -= entries[entry][1]


def _evicted(entry, part):
    """Whether nobody asks for an entry or uses it, so that it and its lock are gone."""
    lock = entry.with_suffix(".lock")
    with _unlocked(lock) as unasked, _unlocked(entry / part) as free:
        if unasked and free:
            remove(entry)
            remove(lock)  # while it is locked: see `locked`
    return unasked and free


def _unused(entry):
    return _age(lock) if (lock := entry.with_suffix(".lock")).exists() else _age(entry)


def _age(path):
    return time.time() - path.lstat().st_mtime


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for a lock file, which is made if it is not there, and holds it inside.

    Another process may remove the file between opening and locking: what is locked then
    is seen by nobody, and the lock is taken anew. Raises: OSError.
    """
    while True:
        with open(path, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, path):
                yield
                return


def _is_at(file, path):
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _unlocked(path: Path) -> Iterator[bool]:
    """Whether nobody else has locked a file, which then nobody does inside."""
    if not path.is_file():
        yield True
        return
    with open(path, "r+b") as file:  # NFS locks for one alone what may be written
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield _is_at(file, path)
