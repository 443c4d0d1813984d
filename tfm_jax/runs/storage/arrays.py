"""A training state as named host arrays, and back onto any devices.

A leaf is named by its path, ``params/encoder/block_0/query/kernel``; the names are what
lies on the disk and are public. Empty containers and None have no leaves: the target
of a restore brings them along.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tfm_jax.runs.process.exits import (
    CorruptCheckpoint,
    InfrastructureError,
    one_line,
)
from tfm_jax.runs.storage import shards
from tfm_jax.runs.storage.shards import Shards, merge

__all__ = [
    "describe",
    "differences",
    "leaves",
    "memory",
    "merge",
    "read",
    "to_host",
    "write",
]

HINTS = {
    "params": "compare model.* (model.layout too) and tokenizer.* with its config.json",
    "v_row": "adafactor now factors attention kernels, and scanned layers one by one: "
    "its older checkpoints can be evaluated and be init_from, not trained on",
    "opt_state": "compare optim.* with its config.json",
    "ema": "compare train.ema_decay with its config.json",
}


def leaves(state: Any) -> dict[str, Any]:
    """Path -> leaf of a state, or of a target of ``ShapeDtypeStruct``.

    Raises:
        TypeError: a leaf is not an array of numbers, or is deleted.
        ValueError: two leaves would get one path.
    """
    named = {}
    for keys, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        array = isinstance(leaf, (jax.Array, np.ndarray, np.generic))
        if not array and not isinstance(leaf, jax.ShapeDtypeStruct):
            raise TypeError(f"state leaf {path}: {type(leaf).__name__} is not an array")
        if leaf.dtype == object or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise TypeError(
                f"state leaf {path}: dtype {leaf.dtype} cannot be saved; "
                "of a random key keep jax.random.key_data"
            )
        if isinstance(leaf, jax.Array) and leaf.is_deleted():
            raise TypeError(f"state leaf {path}: already donated to another step")
        if path in named or path.count("/") + 1 != len(keys):
            raise ValueError(f"state leaf {path}: ambiguous path, no '/' in keys")
        named[path] = leaf
    return named


def describe(named: Mapping[str, Any]) -> dict[str, dict]:
    """Path -> {"shape", "dtype"}, as the manifest records it."""
    return {
        path: {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
        for path, leaf in named.items()
    }


def to_host(named: Mapping[str, Any]) -> dict[str, Shards]:
    """Copies in host memory of what this process writes of each, complete on return.

    A copy even where the leaf already lies in host memory: the caller donates the state
    to the next step, which would otherwise overwrite what is being saved.
    """
    return {path: Shards.of(leaf) for path, leaf in named.items()}


def write(directory: Path, host: Mapping[str, Shards]) -> None:
    """Write what this process has; empty arrays, which Orbax refuses, need no data.

    They can be read once all have written and process 0 has called ``merge``.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    shards.write(directory, {k: x for k, x in host.items() if math.prod(x.shape)})


def read(
    directory: Path, tree: Mapping[str, dict], like: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Read the leaves named by ``tree``, a part of the manifest's.

    Nothing is allocated for arrays that are not as large as ``tree`` says. They are
    read one after the other, several at once only if they are small.

    Args:
        like: path -> array, or ``ShapeDtypeStruct``, of the kind and on the devices
            that are wanted; of a sharded one this process reads its own shards. By
            default NumPy arrays.

    Raises: CorruptCheckpoint if there are no such arrays. InfrastructureError if those
        that stay in the memory of this machine are larger than it.
    """
    full = {path: leaf for path, leaf in tree.items() if 0 not in leaf["shape"]}
    try:
        stored = shards.stored(directory)
        stored = {path: stored[path] for path in full}
        _require_fitting(directory, stored, full)
        wanted = {path: (like or {}).get(path, _host(stored[path])) for path in full}
        _require_memory(directory, wanted)
        restored = shards.read(directory, wanted)
        for path in tree.keys() - full.keys():
            empty = np.zeros(tree[path]["shape"], tree[path]["dtype"])
            restored[path] = shards.place(
                empty.__getitem__, (like or {}).get(path, empty)
            )
        return {path: restored[path] for path in tree}
    except (OSError, CorruptCheckpoint, InfrastructureError):
        raise
    except Exception as error:  # files that nobody damaged, but no arrays either
        said = one_line(error)[:300]
        raise CorruptCheckpoint(f"{directory} cannot be read: {said}") from error


def _host(stored):
    """A NumPy array of this shape and type, which has no memory."""
    return np.broadcast_to(np.zeros((), stored.dtype), stored.shape)


def _require_fitting(directory, stored, tree):
    """Refuses arrays that are not as ``tree`` says."""
    lines = differences(describe(stored), tree)
    lines += [
        f"{path}: stored in pieces of {array.storage.chunk_shape}"
        for path, array in stored.items()
        if math.prod(array.storage.chunk_shape) > math.prod(array.shape)
    ]
    if lines:
        raise CorruptCheckpoint(f"{directory} is not as its manifest says: {lines[0]}")


def _require_memory(directory, wanted):
    """Of what accelerators get, one array at a time is on its way through here."""
    stays, passes = 0, [0]
    for like in wanted.values():
        size = shards.local_bytes(like)
        if shards.in_host_memory(like):
            stays += size
        else:
            passes.append(size)
    size = stays + max(passes)
    if size > memory():
        raise InfrastructureError(
            f"{directory} holds arrays of {size / 1e9:,.1f} GB, this machine has "
            f"{memory() / 1e9:,.1f} GB of memory"
        )


def memory() -> int:
    """Bytes that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def differences(saved: Mapping[str, dict], wanted: Mapping[str, dict]) -> list[str]:
    """One line per leaf in which a checkpoint does not fit a target; empty if it fits.

    Args:
        saved: the tree of the manifest.
        wanted: ``describe`` of the target.
    """
    lines, names = [], set()
    for path in sorted(saved.keys() | wanted.keys()):
        if saved.get(path) == wanted.get(path):
            continue
        names.update(path.split("/"))
        if path not in saved:
            lines.append(f"{path}: missing in the checkpoint")
        elif path not in wanted:
            lines.append(f"{path}: unexpected, only in the checkpoint")
        else:
            for what in ("shape", "dtype"):
                old, new = saved[path][what], wanted[path][what]
                if old != new:
                    lines.append(f"{path}: {what} {old} in the checkpoint, {new} here")
    # The optimizer mirrors the parameters: with other parameters it differs anyway.
    hints = [HINTS[name] for name in HINTS if name in names]
    return lines + hints[:1]
