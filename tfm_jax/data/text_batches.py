"""Rows of text into batches: endless and resumable to train, each once to evaluate."""

import dataclasses
import functools
import hashlib

import numpy as np

from tfm_jax.data.batch import TextBatch
from tfm_jax.data.errors import DataError
from tfm_jax.data.stream import BatchSource, TrainBatches
from tfm_jax.knobs import bounded, check_numbers


@dataclasses.dataclass(frozen=True)
class Order:
    """How rows follow one another; every data section of text has these."""

    shuffle: bool = True
    # batches made ahead by one thread; 0: none, made on demand
    prefetch: int = bounded(4, 0, 10_000)
    # of waiting for data, after which the run ends with exit code 69; 0: for ever
    timeout_seconds: float = bounded(600.0, 0)

    def __post_init__(self):
        getattr(super(), "__post_init__", lambda: None)()  # of the section's others
        check_numbers(self, "data")


def train_text_batches(
    row_sets, *, batch_tokens, total_batches, seed, identity, change=None,
    shuffle=True, prefetch=4, timeout_seconds=0.0, start=0, process_index=0,
    process_count=1, row_multiple=1,
):  # fmt: skip
    """Endless shuffled epochs cut off after ``total_batches``: a `TrainBatches`.

    Args:
        row_sets: `TextBatch`es of all rows, one per row length.
        batch_tokens: tokens of a global batch, padding included.
        total_batches: where the iterator ends.
        seed: orders rows and batches, and draws what ``change`` draws.
        identity: plain JSON on data and tokenizer that a resumed run must find again.
        change: (batch, seeds [B, 3]) -> batch, what differs from epoch to epoch, such
            as dynamic masks; a row's seed is (seed, epoch, row).
        shuffle: whether the order is drawn.
        prefetch: batches made ahead by one thread.
        timeout_seconds: for a batch; the process ends after it. 0: none.
        start: the first batch to give.
        process_index: which slice of each global batch to give.
        process_count: of how many.
        row_multiple: what the rows of a batch must divide into, such as devices.

    Raises: DataError if the data does not fill one batch; ValueError if the rows of
        a batch do not divide among the processes.
    """
    if row_multiple % process_count:
        raise ValueError(
            f"row_multiple={row_multiple} must be a multiple of "
            f"process_count={process_count}"
        )
    sizes = [rows_per_batch(rows, batch_tokens, row_multiple) for rows in row_sets]
    counts = [len(rows.tokens) for rows in row_sets]
    if all(count < size for count, size in zip(counts, sizes, strict=True)):
        raise DataError(
            f"the training texts make {counts} rows, less than one batch of {sizes}: "
            f"lower train.batch_tokens={batch_tokens}"
        )
    source = BatchSource(
        row_sets, sizes, total=total_batches, seed=seed, shuffle=shuffle,
        part=(process_index, process_count),
        make=functools.partial(_make, change, seed),
    )  # fmt: skip
    identity = {
        **identity,
        "seed": seed,
        "batch_tokens": batch_tokens,
        "batch_rows": sizes,
        "shapes": [[*rows.tokens.shape] for rows in row_sets],
        "shuffle": shuffle,
    }
    return TrainBatches(
        source, start=start, prefetch=prefetch, identity=identity,
        timeout_seconds=timeout_seconds,
    )  # fmt: skip


def eval_text_batches(row_sets, *, batch_tokens, change=None, row_multiple=1):
    """Every row exactly once, in the batch shapes of training.

    The last batch of a shape is filled up with empty rows: segments and weights 0.
    ``change`` draws the same on every evaluation.
    """
    for rows in row_sets:
        size = rows_per_batch(rows, batch_tokens, row_multiple)
        count = len(rows.tokens)
        for first in range(0, count, size):
            chosen = np.arange(first, min(first + size, count))
            batch = _make(change, 0, rows, chosen, np.zeros_like(chosen))
            yield _filled(batch, size)


def rows_per_batch(rows, batch_tokens, row_multiple):
    """How many rows make a batch of ``batch_tokens`` tokens."""
    wanted = batch_tokens // rows.tokens.shape[1]
    return max(wanted // row_multiple, 1) * row_multiple


def fingerprint(row_sets):
    """sha256 of rows, hexadecimal."""
    digest = hashlib.sha256()
    for rows in row_sets:
        for name, field in rows._asdict().items():
            if field is not None:
                digest.update(f"{name}{field.dtype}{field.shape}".encode())
                digest.update(np.ascontiguousarray(field).tobytes())
    return digest.hexdigest()


def _make(change, seed, rows, chosen, epochs):
    batch = TextBatch(*(None if field is None else field[chosen] for field in rows))
    if change is None:
        return batch
    seeds = np.stack([np.full_like(chosen, seed), epochs, chosen], axis=1)
    return change(batch, seeds)


def _filled(batch, size):
    missing = size - len(batch.tokens)
    return TextBatch(
        *(
            None
            if field is None
            else np.pad(field, [(0, missing)] + [(0, 0)] * (field.ndim - 1))
            for field in batch
        )
    )
