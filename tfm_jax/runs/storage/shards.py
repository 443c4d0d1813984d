"""Shards: the parts of arrays that lie on this process's devices, to and from disk.

An array is one zarr array in the layout of Orbax, whose chunks are its shards. Each
process writes its own into a database (OCDBT) of its own, ``ocdbt.process_N/``, and
``merge`` lays one index over all of them. Readers find whole arrays, whoever wrote
them, and take of each the chunks that they need.
"""

import asyncio
import dataclasses
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath
from orbax.checkpoint import type_handlers

from tfm_jax.runs.process import runtime

WRITTEN, READ = 2**24, 2**20  # bytes that may be in hand however small the largest is
# where a part of an array lies; (...,) is all of it
Index = tuple[slice | EllipsisType, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Shards:
    """What this process writes of one array, in host memory.

    Attributes:
        shape, dtype: of the whole array.
        shard: shape of every piece, on all processes.
        pieces: (where it lies in the array, its values) of each.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    shard: tuple[int, ...]
    pieces: Sequence[tuple[Index, np.ndarray]]

    @classmethod
    def of(cls, leaf: Any) -> "Shards":
        """Copies of the shards that are this process's to write, complete on return.

        Of replicas one is written, and by process 0 what every process has for itself.
        """
        shape = shard = tuple(leaf.shape)
        pieces: list[tuple[Any, np.ndarray]] = []
        mine = jax.process_index() == 0
        if not isinstance(leaf, jax.Array):
            pieces = [((...,), np.array(leaf, order="C"))] if mine else []
        elif mine or not leaf.is_fully_addressable:
            shard = leaf.sharding.shard_shape(shape)
            own = [s for s in leaf.addressable_shards if s.replica_id == 0]
            for piece in own:  # from all devices at the same time
                if not in_host_memory(piece.data):
                    piece.data.copy_to_host_async()
            pieces = [(piece.index, _copy(piece.data)) for piece in own]
        return cls(shape, np.dtype(leaf.dtype), shard, pieces)

    @property
    def nbytes(self) -> int:
        """Of the pieces."""
        return sum(piece.nbytes for _, piece in self.pieces)

    def whole(self) -> np.ndarray:
        """The array, of which this process has all pieces."""
        if len(self.pieces) == 1:
            return self.pieces[0][1]
        array = np.empty(self.shape, self.dtype)
        for index, piece in self.pieces:
            array[index] = piece
        return array


def _copy(piece: jax.Array) -> np.ndarray:
    """Values of an array on one device; the next step may overwrite its memory.

    NumPy sees through to the memory of a host; from other devices it copies anyway.
    """
    seen = np.asarray(piece)
    return np.array(seen, order="C") if in_host_memory(piece) else seen


def in_host_memory(like: Any) -> bool:
    """Whether an array, or one that is wanted, lies in the memory of its hosts."""
    if isinstance(like, (np.ndarray, np.generic)):
        return True
    if like.sharding is None:
        return jax.default_backend() == "cpu"
    platforms = {device.platform for device in like.sharding.device_set}
    return platforms == {"cpu"} or (like.sharding.memory_kind or "").endswith("host")


def local_bytes(leaf: Any) -> int:
    """Bytes of an array, or of one that is wanted, that its devices here have of it.

    Each part counts once, however many of the devices have it.
    """
    indices = _indices(leaf)
    if indices is None:
        return math.prod(leaf.shape) * leaf.dtype.itemsize
    shard = leaf.sharding.shard_shape(tuple(leaf.shape))
    return len(indices) * math.prod(shard) * leaf.dtype.itemsize


def _indices(like: Any) -> dict[tuple, Index] | None:
    """The parts that the devices of this process need; None for a whole array."""
    sharding = getattr(like, "sharding", None)
    if sharding is None or not getattr(like, "committed", True):
        return None
    parts = sharding.addressable_devices_indices_map(tuple(like.shape))
    return {_key(index): index for index in parts.values()}


def _key(index: Any) -> tuple:
    return tuple((part.start, part.stop) for part in index)


def place(read: Callable[[Any], np.ndarray], like: Any) -> Any:
    """The kind of array, on the devices, that ``like`` has; ``read`` of its indices."""
    if isinstance(like, (np.ndarray, np.generic)):
        return read((...,))
    if _indices(like) is None:
        return jnp.asarray(read((...,)))
    return jax.make_array_from_callback(tuple(like.shape), like.sharding, read)


@dataclasses.dataclass
class _Wanted(ocp.RestoreArgs):
    """How one array is to be read: as ``like`` it."""

    like: Any = None


class _Handler(type_handlers.NumpyHandler):
    """Shards for Orbax, which takes what they leave on the disk for a NumPy array.

    As many are in hand at a time as have the bytes of the largest: what is compressed,
    and what is read, takes memory besides the arrays. Those of a time share a file.
    """

    async def serialize(self, values, infos, args=None):
        del args
        todo = [(v, info) for v, info in zip(values, infos, strict=True) if v.pieces]
        # nothing is forced to the disk before all is written
        contexts = [
            ts.Context({"file_io_sync": False}, i.ts_context) for i in infos[:1]
        ]
        for batch in _batches(todo, lambda one: one[0].nbytes, WRITTEN):
            await _all(self._write(*one, *contexts) for one in batch)
            runtime.return_freed_pages()
        return []

    async def _write(self, shards, info, context):
        spec = type_handlers.get_json_tspec_write(
            info,
            use_ocdbt=True,
            global_shape=shards.shape,
            local_shape=shards.shard,
            dtype=shards.dtype,
            process_index=jax.process_index(),
        )
        store = await ts.open(ts.Spec(spec), create=True, open=True, context=context)
        await _all(
            store[index].write(piece, can_reference_source_data_indefinitely=True)
            for index, piece in shards.pieces
        )

    async def deserialize(self, infos, args=None):
        arrays = []
        todo = zip(infos, args or (), strict=True)
        for batch in _batches(todo, lambda one: local_bytes(one[1].like), READ):
            arrays += await asyncio.gather(*(self._read(*one) for one in batch))
            runtime.return_freed_pages()
        return arrays

    async def _read(self, info, arg):
        ocdbt = info.is_ocdbt_checkpoint
        spec = type_handlers.get_json_tspec_read(info, use_ocdbt=ocdbt)
        store = await ts.open(ts.Spec(spec), open=True, context=info.ts_context)
        indices = _indices(arg.like)
        if indices is None:
            whole = await store.read()
            return place(lambda _: whole, arg.like)
        parts = {key: await store[index].read() for key, index in indices.items()}
        return place(lambda index: parts[_key(index)], arg.like)


async def _all(writes: Iterable[Awaitable]) -> None:
    """Waits until none of them writes any more, and raises what the first raised."""
    ends = await asyncio.gather(*writes, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end


def _batches(todo: Iterable, size: Callable[[Any], int], most: int) -> Iterator[list]:
    """Consecutive ones that together have ``most`` bytes, or those of the largest."""
    batch: list = []
    todo, full = list(todo), 0
    most = max([most, *map(size, todo)])
    for one in todo:
        if batch and full + size(one) > most:
            yield batch
            batch, full = [], 0
        batch.append(one)
        full += size(one)
    if batch:
        yield batch


def _orbax() -> ocp.PyTreeCheckpointHandler:
    """Orbax without its barriers and temporary folders; process 0 writes what is one's.

    The handler of ``jax.Array`` is there because Orbax warns when it is not.
    """
    me = jax.process_index()
    return ocp.PyTreeCheckpointHandler(
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=0, active_processes={0, me}
        ),
        type_handler_registry=type_handlers.create_type_handler_registry(
            (Shards, _Handler()), (jax.Array, type_handlers.ArrayHandler())
        ),
    )


def own_folder(directory: Path) -> Path:
    """Where below ``directory`` this process writes its pieces."""
    return directory / f"ocdbt.process_{jax.process_index()}"


def write(directory: Path, host: Mapping[str, Shards]) -> None:
    """Write this process's pieces; process 0 also what says which arrays there are."""
    _orbax().save(epath.Path(directory), args=ocp.args.PyTreeSave(dict(host)))


def merge(directory: Path) -> None:
    """One index over what all processes have written; by process 0, after that."""
    _orbax().finalize(epath.Path(directory))


def stored(directory: Path) -> dict[str, Any]:
    """Path -> what Orbax knows of each array: its shape, dtype and chunks."""
    return _orbax().metadata(epath.Path(directory)).tree


def read(directory: Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """The named arrays, each as ``like`` it and where that lies."""
    if not like:  # which Orbax takes for a number
        return {}
    arguments = ocp.args.PyTreeRestore(
        item=dict.fromkeys(like, 0),
        restore_args={
            path: _Wanted(restore_type=Shards, like=leaf) for path, leaf in like.items()
        },
        partial_restore=True,
    )
    return _orbax().restore(epath.Path(directory), args=arguments)
