"""Pairs of neighbouring text and others, to tell apart in pre-training."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfm_jax.data.batch import MaskedBatch
from tfm_jax.data.errors import DataError
from tfm_jax.data.rows import framing
from tfm_jax.knobs import knob

FOLLOWS, OTHER = 0, 1  # ``pair_labels``, as in BERT's and ALBERT's released code
_TRIES = 10  # to draw another document


@dataclasses.dataclass(frozen=True)
class Config:
    """How documents become rows for pre-training."""

    kind: str = knob(
        "nsp",
        "pairs to tell apart: random (nsp), swapped (sop), none",
        choices=("nsp", "sop", "none"),
    )
    short_share: float = knob(
        0.1, "of the documents have rows of a random shorter length"
    )
    other_share: float = knob(0.5, "of the pairs are random (nsp) or swapped (sop)")

    READ_WITH = {("kind", ("nsp", "sop")): ("other_share",)}

    def __post_init__(self):
        for name in ("short_share", "other_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"data.pairs.{name}={getattr(self, name)} must be from 0 to 1"
                )


def pair_rows(
    documents: Sequence[Sequence[np.ndarray]],
    cfg: Any,
    tokenizer: Any,
    *,
    length: int,
    seed: int,
) -> MaskedBatch:
    """Rows of text from documents: a `MaskedBatch` with ``pair_labels``.

    Chunks of sentences fill a row and are cut in two at a random sentence; "nsp" puts
    a piece of another document in the place of the second half, and goes on behind
    the first; "sop" swaps the halves; "none" leaves them one text and labels None.

    Args:
        documents: lists of sentences, int32 arrays that are not empty.
        cfg: a Config.
        tokenizer: has BERT's special tokens.
        length: T, tokens of a row, special ones included.
        seed: draws everything; the same rows on every run.

    Source: Devlin et al. 2019, arXiv:1810.04805, section 3.1 and appendix A.2, and the
    released create_pretraining_data.py; Lan et al. 2020, arXiv:1909.11942, section 3.1.
    Deviates: sop has no row of one sentence, which ALBERT's code pairs with another
    document.
    Raises: DataError if there is no row, or nsp has but one document.
    """
    if cfg.kind == "nsp" and len(documents) < 2:
        raise DataError("data.pairs.kind='nsp' needs two documents or more")
    pairs = []
    for number in range(len(documents)):
        rng = np.random.default_rng((seed, number))
        pairs += _pairs(documents, number, cfg, length, rng)
    if not pairs:
        raise DataError(
            f"{len(documents)} documents give no row for data.pairs.kind={cfg.kind!r}: "
            f"each has but one sentence"
        )
    ids = framing.frame_ids(tokenizer)
    firsts, seconds, labels = zip(*pairs, strict=True)
    if cfg.kind == "none":
        return MaskedBatch(*framing.frame_rows(firsts, None, ids, length))
    rows = framing.frame_rows(firsts, seconds, ids, length)
    return MaskedBatch(*rows, pair_labels=np.array(labels, np.int32))


def _pairs(documents, number, cfg, row_length, rng):
    """(first, second, label) of one document."""
    document = documents[number]
    room = framing.room(row_length, pair=cfg.kind != "none")
    start, goal = 0, _goal(cfg, room, rng)
    while start < len(document):
        end, length = start, 0
        while end < len(document) and length < goal:
            length += len(document[end])
            end += 1
        chunk = document[start:end]
        if cfg.kind == "none":
            yield _trim(np.concatenate(chunk), room, rng), None, FOLLOWS
        elif cfg.kind == "nsp" or len(chunk) > 1:
            middle = int(rng.integers(1, len(chunk))) if len(chunk) > 1 else 1
            first = np.concatenate(chunk[:middle])
            label = OTHER if len(chunk) == 1 else int(rng.random() < cfg.other_share)
            if cfg.kind == "nsp" and label == OTHER:
                second = _elsewhere(documents, number, goal - len(first), rng)
                end = start + middle  # the rest is used next
            else:
                second = np.concatenate(chunk[middle:])
            if cfg.kind == "sop" and label == OTHER:
                first, second = second, first
            sizes = framing.cut_lengths(len(first), len(second), room)
            yield _trim(first, sizes[0], rng), _trim(second, sizes[1], rng), label
        start = end


def _goal(cfg, room, rng):
    """Tokens to collect before a row is made, the same in a whole document."""
    return int(rng.integers(2, room + 1)) if rng.random() < cfg.short_share else room


def _elsewhere(documents, number, goal, rng):
    """Sentences of another document from a random one on, a token at least."""
    for _ in range(_TRIES):
        other = int(rng.integers(len(documents)))
        if other != number:
            break
    document = documents[other]
    sentences = []
    for sentence in document[int(rng.integers(len(document))) :]:
        sentences.append(sentence)
        if sum(map(len, sentences)) >= goal:
            break
    return np.concatenate(sentences)


def _trim(tokens, size, rng):
    """Leaves ``size`` tokens, taking each of the others from a random end."""
    extra = len(tokens) - int(size)
    if extra <= 0:
        return tokens
    front = int(rng.binomial(extra, 0.5))
    return tokens[front : front + int(size)]
