"""Texts that a trained model is run on, as rows of any lengths."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfm_jax.data.rows import framing
from tfm_jax.data.tokenizers import unknown

MASK = "[MASK]"


class Probes(NamedTuple):
    """Rows of token ids; entry n of each list belongs to text n.

    Attributes:
        rows: int32 arrays [T], special tokens included.
        types: the same, 0 in sentence A, 1 in sentence B; None where nothing is framed.
        inside: columns of the texts' own tokens.
    """

    rows: list[np.ndarray]
    types: list[np.ndarray] | None
    inside: list[np.ndarray]


def framed(
    tokenizer: Any,
    firsts: Sequence[str],
    seconds: Sequence[str] | None = None,
    *,
    frame: str = "bert",
    encode: Callable | None = None,
) -> Probes:
    """Texts, or pairs of texts, between the special tokens of ``frame``: `Probes`.

    Args:
        seconds: as many as ``firsts``; None for single texts.
        encode: texts -> ids; by default the tokenizer's.
    Raises: DataError if the vocabulary lacks a special token.
    """
    encode = encode or tokenizer.encode
    ids = framing.frame_ids(tokenizer, frame)
    given = [side for side in (firsts, seconds) if side is not None]
    sides = [encode(side) for side in given]
    for texts, encoded in zip(given, sides, strict=True):
        unknown.warn(tokenizer, texts, encoded)
    if not firsts:
        return Probes([], [], [])
    longest = max(sum(map(len, texts)) for texts in zip(*sides, strict=True)) + 3
    batch = framing.frame_rows(*sides, *[None] * (2 - len(sides)), ids, longest)
    rows, types = unpadded(batch)
    inside = [
        np.setdiff1d(np.arange(1, len(row) - 1), [len(first) + 1])
        for first, row in zip(sides[0], rows, strict=True)
    ]
    return Probes(rows, types, inside)


def unpadded(batch: Any) -> tuple:
    """Lists of the tokens and of the types of each row of a `TextBatch`."""
    lengths = (batch.segments > 0).sum(axis=1)
    return tuple(
        [row[:n] for row, n in zip(field, lengths, strict=True)]
        for field in (batch.tokens, batch.types)
    )


def started(tokenizer: Any, texts: Sequence[str], start: int | None) -> Probes:
    """Texts as a causal model reads them, maybe behind ``start``: `Probes`."""
    front = [] if start is None else [start]
    encoded = tokenizer.encode(texts)
    unknown.warn(tokenizer, texts, encoded)
    rows = [np.array([*front, *ids], np.int32) for ids in encoded]
    return Probes(rows, None, [np.arange(len(front), len(row)) for row in rows])


def encode_masked(
    tokenizer: Any, texts: Sequence[str], mask: str = MASK
) -> list[np.ndarray]:
    """Ids of texts in which ``mask`` stands for a word.

    The texts around masks are encoded apart, so each of them begins a word.
    Raises: DataError if the vocabulary lacks the mask.
    """
    (hidden,) = tokenizer.ids_of(mask)
    rows = []
    for text in texts:
        first, *others = tokenizer.encode(text.split(mask))
        row = [*first]
        for part in others:
            row += [hidden, *part]
        rows.append(np.array(row, np.int32))
    return rows
