"""A run's directory: usable before anything is compiled, and used by one process."""

import contextlib
import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from ml_collections import ConfigDict

from tfm_jax import bounded_json
from tfm_jax.config import ConfigError, load_run
from tfm_jax.runs.process.exits import (
    AlreadyRunning,
    CorruptCheckpoint,
    InfrastructureError,
    one_line,
)

LEASE = "lease.json"
_HELD: dict[Path, str] = {}  # workdir -> what the lease of this process says


def preflight(workdir: str | os.PathLike) -> Path:
    """Create ``workdir`` (for this user alone) and try what a run will do in it.

    Raises: InfrastructureError if a file cannot be written, renamed and deleted there.
    """
    workdir = Path(workdir).expanduser()
    try:
        workdir = workdir.absolute()
        probe = workdir / f".probe-{socket.gethostname()}-{os.getpid()}"
        renamed = probe.with_suffix(".renamed")
        workdir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            probe.write_bytes(b"x" * 4096)
            os.rename(probe, renamed)
        finally:
            probe.unlink(missing_ok=True)
            renamed.unlink(missing_ok=True)
    except OSError as error:
        raise InfrastructureError(
            f"--workdir={workdir} is unusable: {error}"
        ) from error
    return workdir


def replace(path: Path, content: str | dict) -> None:
    """Write a text file that is always whole, the one before or this one.

    Args: content: text, or an object for a JSON file that knows when it is damaged.
    Raises: InfrastructureError if this process has lost its lease on the folder.
    """
    require_held(path.parent)
    if isinstance(content, dict):
        content = json.dumps(bounded_json.sealed(content), indent=1) + "\n"
    with replacing(path) as file:
        file.write(content.encode())


def config_of(workdir: str | os.PathLike) -> ConfigDict:
    """The config of a run; if its file is damaged, that of a sound checkpoint.

    Raises: ConfigError for a workdir without run, or without a readable config.
    """
    try:
        return load_run(str(workdir))
    except ConfigError as error:
        if not Path(workdir, "checkpoints").is_dir():
            raise
        from tfm_jax.runs.storage import weights  # which imports JAX

        try:
            folder = weights.find(workdir)
        except (FileNotFoundError, CorruptCheckpoint):
            raise error from None
        taken = f"the config.json of checkpoint {folder.name} is taken"
        logging.warning("%s: %s", one_line(error), taken)
        return load_run(str(folder))


def describe(workdir: Path, texts: Mapping[str, str]) -> None:
    """Leaves what a run is: ``tokenizer.json`` as others read it, the rest sealed."""
    for name, text in texts.items():
        other = name == "tokenizer.json"
        replace(workdir / name, text if other else json.loads(text))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of ``path`` when all is in it."""
    temporary = path.with_name(f".{path.name}.tmp")
    set_aside(temporary)
    with open(temporary, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    set_aside(path)
    os.replace(temporary, path)


def set_aside(path: Path) -> None:
    """Renames what is in the way of a file, with a warning: a folder, pipe or link.

    Nothing is written through a link that a workdir from elsewhere brings along.
    """
    if not os.path.lexists(path) or (path.is_file() and not path.is_symlink()):
        return
    aside = path.with_name(f"{path.name}.damaged")
    while os.path.lexists(aside):
        aside = aside.with_name(f"{aside.name}+")
    os.rename(path, aside)
    logging.warning("%s was no file and is now called %s", path, aside.name)


def require_held(workdir: Path) -> None:
    """Whoever writes into ``workdir`` asks first, if this process has leased it.

    Raises: InfrastructureError if the lease is lost: the process was suspended, or its
        file system away, for so long that it was believed dead.
    """
    owner = _HELD.get(Path(workdir).absolute())
    if owner is not None and _read(Path(workdir, LEASE)) != owner:
        raise InfrastructureError(
            f"{workdir}: the lease was lost to another process or deleted; nothing "
            "more is written, start again"
        )


class Lease:
    """Context that holds a workdir for this process alone.

    The file ``lease.json`` names its owner, who touches it every ``beat`` seconds. A
    lease is stale if its owner is a dead process of this machine; that of an owner
    elsewhere, if nobody touched it while we watched for ``patience`` seconds.
    Clocks of two machines are never compared.

    Raises: AlreadyRunning on entry if a live process holds the workdir.
    """

    def __init__(
        self, workdir: str | os.PathLike, *, beat: float = 10.0, patience: float = 90.0
    ) -> None:
        self.path = Path(workdir).absolute() / LEASE
        self.beat = beat
        self.patience = patience
        self._owner = None
        self._done = threading.Event()

    def __enter__(self):
        # Of several that find one stale lease, the lock lets one decide at a time; the
        # kernel drops it with its holder, so it cannot become stale itself.
        set_aside(self.path.with_suffix(".lock"))
        with open(self.path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            seen = _read(self.path)
            if seen is not None and self._is_alive(seen):
                raise AlreadyRunning(f"{self.path.parent}: already running as {seen}")
            try:
                set_aside(self.path)
                self.path.unlink(missing_ok=True)
                self._owner = json.dumps(_identity())
                with open(self.path, "x") as file:
                    file.write(self._owner)
            except OSError as error:
                raise InfrastructureError(f"{self.path}: {error}") from error
        _HELD[self.path.parent] = self._owner
        threading.Thread(target=self._touch, name="lease", daemon=True).start()
        return self

    def __exit__(self, *exc_info):
        self._done.set()
        _HELD.pop(self.path.parent, None)
        if _read(self.path) == self._owner:
            self.path.unlink(missing_ok=True)

    def held(self) -> bool:
        """Whether a live process holds the workdir; asked at once, and not taken.

        An owner elsewhere lives while its last touch is younger than ``patience`` by
        the clock of the file system, which stamps its touches and ours.
        """
        seen = _read(self.path)
        if seen is None:
            return False
        owner = _owner(seen)
        if owner and owner["machine"] == _identity()["machine"]:
            return _started(owner["pid"]) == owner["started"]
        touched = _touched(self.path)
        now = _now(self.path.with_suffix(".lock"))
        return touched is not None and now - touched < self.patience * 1e9

    def _touch(self) -> None:
        while not self._done.wait(self.beat):
            try:
                if _read(self.path) != self._owner:
                    return  # lost: whoever watched believed us dead
                os.utime(self.path)
            except OSError:
                pass  # a passing fault of a network file system; the next beat retries

    def _is_alive(self, seen: str) -> bool:
        owner = _owner(seen)
        if owner and owner["machine"] == _identity()["machine"]:
            return _started(owner["pid"]) == owner["started"]
        deadline, first = time.monotonic() + self.patience, _touched(self.path)
        while time.monotonic() < deadline:
            if _touched(self.path) != first or _read(self.path) != seen:
                return True
            time.sleep(min(self.beat, 1.0) / 4)
        return False


def _identity() -> dict:
    """Who holds a lease. Containers share a boot, so the process namespace counts."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    machine = [socket.gethostname()]
    if boot.exists():
        machine += [boot.read_text().strip(), os.readlink(namespace)]
    pid = os.getpid()
    return {"machine": ":".join(machine), "pid": pid, "started": _started(pid)}


def _owner(seen: str) -> dict:
    """What ``_identity`` said; {} of a lease that is being written, torn or foreign."""
    try:
        owner = bounded_json.loads(seen, dict)
    except ValueError:
        return {}
    types = {"machine": str, "pid": int, "started": str}
    known = all(type(owner.get(name)) is kind for name, kind in types.items())
    return owner if known and 0 < owner["pid"] < 2**31 else {}


def _started(pid: int) -> str | None:
    """When a local process started, to tell it from a later one; None if it is gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # alive, of another user
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return "alive"  # no /proc on this system
    return None if fields[0] == "Z" else fields[19]


def _read(path: Path) -> str | None:
    try:
        return bounded_json.read_bytes(path, most=4096).decode(errors="replace")
    except FileNotFoundError:
        return None
    except ValueError:  # none that we wrote
        return ""


def _now(path: Path) -> int:
    """Nanoseconds: what the file system stamps a touch of ``path`` with."""
    try:
        os.utime(path)
        return path.stat().st_mtime_ns
    except OSError:  # not ours to touch
        return time.time_ns()


def _touched(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
