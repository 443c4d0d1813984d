"""Rows into batches: endless and resumable to train, each row once to evaluate.

A row set is a NamedTuple of arrays whose first axis is rows; a field may be None, or
``gathered.Gathered``. Its ``shape`` is its number of rows and, last, what a row counts
for in the size of a batch: tokens, or 1 where a row is an item.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfm_jax.data.arrays.mapped_rows import rows_of
from tfm_jax.data.errors import DataError
from tfm_jax.data.watchdog import awaited, patience
from tfm_jax.knobs import check_numbers, knob


@dataclasses.dataclass(frozen=True)
class Order:
    """How rows follow one another; every data section has these."""

    ROLE = "operation"

    shuffle: bool = knob(
        True, "another order of the rows in every epoch", role="training"
    )
    prefetch: int = knob(
        4,
        "batches made ahead by one thread; 0: none, made on demand",
        low=0,
        high=10_000,
    )
    timeout_seconds: float = knob(
        600.0,
        "of waiting for data, after which the run ends with exit code 69; 0: for ever",
        low=0,
    )

    def __post_init__(self):
        getattr(super(), "__post_init__", lambda: None)()  # of the section's others
        check_numbers(self, "data")


def train_batches(
    cfg: Order,
    data: Any,
    *,
    batch_tokens: int,
    total_batches: int,
    seed: int,
    start: int = 0,
    shards: int = 1,
    own: Sequence[int] = (0,),
    micro_batches: int = 1,
    row_multiple: int = 1,
    batch_rows: Sequence[int] = (),
) -> "TrainBatches":
    """Endless shuffled epochs cut off after ``total_batches``: a `TrainBatches`.

    Args:
        cfg: the data section.
        data: `prepared.Prepared`.
        batch_tokens: tokens of a global batch, padding included; a batch has
            ``batch_tokens // row length`` rows, rounded down to ``row_multiple``.
        total_batches: where the iterator ends.
        seed: orders rows and batches, and draws what ``data.augment`` draws; the seed
            of a row is (seed, epoch, row).
        start: the first batch to give; any batch costs the same.
        shards: equal parts of the rows of each micro-batch.
        own: which of them to give; the global batch does not depend on it.
        micro_batches: consecutive parts of each global batch.
        row_multiple: what the rows of a batch must divide into, such as devices.
        batch_rows: of each shape, as the run began on other devices; kept if the
            micro-batches and shards divide them.

    Raises: DataError if the data does not fill one batch; ValueError if the rows of
        a batch do not divide into the shards.
    """
    if row_multiple % (micro_batches * shards):
        raise ValueError(
            f"row_multiple={row_multiple} must be a multiple of "
            f"micro_batches={micro_batches} times shards={shards}"
        )
    row_sets = data.train
    sizes = [rows_per_batch(rows, batch_tokens, row_multiple) for rows in row_sets]
    divide = not any(size % (micro_batches * shards) for size in batch_rows)
    if len(batch_rows) == len(sizes) and divide:
        sizes = [*batch_rows]
    counts = [rows.shape[0] for rows in row_sets]
    if all(count < size for count, size in zip(counts, sizes, strict=True)):
        lower = f"train.batch_tokens={batch_tokens}"
        if max(counts) < row_multiple:
            lower = "train.row_multiple, accumulate_steps or the number of devices"
        raise DataError(
            f"the training examples make {counts} rows, less than one batch of "
            f"{sizes}: lower {lower}"
        )
    source = BatchSource(
        row_sets,
        sizes,
        total=total_batches,
        seed=seed,
        shuffle=cfg.shuffle,
        part=(micro_batches, shards, own),
        augment=data.augment,
        augment_train=data.augment_train,
    )
    identity = {
        **data.identity,
        "seed": seed,
        "batch_tokens": batch_tokens,
        "batch_rows": sizes,
        "shapes": [[*rows.shape] for rows in row_sets],
        "shuffle": cfg.shuffle,
    }
    return TrainBatches(
        source,
        start=start,
        prefetch=cfg.prefetch,
        identity=identity,
        timeout_seconds=cfg.timeout_seconds,
    )


def eval_batches(
    data: Any, split: str, *, batch_tokens: int, row_multiple: int = 1
) -> Iterator[Any]:
    """Every row of a split exactly once, in the batch shapes of training.

    The last batch of a shape is filled up with empty rows: segments and weights 0. What
    ``data.augment`` draws is the same on every evaluation.
    """
    for rows in getattr(data, split):
        size, count = rows_per_batch(rows, batch_tokens, row_multiple), rows.shape[0]
        for first in range(0, count, size):
            chosen = np.arange(first, min(first + size, count))
            seeds = np.stack([0 * chosen, 0 * chosen, chosen], axis=1)
            batch = _batch(rows, chosen, seeds, data.augment)
            yield _each(batch, lambda field, size=size: _filled_up(field, size))


def rows_per_batch(rows: Any, batch_tokens: int, row_multiple: int) -> int:
    """How many rows of a shape make a batch of ``batch_tokens`` tokens."""
    wanted = batch_tokens // rows.shape[-1]
    return max(wanted // row_multiple, 1) * row_multiple


def _batch(rows, chosen, seeds, augment, augment_train=None):
    if augment_train is not None:
        batch = augment_train(rows, chosen, seeds)
    elif mapped := rows_of(rows):
        batch = mapped.take(chosen)
    else:
        batch = _each(rows, lambda field: field[chosen])
    return batch if augment is None else augment(batch, seeds)


def _each(rows, function):
    return type(rows)(*(field if field is None else function(field) for field in rows))


def _filled_up(field, size):
    return np.pad(field, [(0, size - len(field))] + [(0, 0)] * (field.ndim - 1))


class BatchSource:
    """Batch ``i`` of a run as a pure function of (seed, i): random access for Grain.

    Rows of one shape form an endless stream, epoch after epoch, each epoch in its own
    order; a batch takes the next rows of one stream, across the end of an epoch if it
    must. So every window of one epoch's rows that starts at a multiple of their number
    holds each row exactly once, and no batch is ever partial. Batches of different
    shapes are mixed in proportion, in an order drawn anew for each epoch.
    """

    def __init__(
        self,
        row_sets: Sequence[Any],
        sizes: Sequence[int],
        *,
        total: int,
        seed: int,
        shuffle: bool,
        part: tuple[int, int, Sequence[int]] = (1, 1, (0,)),
        augment: Callable | None = None,
        augment_train: Callable | None = None,
    ) -> None:
        """Args.

        row_sets, sizes: one per row shape, and the rows of a batch of it.
        part: (micro-batches, shards of each, numbers of those that are given).
        augment, augment_train: see `prepared.Prepared`.
        """
        self._sets, self._sizes, self._total = row_sets, sizes, total
        self._seed, self._shuffle = seed, shuffle
        micro_batches, shards, own = part
        self._parts = [  # rows of a batch that are given
            np.arange(size).reshape(micro_batches, shards, -1)[:, [*own]].ravel()
            for size in sizes
        ]
        self._augment = augment, augment_train
        self._batches_of_an_epoch = sum(
            rows.shape[0] / size for rows, size in zip(row_sets, sizes, strict=True)
        )
        self._order = functools.lru_cache(4 * len(row_sets))(self._order)  # type: ignore[method-assign]
        self._epoch = functools.lru_cache(2)(self._epoch)  # type: ignore[method-assign]
        self._before = functools.lru_cache(4)(self._before)  # type: ignore[method-assign]

    def __len__(self):
        return self._total

    def __getitem__(self, index):
        epoch = self._epoch_of(index)
        shape, batch = self._epoch(epoch)[index - self._before(epoch)]
        rows, size = self._sets[shape], self._sizes[shape]
        offsets = batch * size + self._parts[shape]
        epochs, offsets = np.divmod(offsets, rows.shape[0])
        first, last = int(epochs[0]), int(epochs[-1])
        chosen = self._order(shape, first)[offsets]
        for later in range(first + 1, last + 1):
            chosen[epochs == later] = self._order(shape, later)[
                offsets[epochs == later]
            ]
        seeds = np.empty((len(chosen), 3), np.int64)
        seeds[:, 0], seeds[:, 1], seeds[:, 2] = self._seed, epochs, chosen
        return _batch(rows, chosen, seeds, *self._augment)

    def _epoch_of(self, index):
        epoch = int(index / self._batches_of_an_epoch)  # or the one before or behind
        while self._before(epoch) > index:
            epoch -= 1
        while self._before(epoch + 1) <= index:
            epoch += 1
        return epoch

    def _complete(self, shape, epochs):
        """Batches of a shape that its first ``epochs`` epochs fill."""
        return epochs * self._sets[shape].shape[0] // self._sizes[shape]

    def _before(self, epochs):
        return sum(self._complete(shape, epochs) for shape in range(len(self._sets)))

    def _epoch(self, epoch):
        """The (shape, batch number) pairs of an epoch, in order."""
        batches = [
            (shape, number)
            for shape in range(len(self._sets))
            for number in range(
                self._complete(shape, epoch), self._complete(shape, epoch + 1)
            )
        ]
        if self._shuffle:
            np.random.default_rng((self._seed, epoch)).shuffle(batches)
        return batches

    def _order(self, shape, epoch):
        count = self._sets[shape].shape[0]
        if not self._shuffle:
            return np.arange(count)
        return np.random.default_rng((self._seed, epoch, shape + 1)).permutation(count)


class TrainBatches:
    """Iterator over training batches whose state is a few numbers of plain JSON."""

    def __init__(
        self,
        source: BatchSource,
        *,
        start: int,
        prefetch: int,
        identity: Mapping[str, Any],
        timeout_seconds: float = 0.0,
    ) -> None:
        import grain

        self._dataset = grain.MapDataset.source(source)
        self._options = grain.ReadOptions(int(prefetch > 0), prefetch)
        self._identity = identity
        self._timeout_seconds = timeout_seconds
        self._go_to(start)

    def __iter__(self):
        return self

    def __next__(self):
        with patience(self._timeout_seconds), awaited("the next batch"):
            batch = next(self._batches)
        self._next += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        """Where the iterator stands and on what data; plain JSON."""
        return {"next_batch": self._next, **self._identity}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues where ``state`` was taken.

        Raises: ValueError naming what differs, if it was taken on other data, with
            another tokenizer or with other batches.
        """
        differ = [
            f"{name}: {state.get(name)!r} then, {now!r} now"
            for name, now in self._identity.items()
            if state.get(name) != now
        ]
        if differ:
            raise ValueError(
                f"cannot continue the data of this checkpoint; {'; '.join(differ)}"
                f"{self._hint(state)}"
            )
        self._go_to(state["next_batch"])

    def _hint(self, state):
        """What decides the rows of a batch, where they alone differ."""
        others = self._identity.keys() - {"batch_rows"}
        if any(state.get(name) != self._identity[name] for name in others):
            return ""
        return (
            ": mesh.data times mesh.fsdp must divide the rows of each of the "
            "train.accumulate_steps micro-batches that the run began with; choose "
            "another mesh or number of devices (train.row_multiple of a new run may be "
            "a multiple of all numbers it will have)"
        )

    def _go_to(self, index):
        self._next = index
        self._batches = iter(self._dataset[index:].to_iter_dataset(self._options))
