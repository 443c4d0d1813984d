"""What the batches, and the rows, of each kind of data hold; B rows.

All of text begin with the fields of `TextBatch`, which models read; objectives read the
rest: ``labels`` are what the logits are scored against, ``weights`` how much each of
them counts. Integers are int32. A row may hold several texts, which do not see each
other: segment 0 is padding, 1.. number the texts of a row, positions restart at 0 in
every segment, and at padding every field is 0.
"""

from typing import NamedTuple

import numpy as np

FORMER = {"target_positions": "places"}  # field -> its name in fingerprints and dumps


def _text_shape(batch):
    """(B, T): rows, and tokens of a row."""
    return batch.tokens.shape


class PairBatch(NamedTuple):
    """Sequence pairs; segments of one number on both sides belong together."""

    source: np.ndarray  # [B, S] tokens, each segment ends in EOS
    source_segments: np.ndarray  # [B, S]
    source_positions: np.ndarray  # [B, S]
    target_inputs: np.ndarray  # [B, T] each segment is BOS, then its labels shifted
    target_labels: np.ndarray  # [B, T] each segment ends in EOS
    target_segments: np.ndarray  # [B, T]
    target_positions: np.ndarray  # [B, T]


class TextBatch(NamedTuple):
    """What models read of text."""

    tokens: np.ndarray  # [B, T]
    segments: np.ndarray  # [B, T]
    positions: np.ndarray | None = None  # [B, T]; None: one text a row
    types: np.ndarray | None = None  # [B, T] 0 in sentence A, 1 in sentence B
    shape = property(_text_shape)


class CausalBatch(NamedTuple):
    """Text, and the token after each."""

    tokens: np.ndarray
    segments: np.ndarray
    positions: np.ndarray | None
    types: np.ndarray | None
    labels: np.ndarray  # [B, T]
    weights: np.ndarray  # [B, T] float32
    shape = property(_text_shape)


class MaskedBatch(NamedTuple):
    """Text of which some tokens are masked; without labels none is yet."""

    tokens: np.ndarray
    segments: np.ndarray
    positions: np.ndarray | None = None
    types: np.ndarray | None = None
    labels: np.ndarray | None = None  # [B, M] the original tokens
    weights: np.ndarray | None = None  # [B, M] float32
    target_positions: np.ndarray | None = None  # [B, M] columns; None: all, M is T
    pair_labels: np.ndarray | None = None  # [B] 0: sentence B follows A, 1: not
    shape = property(_text_shape)


class LabelledBatch(NamedTuple):
    """Texts, or pairs of them, with a class or a number each."""

    tokens: np.ndarray
    segments: np.ndarray
    positions: np.ndarray | None
    types: np.ndarray | None
    labels: np.ndarray  # [B] int32 classes or float32 numbers
    weights: np.ndarray  # [B] float32
    shape = property(_text_shape)


class TaggedBatch(NamedTuple):
    """Texts with a tag at the first token of every word."""

    tokens: np.ndarray
    segments: np.ndarray
    positions: np.ndarray | None
    types: np.ndarray | None
    labels: np.ndarray  # [B, T]
    weights: np.ndarray  # [B, T] float32
    shape = property(_text_shape)


class SpanBatch(NamedTuple):
    """Questions and texts, and where in the row the answer stands."""

    tokens: np.ndarray
    segments: np.ndarray
    positions: np.ndarray | None
    types: np.ndarray | None
    labels: np.ndarray  # [B, 2] first and last column; 0, 0: no answer here
    weights: np.ndarray  # [B, 2] float32
    shape = property(_text_shape)
