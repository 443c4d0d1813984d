"""Parameters out of checkpoints, on any machine and without a model; only reads."""

import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from tfm_jax.runs.process.exits import CorruptCheckpoint
from tfm_jax.runs.storage import arrays, frozen, manifest

DIRECTORY = "checkpoints"  # of a workdir


def verify(path: str | os.PathLike) -> list[str]:
    """What is wrong with one checkpoint directory; an empty list if it is sound."""
    return problems(Path(path))


def problems(
    path: Path, *, contents: bool = True, share: tuple[int, int] = (0, 1)
) -> list[str]:
    """What is wrong with a checkpoint, or with the frozen parameters it refers to.

    Args: see ``manifest.problems``.
    """
    wrong = manifest.problems(path, contents=contents, share=share)
    names = () if wrong else manifest.read(path).get("frozen", ())
    how: dict[str, Any] = dict(contents=contents, share=share)
    return wrong or frozen.problems(frozen.beside(path), names, **how)


def find(path: str | os.PathLike) -> Path:
    """The newest sound checkpoint of a workdir or a checkpoints directory, or itself.

    Raises:
        FileNotFoundError: there is none.    CorruptCheckpoint: none is sound.
    """
    path = Path(path).expanduser()
    if (path / manifest.NAME).exists():
        require_sound(path)
        return path
    below = path / DIRECTORY if (path / DIRECTORY).is_dir() else path
    for newest in newest_sound(below, 1):
        return newest
    if not path.is_dir():
        raise FileNotFoundError(f"no checkpoint in {path}: there is no such folder")
    raise FileNotFoundError(f"no checkpoint in {path}: is it the workdir of a run?")


def load_params(path: str | os.PathLike, *, ema: bool = False) -> dict:
    """Parameters as nested dicts of numpy arrays, on any machine, without a target.

    Args:
        path: a workdir, a checkpoints directory (newest sound one) or one checkpoint.
        ema: the moving average of the parameters instead of the last ones.

    Raises: KeyError if the run kept no moving average; see also ``find``.
    """
    return _nested(_flat_params(find(path), ema))


def average(paths: Iterable[str | os.PathLike], *, ema: bool = False) -> dict:
    """The mean of the parameters of several checkpoints, accumulated in float64.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 6.1 (last 5 checkpoints).
    Raises: ValueError if the checkpoints differ in structure or in an integer leaf.
    """
    first, *others = (_flat_params(find(path), ema) for path in paths)
    expected = arrays.describe(first)
    for other in others:
        lines = arrays.differences(arrays.describe(other), expected)
        if lines:
            raise ValueError("checkpoints cannot be averaged: " + "; ".join(lines[:5]))
    count = 1 + len(others)
    mean = {}
    for path, value in first.items():
        if jnp.issubdtype(value.dtype, jnp.floating):
            total = sum(flat[path].astype(np.float64) for flat in (first, *others))
            mean[path] = np.asarray(total / count).astype(value.dtype)
        elif all(np.array_equal(value, other[path]) for other in others):
            mean[path] = value
        else:
            raise ValueError(f"checkpoints cannot be averaged: {path} is no float")
    return _nested(mean)


def _flat_params(path: Path, ema: bool) -> dict[str, np.ndarray]:
    prefix, body = "ema/" if ema else "params/", manifest.read(path)
    saved, still = body["tree"], body.get("frozen", ())
    tree = {name: leaf for name, leaf in saved.items() if name.startswith(prefix)}
    if not tree:
        raise KeyError(f"{path} holds no {prefix[:-1]}; train.ema_decay was 0?")
    host = arrays.read((path / "state").absolute(), tree)
    moved = {name.removeprefix(prefix): value for name, value in host.items()}
    return frozen.read(frozen.beside(path), still) | moved


def _nested(flat: Mapping[str, np.ndarray]) -> dict:
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, leaf = path.split("/")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return nested


def numbered(directory: Path) -> list[Path]:
    """The committed checkpoints in a directory, oldest first, sound or not."""
    if not directory.is_dir():
        return []
    found = [p for p in directory.iterdir() if re.fullmatch("[0-9]{6,18}", p.name)]
    named = [p for p in found if p.name == f"{int(p.name):06d}"]
    return sorted(named, key=lambda p: int(p.name))


def newest_sound(directory: Path, most: int) -> list[Path]:
    """Up to ``most`` checkpoints, oldest first; damaged ones are left out, with a word.

    Raises: CorruptCheckpoint if there are checkpoints and none is sound.
    """
    sound: list[Path] = []
    if all_lost := lost(directory):
        raise CorruptCheckpoint(all_lost)
    there, why = numbered(directory), ""
    for path in reversed(there):
        if len(sound) == most:
            break
        if wrong := "; ".join(verify(path)):
            logging.warning("skipping checkpoint %s: %s", path, wrong)
            why = why or f", the newest: {wrong}"
        else:
            sound.append(path)
    if there and not sound:
        raise CorruptCheckpoint(f"every checkpoint in {directory} is corrupt{why}")
    return sound[::-1]


def corrupt(directory: Path) -> list[str]:
    """Names of the checkpoints that failed verification and were set aside."""
    return sorted(path.name for path in directory.glob("[0-9]*.corrupt*"))


def lost(directory: Path) -> str:
    """That all checkpoints were set aside, with their names; "" if it is not so."""
    names = "" if numbered(directory) else ", ".join(corrupt(directory))
    to_go_on = "to train again from step 0 delete that directory"
    said = f"every checkpoint in {directory} is corrupt: {names}; {to_go_on}"
    return said if names else ""


def require_sound(path: Path) -> None:
    """Raises CorruptCheckpoint, with the reasons, unless the checkpoint is sound."""
    if wrong := problems(path):
        raise CorruptCheckpoint(f"checkpoint {path}: {'; '.join(wrong)}")
