"""Frozen: parameters that no step changes, stored once beside all checkpoints of a run.

``frozen/SHA256/`` holds ``state/`` (arrays, Orbax) and ``manifest.json``; its name is
that of the content of its arrays, by which the checkpoints of ``checkpoints/`` and
``averaged/`` refer to it. It is whole before any of them does. Runs side by side that
hold the same parameters still share the files by hard links.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from tfm_jax.runs.process.exits import CorruptCheckpoint
from tfm_jax.runs.storage import arrays, manifest
from tfm_jax.runs.workdir import require_held

DIRECTORY = "frozen"  # of a workdir


def beside(checkpoint: Path) -> Path:
    """Where what a checkpoint refers to lies, of a link to one beside its target."""
    here, there = (
        path.parents[1] / DIRECTORY
        for path in (checkpoint.absolute(), checkpoint.resolve())
    )
    return here if here.is_dir() else there


def digest(host: Mapping[str, np.ndarray]) -> str:
    """sha256 of names, types, shapes and bits of arrays, however they are stored."""
    content = hashlib.sha256()
    for name, array in sorted(host.items()):
        described = [name, str(array.dtype), list(array.shape)]
        content.update(json.dumps(described).encode())
        content.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return content.hexdigest()


def write(store: Path, host: Mapping[str, np.ndarray]) -> str:
    """Leaves arrays in ``store`` unless they are there; their digest.

    Args: store: of a workdir; a run beside it that has the same shares its files.
    """
    name = digest(host)
    final = store / name
    if final.is_dir() and not problems(store, [name]):
        return name
    temporary = store / f"{name}.tmp-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700, parents=True)
    if not _linked(store, name, temporary):
        arrays.write(temporary / "state", host)
        manifest.write(temporary, step=0, tree=arrays.describe(host))
    manifest.sync_tree(temporary)
    require_held(store.parent)
    if final.exists():  # and damaged
        os.rename(final, store / f"{name}.corrupt-{os.getpid()}")
    os.rename(temporary, final)
    manifest.sync(store)
    manifest.sync(store.parent)
    return name


def _linked(store, name, folder):
    """Whether ``folder`` now has the files of a run beside this one."""
    for other in sorted(store.parent.parent.glob(f"*/{DIRECTORY}/{name}")):
        if other.parent == store:
            continue
        try:
            read(other.parent, [name])
            for file in (*manifest.read(other)["files"], manifest.NAME):
                (folder / file).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.link(other / file, folder / file, follow_symlinks=False)
            return True
        except (OSError, ValueError, CorruptCheckpoint) as error:
            logging.info("%s is not shared: %s", other, error)
            shutil.rmtree(folder)
            folder.mkdir(mode=0o700)
    return False


def problems(store: Path, names: Iterable[str], *, contents: bool = True) -> list[str]:
    """What is wrong with some of what lies in ``store``; see ``manifest.problems``."""
    return [
        f"{DIRECTORY}/{name}: {problem}"
        for name in names
        for problem in manifest.problems(store / name, contents=contents)
    ]


def read(store: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Path of each parameter -> its value.

    Raises: CorruptCheckpoint if one is missing, or is not what it is named by.
    """
    host: dict[str, np.ndarray] = {}
    for name in names:
        folder = store / name
        try:
            part = arrays.read(folder / "state", manifest.read(folder)["tree"])
        except (OSError, CorruptCheckpoint) as error:
            raise CorruptCheckpoint(f"{folder}: {error}") from error
        if digest(part) != name:
            raise CorruptCheckpoint(f"{folder}: content differs from its sha256")
        host |= part
    return host


def remove_leftovers(store: Path) -> None:
    """Deletes what a process left that was killed while it wrote."""
    for leftover in store.glob("*.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
