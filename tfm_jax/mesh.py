"""Devices as a mesh (data, fsdp, tensor), and where arrays lie on it."""

import contextlib
import dataclasses
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.experimental import multihost_utils
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tfm_jax.config import ConfigError, check_numbers, knob
from tfm_jax.ops.dropout import SHARDS

AXES = ("data", "fsdp", "tensor")

# logical axis of a parameter or activation -> mesh axes
Rules = Sequence[tuple[str, str | tuple[str, ...] | None]]
RULES: Rules = (
    ("batch", ("data", "fsdp")),
    ("vocab", "tensor"),
    ("heads", "tensor"),
    ("mlp", "tensor"),
    ("embed", "fsdp"),
    ("length", None),
    ("kv", None),
    ("layers", None),
)


def _fused(sums):
    """``sums`` of each device's own rows; all that it found travels as one array.

    On CPU devices they meet once then, not once for every array (0.1 ms each on 2
    cores).
    """

    def of_my_rows(*inputs):
        found, unravel = ravel_pytree(sums(*inputs))
        return unravel(jax.lax.psum(found, SHARDS))

    return _apart(sums, of_my_rows, set(AXES), lambda micro: True)


def _per_array(sums):
    """XLA divides the rows and exchanges every sum where it arises.

    Of several micro-batches each shard of the rows first adds up its own sums, so that
    they are exchanged once. What fsdp divides is still reduced and scattered in every
    micro-batch: no device ever holds a whole gradient.
    """

    def of_my_rows(*inputs):
        return jax.lax.psum(sums(*inputs), SHARDS)

    return _apart(sums, of_my_rows, {SHARDS}, lambda micro: micro > 1)


def _apart(sums, of_my_rows, axes, wanted):
    """``of_my_rows`` where there are several shards, else ``sums``.

    Args:
        axes: of the mesh, which XLA divides nothing over any more.
        wanted: of the number of micro-batches, whether it pays.
    """
    whole, rows = PartitionSpec(), PartitionSpec(None, SHARDS)

    def within(*inputs):
        with nn.logical_axis_rules(without(axes)):
            return of_my_rows(*inputs)

    apart = jax.shard_map(
        within,
        in_specs=(whole, whole, rows, whole),
        out_specs=whole,
        axis_names=axes,
        check_vma=False,  # True sums every gradient as soon as it is there
    )

    def of_all_rows(params, rng, batch, same):
        shards = jax.sharding.get_abstract_mesh().shape.get(SHARDS, 1)
        several = shards > 1 and wanted(len(jax.tree.leaves(batch)[0]))
        return (apart if several else sums)(params, rng, batch, same)

    return of_all_rows


def without(axes: Collection[str]) -> Rules:
    """RULES that divide nothing over the mesh ``axes``."""
    rules = []
    for name, over in RULES:
        over = (over,) if isinstance(over, str) else over or ()
        rules.append((name, tuple(axis for axis in over if axis not in axes) or None))
    return tuple(rules)


# sums(params, rng, batch [A, B, ...], what is the same for all rows) -> tree of sums
ALLREDUCES = {"per_array": _per_array, "fused": _fused}


PRECISIONS = ("default", "high", "highest")


@dataclasses.dataclass(frozen=True)
class Config:
    """How many devices each mesh axis spans; at most one may be -1, "the rest"."""

    ROLE = "execution"

    data: int = knob(-1, "copies of the model, each with a share of the batch", low=-1)
    fsdp: int = knob(
        1, "shards of parameters and optimizer state, gathered when used", low=-1
    )
    tensor: int = knob(1, "shards of heads, feed-forward width and vocabulary", low=-1)
    cpu_devices: int = knob(
        0,
        "on a machine without accelerator; 0: one per core, at most 8",
        low=0,
        high=4_096,
    )
    gradient_allreduce: str = knob(
        "per_array",
        "of gradients; fused: as one array, faster on CPUs",
        choices=ALLREDUCES,
    )
    matmul_precision: str = knob(
        "default",
        "of products of float32 numbers, see jax.default_matmul_precision: by default "
        "a TPU rounds the numbers to bfloat16 first, a recent GPU to TF32; a CPU never "
        "does",
        choices=PRECISIONS,
    )
    processes: int = knob(
        1, "more find each other as jax.distributed does: Slurm, TPU, ...", low=1
    )

    def __post_init__(self):
        check_numbers(self, "mesh")
        sizes = (self.data, self.fsdp, self.tensor)
        if any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
            raise ValueError(
                f"mesh.data={self.data}, mesh.fsdp={self.fsdp}, "
                f"mesh.tensor={self.tensor} must be positive, one of them may be -1"
            )
        if self.gradient_allreduce == "fused" and (self.fsdp, self.tensor) != (1, 1):
            raise ValueError(
                f"mesh.gradient_allreduce={self.gradient_allreduce!r} needs whole "
                f"copies of the model, mesh.fsdp=1 and mesh.tensor=1, not {self.fsdp} "
                f"and {self.tensor}"
            )


def make_mesh(
    cfg: Config, devices: Sequence[jax.Device] | None = None
) -> jax.sharding.Mesh:
    """Mesh over ``devices``, by default all of all processes.

    Raises: ConfigError if the sizes do not multiply to a divisor of their number.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [cfg.data, cfg.fsdp, cfg.tensor]
    if -1 in sizes:
        known = -math.prod(sizes)
        sizes[sizes.index(-1)] = max(len(devices) // known, 1)
    if math.prod(sizes) > len(devices) or len(devices) % math.prod(sizes):
        raise ConfigError(
            f"mesh.data={cfg.data}, mesh.fsdp={cfg.fsdp}, mesh.tensor={cfg.tensor} "
            f"need a divisor of the {len(devices)} devices there are"
        )
    return jax.make_mesh(
        tuple(sizes),
        AXES,
        axis_types=(AxisType.Auto,) * 3,
        devices=devices[: math.prod(sizes)],
    )


@contextlib.contextmanager
def using(cfg: Config, mesh: jax.sharding.Mesh, rules: Rules = RULES) -> Iterator[None]:
    """What is traced here is for ``mesh``, divided by ``rules``, as ``cfg`` says."""
    with (
        jax.set_mesh(mesh),
        nn.logical_axis_rules(rules),
        contextlib.ExitStack() as stack,
    ):
        if cfg.matmul_precision != "default":  # which is what JAX was set to
            stack.enter_context(jax.default_matmul_precision(cfg.matmul_precision))
        yield


def shardings(mesh: jax.sharding.Mesh, abstract: Any, params_specs: Any) -> Any:
    """Tree of ``NamedSharding`` for a state whose subtrees may mirror the parameters.

    Args:
        abstract: pytree of shapes, for example of a ``TrainState``.
        params_specs: tree of logical specs of the parameters. A leaf of ``abstract``
            whose path ends like a parameter's and has its rank lies as that one does;
            all else is replicated.
    """
    specs = {_path(p): s for p, s in jax.tree_util.tree_leaves_with_path(params_specs)}

    def place(path, leaf):
        keys = _path(path)
        suffixes = (keys[i:] for i in range(len(keys)))
        spec = next((specs[s] for s in suffixes if s in specs), PartitionSpec())
        if len(spec) != leaf.ndim:
            spec = PartitionSpec()
        sharding = nn.logical_to_mesh_sharding(spec, mesh, RULES)
        other = 1 if tuple(spec) == ("vocab", "embed") else None
        return _where_divisible(mesh, sharding, leaf.shape, other)

    return jax.tree_util.tree_map_with_path(place, abstract)


def _where_divisible(mesh, sharding, shape, other):
    """Drops mesh axes that do not divide the array's axis (a vocabulary of 9,713).

    They divide the ``other`` axis instead if there is one, as the width of a table; by
    rows it lies when it is used, where shards need not be equal.
    """

    def divides(names, size):
        return size % math.prod(mesh.shape[name] for name in names) == 0

    spec = [(a,) if isinstance(a, str) else a or () for a in sharding.spec]
    spec += [()] * (len(shape) - len(spec))
    for number, size in enumerate(shape):
        if not divides(spec[number], size):
            left, spec[number] = spec[number], ()
            if other is not None and divides((*spec[other], *left), shape[other]):
                spec[other] = (*spec[other], *left)
    return NamedSharding(mesh, PartitionSpec(*(names or None for names in spec)))


def _path(path):
    return tuple(getattr(k, "key", getattr(k, "name", None)) for k in path)


def batch_sharding(mesh: jax.sharding.Mesh, leading: int = 0) -> NamedSharding:
    """Rows over (data, fsdp), after ``leading`` axes that are not divided."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * leading, ("data", "fsdp")))


def own_rows(mesh: jax.sharding.Mesh) -> list[int]:
    """Which of ``row_multiple`` parts of a batch the devices of this process have.

    All of them where ``tensor`` alone divides the processes.
    """
    count = row_multiple(mesh)
    parts = batch_sharding(mesh).addressable_devices_indices_map((count,)).values()
    return sorted({row for part in parts if part for row in range(count)[part[0]]})


def of_all_rows(mesh: jax.sharding.Mesh, counted: float) -> float:
    """What this process counted of its rows of a batch, of those of all processes."""
    if jax.process_count() == 1:
        return counted
    counts = multihost_utils.process_allgather(np.float32(counted))
    copies = len(own_rows(mesh)) * jax.process_count() / row_multiple(mesh)
    return float(np.sum(counts)) / copies


def put_batch(mesh: jax.sharding.Mesh, batch: Any, leading: int = 0) -> Any:
    """This process's share of a batch -> global arrays; rows divide the devices."""
    sharding = batch_sharding(mesh, leading)
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)  # in half the time
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, x), batch
    )


def put_whole(mesh: jax.sharding.Mesh, batch: Any) -> Any:
    """A batch that every process has as a whole -> global arrays."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(x.shape, sharding, x.__getitem__), batch
    )


def divided(tree: Any) -> bool:
    """Whether a device has but a share of some array, or of one that is wanted."""
    placed = (getattr(x, "sharding", None) for x in jax.tree.leaves(tree))
    return not all(s is None or s.is_fully_replicated for s in placed)


def on_this_host(tree: Any) -> Any:
    """Global arrays -> the same values where one process alone can use them.

    With several processes all must call it at the same point.
    """
    return jax.tree.map(_on_this_host, tree)


def _on_this_host(x):
    if not isinstance(x, jax.Array) or x.is_fully_addressable:
        return x
    if x.is_fully_replicated:
        return x.addressable_data(0)
    return multihost_utils.process_allgather(x, tiled=True)


def fetch(tree: Any) -> Any:
    """``on_this_host`` in memory of the host, for example what has been decoded."""
    return jax.device_get(on_this_host(tree))


def row_multiple(mesh: jax.sharding.Mesh) -> int:
    """Rows of a batch come in multiples of this."""
    return mesh.shape["data"] * mesh.shape["fsdp"]
