"""Documents as rows for causal language models."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tfm_jax.data.batch import CausalBatch
from tfm_jax.data.batches import Order
from tfm_jax.data.cut import Rows
from tfm_jax.data.errors import DataError
from tfm_jax.data.flat import Flat, encode_documents
from tfm_jax.data.prepared import Kind, filled_text
from tfm_jax.data.rows import packing
from tfm_jax.data.sources.documents import Config as Source
from tfm_jax.data.sources.documents import load_corpus, texts_of
from tfm_jax.data.workspace import workspace
from tfm_jax.knobs import knob

TARGETS = ("all", "last")  # prediction targets that count, of each piece of a document


def causal_rows(
    text: Flat,
    length: int,
    *,
    layout: str = "joined",
    context: int = 0,
    asked: str = "all",
) -> CausalBatch:
    """Rows of ``length`` tokens and, as labels, the token after each: a `CausalBatch`.

    With separators the prediction targets are the tokens of a document and the
    separator behind it; without, its tokens from the second on. Each of them counts
    exactly once in all rows. Rows are made of ``text`` where they are indexed.

    Args:
        length: T.
        layout: a name in LAYOUTS.
        context: with "joined", so many tokens of a row repeat those before it and
            are no targets, for evaluation: no label has less context.
        asked: a name in TARGETS.

    Source: Radford et al. 2019 and Brown et al. 2020, section 2.2 (joined);
    Krell et al. 2021, arXiv:2107.02027 (packed).
    Raises: DataError if no label is left.
    """
    if layout not in LAYOUTS:
        raise DataError(f"data.layout={layout!r}; choose from ({', '.join(LAYOUTS)})")
    if not 0 <= context < length or (context and layout != "joined"):
        raise DataError(
            f"data.context={context} must be less than data.length={length}, and 0 "
            f"unless data.layout=joined"
        )
    arrays, cut = {"ids": text.ids}, LAYOUTS[layout]
    least = 0 if text.separated else 1  # tokens of a document without a target
    if len(text.ids) < 2 or (cut and text.lengths.max() <= least):
        raise DataError(f"none of {len(text.lengths)} documents has a token to predict")
    if cut:
        sizes = text.lengths + np.int64(1 if text.separated else -1)  # targets
        ends = np.cumsum(text.lengths + np.int64(text.separated))
        starts = ends - text.lengths - np.int64(text.separated)
        arrays |= cut(starts[sizes > 0], sizes[sizes > 0], length)._asdict()
    settings = {"length": length, "context": context, "last": asked == "last"}
    return Rows(arrays, settings).fields()


class Pieces(NamedTuple):
    """Pieces of documents in the order of rows, see `cut.Rows`."""

    starts: np.ndarray
    lengths: np.ndarray
    first: np.ndarray


def _cut(starts, sizes, length):
    """Cut as rows that follow one another, but documents do not see each other."""
    before = np.cumsum(sizes) - sizes
    total = before[-1] + sizes[-1]
    rows = np.arange(0, total, length)
    bounds = np.union1d(before, rows)
    document = np.searchsorted(before, bounds, side="right") - 1
    return Pieces(
        bounds + (starts - before)[document],
        np.diff(bounds, append=total).astype(np.int32),
        np.append(np.searchsorted(bounds, rows), len(bounds)),
    )


def _single(starts, sizes, length):
    """Documents cut to pieces, each with a row of its own."""
    counts = -(-sizes // length)
    document = np.repeat(np.arange(len(sizes)), counts)
    offsets = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    offsets *= length
    return Pieces(
        starts[document] + offsets,
        np.minimum(sizes[document] - offsets, length).astype(np.int32),
        np.arange(len(document) + 1),
    )


def _packed(starts, sizes, length):
    """Documents cut to pieces that share rows with the least room left over."""
    starts, lengths, _ = _single(starts, sizes, length)
    pieces, counts = packing.plan(lengths, lengths, length, length)
    return Pieces(starts[pieces], lengths[pieces], np.append(0, np.cumsum(counts)))


LAYOUTS: dict[str, Callable | None] = {
    "joined": None,  # cut every ``length`` tokens; each sees all before it in its row
    "cut": _cut,
    "packed": _packed,
    "single": _single,
}


@dataclasses.dataclass(frozen=True)
class Config(Order, Source):
    """Running text, and how it fills rows."""

    length: int = knob(64, "tokens of a row", role="training", low=1, high=2**24)
    layout: str = knob("joined", "how documents fill rows", choices=LAYOUTS)
    separator: str = knob("", 'special token between documents; "": none')
    asked: str = knob(
        "all",
        "last: of each document in a row only its last token is predicted",
        choices=TARGETS,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.asked == "last" and self.layout == "joined":
            raise ValueError(
                "data.asked='last' needs rows that keep documents apart; choose "
                "data.layout from (cut, packed, single)"
            )


def _rows(cfg, tokenizer, corpus, split):
    end = tokenizer.ids_of(cfg.separator)[0] if cfg.separator else None
    text, report = encode_documents(
        tokenizer,
        corpus,
        end=end,
        characters=corpus.characters,
        folder=workspace(),
        name=split,
    )
    rows = causal_rows(text, cfg.length, layout=cfg.layout, asked=cfg.asked)
    if cfg.asked != "all":
        report["characters"] = None  # not all of them are predicted
    return filled_text(tokenizer, rows, report)


KIND = Kind(
    Config,
    CausalBatch,
    load_corpus,
    texts_of,
    _rows,
    size=lambda corpus: corpus.count,
)
