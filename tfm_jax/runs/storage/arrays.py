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
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from tfm_jax.runs.process.exits import (
    CorruptCheckpoint,
    InfrastructureError,
    one_line,
)

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


def to_host(named: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Copies of all leaves in host memory, complete on return.

    A copy even where the leaf already lies in host memory: the caller donates the state
    to the next step, which would otherwise overwrite what is being saved.
    """
    return {path: _host_copy(leaf) for path, leaf in named.items()}


def _host_copy(leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        if leaf.is_fully_replicated:
            leaf = leaf.addressable_data(0)
        else:
            leaf = multihost_utils.process_allgather(leaf, tiled=True)
    return np.array(leaf, order="C")


def write(directory: Path, host: Mapping[str, np.ndarray]) -> None:
    """Write host arrays with Orbax; empty ones, which it refuses, need no data."""
    full = {path: array for path, array in host.items() if array.size}
    with _orbax() as orbax:
        orbax.save(directory, args=ocp.args.PyTreeSave(full))


def read(directory: Path, tree: Mapping[str, dict]) -> dict[str, np.ndarray]:
    """Read the leaves named by ``tree`` (a part of the manifest's) into host memory.

    Nothing is allocated for arrays that are not as large as ``tree`` says.

    Raises: CorruptCheckpoint if there are no such arrays. InfrastructureError if they
        are larger than the memory of this machine.
    """
    full = {path: leaf for path, leaf in tree.items() if 0 not in leaf["shape"]}
    as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
    arguments = ocp.args.PyTreeRestore(
        item=dict.fromkeys(full, 0),
        restore_args=dict.fromkeys(full, as_numpy),
        partial_restore=True,
    )
    try:
        with _orbax() as orbax:
            stored = orbax.metadata(directory).item_metadata.tree
            _require_fitting(directory, {path: stored[path] for path in full}, full)
            host = orbax.restore(directory, args=arguments)
        for path in tree.keys() - full.keys():
            host[path] = np.zeros(tree[path]["shape"], tree[path]["dtype"])
        return {path: host[path] for path in tree}
    except (OSError, CorruptCheckpoint, InfrastructureError):
        raise
    except Exception as error:  # files that nobody damaged, but no arrays either
        said = one_line(error)[:300]
        raise CorruptCheckpoint(f"{directory} cannot be read: {said}") from error


def _require_fitting(directory, stored, tree):
    """Refuses arrays that are not as ``tree`` says, or that no memory here can hold."""
    lines = differences(describe(stored), tree)
    lines += [
        f"{path}: stored in pieces of {array.storage.chunk_shape}"
        for path, array in stored.items()
        if math.prod(array.storage.chunk_shape) > math.prod(array.shape)
    ]
    if lines:
        raise CorruptCheckpoint(f"{directory} is not as its manifest says: {lines[0]}")
    wanted = sum(math.prod(x.shape) * x.dtype.itemsize for x in stored.values())
    if wanted > memory():
        raise InfrastructureError(
            f"{directory} holds arrays of {wanted / 1e9:,.1f} GB, this machine has "
            f"{memory() / 1e9:,.1f} GB of memory"
        )


def memory() -> int:
    """Bytes that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _orbax() -> ocp.Checkpointer:
    """Orbax for this process alone: one writes, each reads, none waits for others."""
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def place(value: np.ndarray, like: Any) -> Any:
    """``value`` as the kind of array, and on the devices, that ``like`` has."""
    if isinstance(like, (np.ndarray, np.generic)):
        return value
    sharding = getattr(like, "sharding", None)
    if sharding is None or not getattr(like, "committed", True):
        return jnp.asarray(value)
    # Each process holds the whole value and hands over the pieces of its own devices.
    return jax.make_array_from_callback(value.shape, sharding, lambda i: value[i])


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
