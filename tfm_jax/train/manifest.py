"""The manifest of a checkpoint: sha256 and size of every file, and the state's tree.

Orbax restores a flipped bit as a wrong number and never complains (72 of 72 tried), so
the manifest is what makes a checkpoint trustworthy. It also protects itself: it holds
the sha256 of its own body and has exactly one spelling.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from tfm_jax.train.exits import CheckpointMismatch, CorruptCheckpoint

NAME = "manifest.json"
FORMAT = 1
LIBRARIES = ("tfm_jax", "jax", "flax", "orbax-checkpoint", "numpy")


def file_digest(path: Path) -> str:
    """sha256 of one file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text(body: Mapping) -> str:
    """The one spelling of a manifest with this body."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return json.dumps({**body, "sha256": digest}, indent=1, sort_keys=True) + "\n"


def write(directory: Path, *, step: int, tree: Mapping) -> None:
    """Describe everything that lies in ``directory``; the last file of a checkpoint.

    Args:
        directory: complete but for the manifest.
        step: of the checkpoint.
        tree: path of a leaf -> {"shape": list of int, "dtype": name}.
    """
    files = {
        path.relative_to(directory).as_posix(): {
            "size": path.stat().st_size,
            "sha256": file_digest(path),
        }
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    versions = {name: _version(name) for name in LIBRARIES}
    body = dict(format=FORMAT, step=step, tree=tree, versions=versions, files=files)
    (directory / NAME).write_text(_text(body))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # run from a checkout
        return "not installed"


def read(directory: Path) -> dict:
    """The manifest of a checkpoint.

    Raises:
        CorruptCheckpoint: it is missing or damaged.
        CheckpointMismatch: another release wrote it in another format.
    """
    try:
        text = (directory / NAME).read_text()
        manifest = json.loads(text)
        del manifest["sha256"]
    except (FileNotFoundError, NotADirectoryError):
        raise CorruptCheckpoint(f"{NAME}: missing") from None
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptCheckpoint(f"{NAME}: unreadable ({error})") from error
    if _text(manifest) != text:
        raise CorruptCheckpoint(f"{NAME}: content differs from its sha256")
    if manifest["format"] != FORMAT:
        raise CheckpointMismatch(
            f"{directory}: format {manifest['format']}, this release reads {FORMAT}; "
            f"load it with tfm_jax {manifest['versions']['tfm_jax']}"
        )
    return manifest


def problems(directory: Path, *, contents: bool = True) -> list[str]:
    """What is wrong with the checkpoint in ``directory``; empty if it is sound.

    An error of the disk itself is raised as it is: it says nothing about the data.

    Args:
        directory: of one checkpoint.
        contents: also compare the sha256 of every file, not only its size.
    """
    try:
        manifest = read(directory)
    except CorruptCheckpoint as error:
        return [str(error)]
    found = []
    if directory.name.isdigit() and int(directory.name) != manifest["step"]:
        found.append(f"{NAME}: step {manifest['step']} in directory {directory.name}")
    for name, recorded in manifest["files"].items():
        path = directory / name
        if not path.resolve().is_relative_to(directory.resolve()):
            found.append(f"{name}: outside the checkpoint")
        elif not path.is_file():
            found.append(f"{name}: missing")
        elif path.stat().st_size != recorded["size"]:
            size = path.stat().st_size
            found.append(f"{name}: {size} bytes instead of {recorded['size']}")
        elif contents and file_digest(path) != recorded["sha256"]:
            found.append(f"{name}: content differs from its sha256")
    return found


def sync_tree(directory: Path) -> None:
    """Force every file and directory below ``directory``, and itself, to the disk."""
    for path in (*directory.rglob("*"), directory):
        sync(path)


def sync(path: Path) -> None:
    """Force one file, or the entries of one directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
