"""Sequence pairs into rows of fixed shape, packed; and the batch that rows make."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfm_jax.data.batch import PairBatch
from tfm_jax.data.tokenizers.bilingual import BOS


class Ragged(NamedTuple):
    """Sequences of different lengths end to end."""

    ids: np.ndarray  # int32, all tokens
    offsets: np.ndarray  # int64, sequence n is ids[offsets[n] : offsets[n + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """int64, tokens of each sequence."""
        return np.diff(self.offsets)


def ragged(sequences: Sequence[np.ndarray]) -> Ragged:
    """Joins a list of int32 arrays."""
    lengths = [len(sequence) for sequence in sequences]
    ids = np.concatenate([*sequences, np.zeros(0, np.int32)])
    return Ragged(ids, np.cumsum([0, *lengths], dtype=np.int64))


class Rows(NamedTuple):
    """Rows of one shape; R rows, each with at least one pair."""

    source: np.ndarray  # [R, S] int32 tokens, 0 at padding
    source_segments: np.ndarray  # [R, S] int32, see PairBatch
    target: np.ndarray  # [R, T] int32 labels
    target_segments: np.ndarray  # [R, T] int32

    @property
    def shape(self) -> tuple[int, ...]:
        """(R, S, T); target tokens are those that the size of a batch counts."""
        return (*self.source.shape, self.target.shape[1])


def plan(
    source_lengths: np.ndarray,
    target_lengths: np.ndarray,
    source_room: int,
    target_room: int,
) -> tuple:
    """Chooses which examples share a row, filling both sides at once.

    Each row starts with the longest example left and then takes the one that leaves
    the least room, until none fits. Examples of equal lengths are interchangeable,
    so the search runs over distinct length pairs and a pattern found once is used
    as often as its examples last; each costs a few numpy calls.

    Source: Panigrahy et al. 2011, "Heuristics for vector bin packing", the
    bin-centric L2 greedy; patterns over a length histogram as in Krell et al. 2021,
    arXiv:2107.02027.  Deviates: two dimensions.
    Returns: (examples, counts): example numbers in row order, examples per row.
    """
    base = np.int64(np.max(target_lengths, initial=0)) + 1
    pairs = source_lengths * base + target_lengths  # as numbers, in order
    kinds = np.unique(pairs)
    kind_of = np.searchsorted(kinds, pairs).astype(np.int32)
    left = np.bincount(kind_of, minlength=len(kinds))
    by_kind = np.split(np.argsort(kind_of, kind="stable"), np.cumsum(left)[:-1])
    kinds = np.stack(np.divmod(kinds, base), 1)
    room = np.array([source_room, target_room])
    size = kinds / room
    order = np.argsort(-size.max(1), kind="stable")
    kinds, size, left = kinds[order], size[order], left[order]
    by_kind = [by_kind[kind] for kind in order]
    examples, counts = [], []
    while left.size:
        pattern, free, spare = [0], 1 - size[0], left.copy()
        spare[0] -= 1
        while True:
            after = free - size
            fits = np.flatnonzero((after.min(1) >= -1e-9) & (spare > 0))
            if not fits.size:
                break
            best = fits[np.square(after[fits]).sum(1).argmin()]
            pattern.append(best)
            spare[best] -= 1
            free = free - size[best]
        used = np.bincount(pattern, minlength=left.size)
        repeat = (left[used > 0] // used[used > 0]).min()
        columns = []
        for kind in pattern:
            columns.append(by_kind[kind][:repeat])
            by_kind[kind] = by_kind[kind][repeat:]
        examples.append(np.stack(columns, 1).ravel())
        counts.append(np.full(repeat, len(pattern)))
        left = left - used * repeat
        if not left[0]:
            alive = np.flatnonzero(left)
            size, left = size[alive], left[alive]
            by_kind = [by_kind[kind] for kind in alive]
    empty = [np.zeros(0, np.int64)]
    return np.concatenate(examples or empty), np.concatenate(counts or empty)


def fill_rows(
    source: Ragged,
    target: Ragged,
    examples: np.ndarray,
    counts: np.ndarray,
    shape: tuple[int, int],
) -> Rows:
    """Lays examples out in rows: `Rows` of ``shape`` (S, T)."""
    row = np.repeat(np.arange(len(counts)), counts)
    segment = np.arange(len(examples)) - np.repeat(np.cumsum(counts) - counts, counts)
    sides = []
    for side, width in zip((source, target), shape, strict=True):
        sides += _lay_out(side, examples, row, segment, len(counts), width)
    return Rows(*sides)


def _lay_out(side, examples, row, segment, rows, width):
    lengths = side.lengths[examples]
    ends = np.cumsum(lengths)
    within = np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
    before = ends - lengths  # tokens laid out so far, over all rows
    start = before - before[segment == 0][row]
    into = np.repeat(row * width + start, lengths) + within
    tokens = np.zeros(rows * width, np.int32)
    segments = np.zeros(rows * width, np.int32)
    tokens[into] = side.ids[np.repeat(side.offsets[:-1][examples], lengths) + within]
    segments[into] = np.repeat(segment + 1, lengths)
    return tokens.reshape(rows, width), segments.reshape(rows, width)


def as_batch(rows: Rows, seeds: Any = None, *, packed: bool = True) -> PairBatch:
    """The `PairBatch` of rows, with the decoder's inputs; not random.

    Args: packed: a row may hold several pairs, so that it needs positions.
    """
    del seeds
    source, source_segments, target, target_segments = rows
    source_positions, _ = positions(source_segments)
    target_positions, starts = positions(target_segments)
    inputs = np.zeros_like(target)
    inputs[:, 1:] = target[:, :-1]
    inputs[starts] = BOS
    inputs[target_segments == 0] = 0  # the EOS before the padding is no input
    return PairBatch(
        source=source,
        source_segments=source_segments,
        source_positions=source_positions if packed else None,
        target_inputs=inputs,
        target_labels=target,
        target_segments=target_segments,
        target_positions=target_positions if packed else None,
    )


def positions(segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions within each segment, and where segments start."""
    starts = segments > 0
    starts[:, 1:] &= segments[:, 1:] != segments[:, :-1]
    columns = np.arange(segments.shape[1], dtype=np.int32)
    since = np.maximum.accumulate(np.where(starts, columns, 0), axis=1)
    return np.where(segments > 0, columns - since, 0).astype(np.int32), starts
