"""Sentences with a tag for every word, as rows."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfm_jax.data.batch import TaggedBatch
from tfm_jax.data.batches import Order
from tfm_jax.data.errors import DataError
from tfm_jax.data.policies import POLICIES, sift
from tfm_jax.data.prepared import Kind, filled_text
from tfm_jax.data.rows import framing
from tfm_jax.data.sources import columns
from tfm_jax.data.tokenizers.training_texts import fitting
from tfm_jax.knobs import knob


@dataclasses.dataclass(frozen=True)
class Config(Order, columns.Config):
    """Where tagged sentences come from and how they fill rows."""

    ROLE = "training"

    length: int = knob(128, "tokens of a row, special ones included", low=3, high=2**24)
    overlong: str = knob(
        "keep",
        "what a sentence gets that is longer than its row; keep: cut",
        choices=POLICIES,
    )
    frame: str = knob(
        "bert",
        "special tokens around texts",
        role="architecture",
        choices=framing.FRAMES,
    )


def tagged_rows(cfg: Any, tokenizer: Any, tagged: Any) -> tuple:
    """A row per sentence, with labels at the first token of each word.

    A sentence that does not fit is overlong, and cut at its end if it is kept.

    Source: Devlin et al. 2019, arXiv:1810.04805, section 5.3.
    Returns: (`TaggedBatch`, report). Words that a cut or the tokenizer's normalisation
        took away have no label and are counted.
    Raises: DataError for a tag that is not in ``names``, or nothing left.
    """
    index = {name: number for number, name in enumerate(tagged.names)}
    for number, tags in enumerate(tagged.tags, start=1):
        strange = [tag for tag in tags if tag not in index]
        if strange:
            raise DataError(
                f"sentence {number} has the tag {strange[0]!r}; choose from "
                f"({', '.join(tagged.names)})"
            )
    texts = [" ".join(words) for words in tagged.words]
    room = framing.room(cfg.length, pair=False)
    encoded = tokenizer.encode_with_offsets(texts)
    overlong = [len(ids) > room for ids, _ in encoded]
    keep, report = sift(cfg, {"overlong": overlong}, "sentence", some=True)
    kept, lost = np.flatnonzero(keep), 0
    labels = np.full((len(kept), cfg.length), -1, np.int32)
    for row, number in zip(labels, kept, strict=True):
        words, (_, offsets) = tagged.words[number], encoded[number]
        columns, word = first_tokens(words, offsets[:room])
        row[1 + columns] = [index[tagged.tags[number][one]] for one in word]
        lost += len(words) - len(word)
    texts = [encoded[number][0][:room] for number in kept]
    names = framing.frame_ids(tokenizer, cfg.frame)
    rows = TaggedBatch(
        *framing.frame_rows(texts, None, names, cfg.length),
        labels=np.maximum(labels, 0),
        weights=(labels >= 0).astype(np.float32),
    )
    return rows, report | {"kept": len(kept), "words_without_label": lost}


def first_tokens(words: Sequence[str], offsets: np.ndarray) -> tuple:
    """(columns of first tokens, their words) of words joined by single spaces."""
    ends = np.cumsum([len(word) + 1 for word in words])
    real = np.flatnonzero(offsets[:, 1] > offsets[:, 0])
    word_of = np.searchsorted(ends, offsets[real, 0], side="right")
    word, index = np.unique(word_of, return_index=True)
    return real[index], word


def _texts(cfg, tagged):
    return fitting(cfg, [" ".join(words) for words in tagged.words])


def _rows(cfg, tokenizer, tagged, split):
    del split
    return filled_text(tokenizer, *tagged_rows(cfg, tokenizer, tagged))


KIND = Kind(Config, TaggedBatch, columns.load_tagged, _texts, _rows)
