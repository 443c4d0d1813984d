"""What a training or evaluation batch of sequence pairs holds."""

from typing import Any, NamedTuple

Array = Any  # of NumPy on the host, of JAX in a program


class Batch(NamedTuple):
    """Sequence pairs in rows; every field is int32, B rows.

    A row holds one or more pairs. Segment 0 is padding, 1.. number the pairs of a
    row, and the same number on both sides belongs together. Positions restart at 0
    in every segment. At padding every field is 0.
    """

    source: Array  # [B, S] tokens, each segment ends in EOS
    source_segments: Array  # [B, S]
    source_positions: Array  # [B, S]
    target_inputs: Array  # [B, T] each segment is BOS, then its labels shifted
    target_labels: Array  # [B, T] each segment ends in EOS
    target_segments: Array  # [B, T]
    target_positions: Array  # [B, T]


class TextBatch(NamedTuple):
    """Rows of text, not pairs of it; integers are int32, B rows.

    A row holds one or more documents, which do not see each other. What a task does
    not need is None.
    """

    tokens: Array  # [B, T]
    segments: Array  # [B, T] 0 is padding, 1.. number the documents of a row
    positions: Array | None = None  # [B, T] restart at 0 in every segment
    types: Array | None = None  # [B, T] 0 in sentence A, 1 in sentence B
    labels: Array | None = None  # [B, T], [B, M] at ``places``, [B, 2] or [B]
    weights: Array | None = None  # float32, like ``labels``; 0: not asked for
    places: Array | None = None  # [B, M] columns at which labels are asked for
    pair_labels: Array | None = None  # [B] int32, 0: sentence B follows A, 1: not

    @property
    def shape(self):
        """(B, T)."""
        return self.tokens.shape
