"""Running text as rows for causal language models."""

import dataclasses

import numpy as np

from tfm_jax.data import text_batches
from tfm_jax.data.rows import causal
from tfm_jax.data.sources import documents
from tfm_jax.knobs import bounded, choice


@dataclasses.dataclass(frozen=True)
class Config(text_batches.Order, documents.Config):
    """Running text, and how it fills rows."""

    length: int = bounded(64, 1, 2**24)  # tokens of a row
    layout: str = choice(causal.LAYOUTS, "joined")
    separator: str = ""  # special token between documents; "": none
    # last: of each document in a row only its last token counts
    asked: str = choice(("all", "last"), "all")

    def __post_init__(self):
        super().__post_init__()
        if self.asked == "last" and self.layout == "joined":
            raise ValueError(
                "data.asked='last' needs rows that keep documents apart; choose "
                "data.layout from (cut, packed, single)"
            )


def load(cfg, split, names):
    """See `documents.load_documents`."""
    del names
    return documents.load_documents(cfg, split)


def texts(found):
    """The documents."""
    return found.texts


def rows(cfg, tokenizer, found, split):
    """(`TextBatch`, report), see `causal_rows`."""
    del split
    end = tokenizer.ids_of(cfg.separator)[0] if cfg.separator else None
    ids, report = causal.encode_documents(tokenizer, found.texts)
    filled = causal.causal_rows(ids, cfg.length, layout=cfg.layout, end=end)
    if cfg.asked != "all":
        report["characters"] = None  # those asked for are not counted
    return ASKED[cfg.asked](filled), report


def _last(rows):
    """Asks for the last label of every segment alone."""
    next_segment = np.pad(rows.segments, [(0, 0), (0, 1)])[:, 1:]
    last = (rows.segments > 0) & (rows.segments != next_segment)
    return rows._replace(weights=rows.weights * last)


ASKED = {"all": lambda rows: rows, "last": _last}


def change(cfg, tokenizer):
    """None: what follows a token does not change."""
