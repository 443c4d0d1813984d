"""sha256 of files, those of large files remembered until they change."""

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from tfm_jax.data.progress import announced
from tfm_jax.data.sources.text_files import digest

LARGE = 1 << 26  # bytes; what is smaller is read whenever it is asked for
ALWAYS = "TFM_JAX_CACHE_VERIFY"  # environment variable: so is everything if it is set
ENDING = ".digest"  # of the names of files in which digests are remembered
_WEEK = 7 * 86_400  # seconds, after which the content is read again
_TICK = 2.0  # seconds between a change and a later one that times must tell apart


def known_digest(path: str | Path, memory: Path) -> str:
    """sha256 of the bytes of a file, hexadecimal.

    That of a large file is taken from ``memory`` if size, times of change and inode are
    those of when it was computed, at most a week ago.

    Args: memory: a folder to which only the user writes.
    """
    status = os.stat(path)
    if status.st_size < LARGE or os.environ.get(ALWAYS):
        return digest(path)
    name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
    note, now = memory / f"{name}{ENDING}", time.time()
    version = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        said = json.loads(note.read_text(encoding="utf-8"))
        if said["version"] == version and 0 <= now - said["read"] < _WEEK:
            return str(said["sha256"])
    with announced(f"reading {path}, {status.st_size / 1e9:.1f} GB, for its digest"):
        sha256 = digest(path)
    if now - max(status.st_mtime, status.st_ctime) > _TICK:
        part = note.with_name(f"{name}.{os.getpid()}{ENDING}")
        with contextlib.suppress(OSError):
            said = {"version": version, "read": now, "sha256": sha256}
            part.write_text(json.dumps(said), encoding="utf-8")
            os.replace(part, note)
    return sha256
