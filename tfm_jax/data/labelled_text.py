"""Texts or pairs of texts with a label each, as rows."""

import dataclasses

from tfm_jax.data import text_batches
from tfm_jax.data.rows import labelled


@dataclasses.dataclass(frozen=True)
class Config(text_batches.Order, labelled.Config):
    """Where labelled texts come from and how they fill rows."""


def load(cfg, split, names):
    """See `labelled.load_labelled`."""
    return labelled.load_labelled(cfg, split, names)


def texts(found):
    """All texts, the first and the second ones."""
    return [*found.firsts, *(found.seconds or ())]


def rows(cfg, tokenizer, found, split):
    """(`TextBatch`, report), see `labelled.labelled_rows`."""
    del split
    filled, _, report = labelled.labelled_rows(cfg, tokenizer, found)
    return filled, report


def change(cfg, tokenizer):
    """None: labels stay."""
