"""Sequence pairs into rows of fixed shape, packed; and the batch that rows make."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfm_jax.data.arrays.files import new_files
from tfm_jax.data.arrays.mapped_rows import (
    AT_ONCE,
    MappedRows,
    Windows,
    laid_out,
    parts,
    release,
    spans,
)
from tfm_jax.data.batch import PairBatch
from tfm_jax.data.tokenizers.bilingual import BOS

_SIDES = ("source", "target")
_ROWS = 128  # that are laid out at once; each maps some pages of the file of its tokens


class Ragged(NamedTuple):
    """Sequences of different lengths end to end."""

    ids: np.ndarray  # of any type of integers, all tokens
    offsets: np.ndarray  # int64, sequence n is ids[offsets[n] : offsets[n + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """int64, tokens of each sequence."""
        return np.diff(self.offsets)


def ragged(ids: np.ndarray, lengths: Any) -> Ragged:
    """Sequences that lie end to end. Args: lengths: [n], tokens of each."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return Ragged(ids, offsets)


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


class PairRows(MappedRows):
    """Rows of pairs.

    Attributes:
        arrays: source and target, one row after the other the tokens of its side, no
            padding, and, if rows have several pairs, the segments; and source_offsets
            and target_offsets [R + 1], tokens before each row.
        settings: lengths S, T; ``packed``: rows have several pairs.
    """

    batch = Rows

    @property
    def tokens(self) -> int:
        """Of the target of all rows, padding left out."""
        return int(self.arrays["target_offsets"][-1])

    def _kinds(self):
        rows = len(self.arrays["target_offsets"]) - 1
        lengths = np.repeat(self.settings["lengths"], 2).tolist()
        return {
            name: ((rows, length), np.int32)
            for name, length in zip(Rows._fields, lengths, strict=True)
        }

    def _gather(self, chosen, at_once):
        return _Pairs(self.arrays, chosen, at_once, **self.settings)


class _Pairs:
    """Some `PairRows`."""

    def __init__(self, arrays, chosen, at_once, *, lengths, packed):
        self._packed = packed
        self._source, self._target = (
            Windows.of_rows(
                *(arrays[side], arrays[f"{side}_offsets"], chosen, length, 1 + packed),
                at_once=at_once,
            )
            for side, length in zip(_SIDES, lengths, strict=True)
        )

    source = property(lambda self: self._source[0])
    target = property(lambda self: self._target[0])
    source_segments = property(lambda self: self._segments(self._source))
    target_segments = property(lambda self: self._segments(self._target))

    def _segments(self, side):
        return side[1] if self._packed else side.real(np.int32)


def fill_rows(
    source: Ragged,
    target: Ragged,
    examples: np.ndarray,
    counts: np.ndarray,
    shape: tuple[int, int],
    path: Path | None = None,
) -> Rows:
    """Lays examples out in rows: `Rows` of ``shape`` (S, T).

    Args: path: folder, and what the names of files begin with; None: in memory.
    """
    packed = bool(counts.max(initial=0) > 1)
    first = np.append(0, np.cumsum(counts))
    kinds = {}
    for name, side in zip(_SIDES, (source, target), strict=True):
        most = max([counts.max(initial=0), *(part.max() for part in parts(side.ids))])
        kinds |= {name: np.min_scalar_type(most), f"{name}_offsets": np.int64}
    at_once = min(max(AT_ONCE // max(shape), 1), _ROWS)
    with new_files(path, kinds) as files:
        for begin in range(0, len(counts), at_once):
            end = min(begin + at_once, len(counts))
            some = slice(first[begin], first[end])
            segments = np.arange(some.start, some.stop) + 1
            segments -= np.repeat(first[begin:end], counts[begin:end])
            for name, side in zip(_SIDES, (source, target), strict=True):
                chosen = examples[some]
                starts = side.offsets[chosen]
                widths = side.offsets[chosen + 1] - starts
                fields = [spans(side.ids, starts, widths)]
                fields += [np.repeat(segments, widths)] * packed
                of_rows = np.add.reduceat(widths, first[begin:end] - first[begin])
                files[name].append(laid_out(fields, of_rows))
                files[f"{name}_offsets"].append_totals(of_rows)
                release(side.ids)
        arrays = {name: file.array() for name, file in files.items()}
    return PairRows(arrays, {"lengths": [*shape], "packed": packed}).fields()


def as_batch(rows: Rows, seeds: Any = None, *, packed: bool = True) -> PairBatch:
    """The `PairBatch` of rows, with the decoder's inputs; not random.

    Args: packed: a row may hold several pairs, so that it needs positions.
    """
    del seeds
    source, source_segments, target, target_segments = rows
    begins, positions = _begins(target_segments), (None, None)
    if packed:
        positions = (
            _positions(source_segments, _begins(source_segments)),
            _positions(target_segments, begins),
        )
    inputs = np.empty_like(target)
    inputs[:, 1:] = target[:, :-1]
    inputs[begins] = BOS
    inputs *= target_segments > 0  # the EOS before the padding is no input
    return PairBatch(
        source=source,
        source_segments=source_segments,
        source_positions=positions[0],
        target_inputs=inputs,
        target_labels=target,
        target_segments=target_segments,
        target_positions=positions[1],
    )


def _positions(segments, begins):
    """Positions within each segment: [B, T] int32, 0 at padding."""
    starts = begins.ravel().nonzero()[0].astype(np.int32)
    counts = np.empty_like(starts)
    counts[:-1], counts[-1] = starts[1:] - starts[:-1], segments.size - starts[-1]
    positions = np.arange(segments.size, dtype=np.int32)
    positions -= starts.repeat(counts)
    return positions.reshape(segments.shape) * (segments > 0)


def _begins(segments):
    """[B, T] bool, whether a segment begins there, or the padding."""
    begins, flat = np.empty(segments.shape, bool), segments.ravel()
    np.not_equal(flat[1:], flat[:-1], out=begins.ravel()[1:])
    begins[:, 0] = True
    return begins
