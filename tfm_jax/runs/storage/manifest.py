"""The manifest of a checkpoint: sha256 and size of every file, and the state's tree.

Orbax restores a flipped bit as a wrong number and never complains (72 of 72 tried), so
the manifest is what makes a checkpoint trustworthy. It also protects itself: it holds
the sha256 of its own body and has exactly one spelling.
"""

import hashlib
import json
import os
import re
from collections.abc import Container, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from tfm_jax import bounded_json
from tfm_jax.runs.process.exits import CheckpointMismatch, CorruptCheckpoint

NAME = "manifest.json"
FORMATS = (1, 2)  # 2: with parameters that lie beside all checkpoints, see ``frozen``
LIBRARIES = ("tfm_jax", "jax", "flax", "orbax-checkpoint", "numpy")


def file_digest(path: Path) -> str:
    """sha256 of one file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text(body: Mapping) -> str:
    """The one spelling of a manifest with this body."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return json.dumps({**body, "sha256": digest}, indent=1, sort_keys=True) + "\n"


def write(
    directory: Path,
    *,
    step: int,
    tree: Mapping,
    frozen: Sequence[str] = (),
    files: Mapping[str, dict] | None = None,
    content: str = "",
) -> None:
    """Describe everything that lies in ``directory``; the last file of a checkpoint.

    Args:
        directory: complete but for the manifest.
        step: of the checkpoint.
        tree: path of a leaf -> {"shape": list of int, "dtype": name}.
        frozen: names of what lies beside all checkpoints, see ``frozen``.
        files: what ``describe`` said of some of them where they were written.
        content: what frozen parameters are named by.
    Raises: OSError if one of ``files`` is not here, or not as large.
    """
    files = dict(files or {})
    for name, entry in files.items():
        size = (directory / name).stat().st_size
        if size != entry["size"]:
            raise OSError(f"{name} has {size} bytes here, not {entry['size']}")
    files |= describe(directory, directory, files)
    versions = {name: _version(name) for name in LIBRARIES}
    body = dict(format=1, step=step, tree=tree, versions=versions, files=files)
    if frozen:
        body |= dict(format=2, frozen=[*frozen])
    if content:
        body |= dict(content=content)
    (directory / NAME).write_text(_text(body))


def describe(
    directory: Path, below: Path, known: Container[str] = ()
) -> dict[str, dict]:
    """Name in ``directory`` -> size and sha256 of the files that lie ``below``."""
    entries = {}
    for path in sorted(below.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_file() and name not in known:
            size = path.stat().st_size
            entries[name] = {"size": size, "sha256": file_digest(path)}
    return entries


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
        content = bounded_json.read_bytes(directory / NAME)
        manifest = bounded_json.loads(content, dict)
        del manifest["sha256"]
    except (FileNotFoundError, NotADirectoryError):
        raise CorruptCheckpoint(f"{NAME}: missing") from None
    except (ValueError, KeyError) as error:
        raise CorruptCheckpoint(f"{NAME}: unreadable ({error})") from error
    if _text(manifest).encode() != content:
        raise CorruptCheckpoint(f"{NAME}: content differs from its sha256")
    if manifest.get("format") not in FORMATS:
        known = " and ".join(map(str, FORMATS))
        raise CheckpointMismatch(
            f"{directory}: format {manifest.get('format')}, this release reads "
            f"{known}; load it with tfm_jax {_writer(manifest)}"
        )
    if not _well_formed(manifest):
        raise CorruptCheckpoint(f"{NAME}: not what this format holds")
    return manifest


def _writer(manifest: dict) -> str:
    versions = manifest.get("versions")
    return versions.get("tfm_jax", "?") if isinstance(versions, dict) else "?"


def _well_formed(manifest: dict) -> bool:
    """Whether the values have their types; a sha256 of its own is no proof of that."""
    parts: list[Any] = [manifest.get(name) for name in ("tree", "files", "versions")]
    if not all(isinstance(part, dict) for part in parts):
        return False
    leaves, files = parts[0].values(), parts[1].values()
    frozen = manifest.get("frozen", [])
    return (
        type(manifest.get("step")) is int
        and isinstance(frozen, list)
        and isinstance(manifest.get("content", ""), str)
        and all(isinstance(n, str) and re.fullmatch("[0-9a-f]{64}", n) for n in frozen)
        and all(isinstance(entry, dict) for entry in (*leaves, *files))
        and all(isinstance(leaf.get("dtype"), str) for leaf in leaves)
        and all(isinstance(leaf.get("shape"), list) for leaf in leaves)
        and all(type(n) is int and n >= 0 for leaf in leaves for n in leaf["shape"])
        and all(type(file.get("size")) is int for file in files)
        and all(isinstance(file.get("sha256"), str) for file in files)
    )


def problems(
    directory: Path, *, contents: bool = True, share: tuple[int, int] = (0, 1)
) -> list[str]:
    """What is wrong with the checkpoint in ``directory``; empty if it is sound.

    An error of the disk itself is raised as it is: it says nothing about the data.

    Args:
        directory: of one checkpoint.
        contents: also compare the sha256 of every file, not only its size.
        share: which one of how many processes, that divide the files, asks.
    """
    try:
        manifest = read(directory)
    except CorruptCheckpoint as error:
        return [str(error)]
    faults = []
    if directory.name.isdigit() and int(directory.name) != manifest["step"]:
        faults.append(f"{NAME}: step {manifest['step']} in directory {directory.name}")
    for name in _share(manifest["files"], *share):
        recorded = manifest["files"][name]
        fault = _fault(directory, name, recorded, contents)
        if fault:
            faults.append(f"{name[:255]}: {fault}")
    return faults


def _share(files: Mapping[str, Mapping], process: int, of: int) -> list[str]:
    """The files that one of several processes reads; each has about as many bytes."""
    loads, mine = [0] * of, []
    for name in sorted(files, key=lambda name: -files[name]["size"]):
        least = loads.index(min(loads))
        loads[least] += files[name]["size"]
        if least == process:
            mine.append(name)
    return mine


def _fault(directory: Path, name: str, recorded: Mapping, contents: bool) -> str:
    """What is wrong with one file; "" if nothing is."""
    path = directory / name
    if len(name) > 255 or "\0" in name:
        return "no name of a file"
    try:
        inside = path.resolve().is_relative_to(directory.resolve())
    except RuntimeError:
        return "a link to itself"
    if not inside:
        return "outside the checkpoint"
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    if size != recorded["size"]:
        return f"{size} bytes instead of {recorded['size']}"
    if contents and file_digest(path) != recorded["sha256"]:
        return "content differs from its sha256"
    return ""


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
