"""Commit: all processes write what they have, and a rename makes it a checkpoint.

Process 0 makes the folder; each writes its shards into it, forces them to the disk and
says what they are; process 0 writes the one manifest and renames. Whatever fails in one
of them fails in all, and leaves no checkpoint.
"""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from tfm_jax.runs.process.exits import InfrastructureError
from tfm_jax.runs.storage import arrays, frozen, manifest, shards
from tfm_jax.runs.storage.collective import Collective
from tfm_jax.runs.storage.shards import Shards
from tfm_jax.runs.workdir import require_held


class Contents(NamedTuple):
    """What a checkpoint is to hold.

    Attributes:
        step: of the checkpoint.
        tree: of what changes, see ``manifest.write``. host: this process's part of it.
        held: the same of frozen parameters, one group for each expression.
        stored: names of frozen parameters if there are no ``held``.
        files: name -> bytes of what lies beside the state.
    """

    step: int
    tree: Mapping[str, dict]
    host: Mapping[str, Shards]
    held: Sequence[Mapping[str, Shards]]
    stored: Sequence[str]
    files: Mapping[str, bytes]


def write(
    processes: Collective, final: Path, store: Path, contents: Contents
) -> list[str]:
    """Writes the checkpoint ``final``; the names of its frozen parameters in ``store``.

    In a thread of each process, all at the same time.
    Raises: InfrastructureError, in all of them, if one could not do its part.
    """
    temporary = final.with_name(f"{final.name}.tmp-{processes.name}")
    groups: list[Path] = []  # of frozen parameters whose digest nobody knows yet
    if jax.process_count() > 1:
        numbers = range(len(contents.held))
        groups = [store / f"{number}.tmp-{processes.name}" for number in numbers]
    try:
        processes.first(lambda: _begin(temporary, groups, contents.files))
        parts = [contents.host, *contents.held][: 1 + len(groups)]
        folders = [temporary, *groups]
        written = processes.all(lambda: [*map(_write, folders, parts)])
        files = [_merged(of_folder) for of_folder in zip(*written, strict=True)]
        finish = temporary, final, store, groups, files, contents
        return processes.first(lambda: _finish(*finish))
    except Exception as error:
        if jax.process_index() == 0:
            for folder in (temporary, *groups):
                _remove(folder)
        message = f"checkpoint {final} was not saved: {error}"
        raise InfrastructureError(message) from error


def _remove(folder):
    """Removes a folder in which TensorStore's threads may be at work for a moment."""
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.02)


def _begin(temporary, groups, files):
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    for folder in groups:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
    for name, content in files.items():
        (temporary / name).write_bytes(content)


def _write(folder, host):
    """This process's part of the arrays in a folder: name -> size and sha256."""
    arrays.write(folder / "state", host)
    own = shards.own_folder(folder / "state")
    if own.is_dir():
        manifest.sync_tree(own)
    return manifest.describe(folder, own)


def _merged(parts):
    return {name: entry for part in parts for name, entry in part.items()}


def _finish(temporary, final, store, groups, files, contents):
    arrays.merge(temporary / "state")
    stored = [*contents.stored]
    if groups:  # before anything refers to them
        trees = map(arrays.describe, contents.held)
        adopted = zip(groups, trees, files[1:], strict=True)
        stored = [frozen.adopt(store, *group) for group in adopted]
    elif contents.held:
        stored = [frozen.write(store, group) for group in contents.held]
    how = dict(step=contents.step, tree=contents.tree, frozen=stored, files=files[0])
    manifest.write(temporary, **how)
    manifest.sync_tree(temporary)
    require_held(final.parent.parent)
    os.rename(temporary, final)
    manifest.sync(final.parent)
    return stored
