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
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfm_jax.runs.process.exits import CorruptCheckpoint
from tfm_jax.runs.storage import arrays, manifest
from tfm_jax.runs.storage.shards import Shards
from tfm_jax.runs.workdir import require_held

DIRECTORY = "frozen"  # of a workdir
OTHER = "content differs from its sha256"


def beside(checkpoint: Path) -> Path:
    """Where what a checkpoint refers to lies, of a link to one beside its target."""
    here, there = (
        path.parents[1] / DIRECTORY
        for path in (checkpoint.absolute(), checkpoint.resolve())
    )
    return here if here.is_dir() else there


def digest(named: Iterable[tuple[str, np.ndarray]]) -> str:
    """sha256 of names, types, shapes and bits of arrays, however they are stored.

    Args: named: sorted by name; only one array is needed at a time.
    """
    content = hashlib.sha256()
    for name, array in named:
        described = [name, str(array.dtype), list(array.shape)]
        content.update(json.dumps(described).encode())
        content.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return content.hexdigest()


def write(store: Path, host: Mapping[str, Shards]) -> str:
    """Leaves arrays, of which all is here, in ``store``; their digest.

    Args: store: of a workdir; a run beside it that has the same shares its files.
    """

    def fill(folder):
        arrays.write(folder / "state", host)
        arrays.merge(folder / "state")
        manifest.write(folder, step=0, tree=arrays.describe(host), content=name)

    name = digest((path, host[path].whole()) for path in sorted(host))
    _keep(store, name, fill)
    return name


def adopt(store: Path, folder: Path, tree: Mapping, files: Mapping) -> str:
    """Takes a folder, into whose ``state`` all processes have written; the digest.

    Args: tree, files: see ``manifest.write``.
    """

    def fill(target):
        os.rename(folder / "state", target / "state")
        manifest.write(target, step=0, tree=tree, files=files, content=name)

    arrays.merge(folder / "state")
    name = digest(_arrays(folder, tree))
    _keep(store, name, fill)
    shutil.rmtree(folder)
    return name


def _arrays(folder: Path, tree: Mapping) -> Iterator[tuple[str, np.ndarray]]:
    for path in sorted(tree):
        yield from arrays.read(folder / "state", {path: tree[path]}).items()


def _keep(store, name, fill):
    """Makes the folder ``name`` by ``fill``, unless it is there or beside this run."""
    final = store / name
    if final.is_dir() and not _fault(store, name):
        return
    temporary = store / f"{name}.tmp-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700, parents=True)
    if not _linked(store, name, temporary):
        fill(temporary)
    manifest.sync_tree(temporary)
    require_held(store.parent)
    if final.exists():  # and damaged
        os.rename(final, store / f"{name}.corrupt-{os.getpid()}")
    os.rename(temporary, final)
    manifest.sync(store)
    manifest.sync(store.parent)


def _fault(store, name):
    """What is wrong with the folder ``name``; "" if nothing is."""
    if wrong := problems(store, [name]):
        return wrong[0]
    try:
        return "" if _content(store / name) == name else OTHER
    except CorruptCheckpoint as error:
        return str(error)


def _content(folder):
    """What the arrays are named by; manifests of before do not say it."""
    body = manifest.read(folder)
    return body.get("content") or digest(_arrays(folder, body["tree"]))


def _linked(store, name, folder):
    """Whether ``folder`` now has the files of a run beside this one.

    Their arrays are looked at, whatever that run says of them.
    """
    for other in sorted(store.parent.parent.glob(f"*/{DIRECTORY}/{name}")):
        if other.parent == store:
            continue
        try:
            if wrong := problems(other.parent, [name]):
                raise CorruptCheckpoint(wrong[0])
            for file in (*manifest.read(other)["files"], manifest.NAME):
                (folder / file).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.link(other / file, folder / file, follow_symlinks=False)
            if digest(_arrays(folder, manifest.read(folder)["tree"])) != name:
                raise CorruptCheckpoint(OTHER)
            return True
        except (OSError, ValueError, CorruptCheckpoint) as error:
            logging.info("%s is not shared: %s", other, error)
            shutil.rmtree(folder)
            folder.mkdir(mode=0o700)
    return False


def problems(
    store: Path,
    names: Iterable[str],
    *,
    contents: bool = True,
    share: tuple[int, int] = (0, 1),
) -> list[str]:
    """What is wrong with some of what lies in ``store``; see ``manifest.problems``."""
    wrong = []
    for name in names:
        faults = manifest.problems(store / name, contents=contents, share=share)
        if not faults and manifest.read(store / name).get("content", name) != name:
            faults = [OTHER]
        wrong += [f"{DIRECTORY}/{name}: {problem}" for problem in faults]
    return wrong


def tree(store: Path, names: Iterable[str]) -> dict[str, dict]:
    """Path -> shape and dtype of each parameter. Raises: CorruptCheckpoint."""
    leaves: dict[str, dict] = {}
    for name in names:
        try:
            leaves |= manifest.read(store / name)["tree"]
        except CorruptCheckpoint as error:
            raise CorruptCheckpoint(f"{store / name}: {error}") from error
    return leaves


def read(
    store: Path, names: Iterable[str], like: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Path of each parameter -> its value, see ``arrays.read``.

    Raises: CorruptCheckpoint if one is missing, or is not what it is named by.
    """
    host: dict[str, Any] = {}
    for name in names:
        folder = store / name
        try:
            if _content(folder) != name:
                raise CorruptCheckpoint(OTHER)
            tree = manifest.read(folder)["tree"]
            host |= arrays.read(folder / "state", tree, like)
        except (OSError, CorruptCheckpoint) as error:
            raise CorruptCheckpoint(f"{folder}: {error}") from error
    return host


def remove_leftovers(store: Path) -> None:
    """Deletes what a process left that was killed while it wrote."""
    for leftover in store.glob("*.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
