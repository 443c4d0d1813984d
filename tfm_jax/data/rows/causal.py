"""Documents as rows for causal language models."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfm_jax.data.batch import CausalBatch
from tfm_jax.data.batches import Order
from tfm_jax.data.errors import DataError
from tfm_jax.data.prepared import Kind, filled_text
from tfm_jax.data.rows import packing
from tfm_jax.data.sources.documents import Config as Source
from tfm_jax.data.sources.documents import load_documents, texts_of
from tfm_jax.knobs import knob


def encode_documents(
    tokenizer: Any, texts: Sequence[str]
) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Texts as arrays of ids, those without a token left out: (ids, report).

    Args: tokenizer: has ``encode(texts)`` and ``vocab``.
    Raises: DataError if nothing is left, or an id is outside the vocabulary.
    """
    ids = tokenizer.encode(texts)
    kept = [row for row in ids if len(row)]
    if not kept:
        raise DataError(f"none of {len(ids)} documents has a token")
    low, high = min(row.min() for row in kept), max(row.max() for row in kept)
    if low < 0 or high >= tokenizer.vocab:
        raise DataError(
            f"token ids reach from {low} to {high}, outside the vocabulary "
            f"0..{tokenizer.vocab - 1}"
        )
    report = {"without_tokens": len(ids) - len(kept), "tokens": sum(map(len, kept))}
    return kept, report


def causal_rows(
    texts: Sequence[np.ndarray],
    length: int,
    *,
    layout: str = "joined",
    end: int | None = None,
    context: int = 0,
) -> CausalBatch:
    """Rows of ``length`` tokens and, as labels, the token after each: a `CausalBatch`.

    With ``end`` the prediction targets are the tokens of a document and the ``end``
    behind it, which also stands in front of it; without, its tokens from the second
    on. Each of them counts exactly once in all rows.

    Args:
        texts: int32 arrays of token ids.
        length: T.
        layout: a name in LAYOUTS.
        end: the token between documents; None: none.
        context: with "joined", so many tokens of a row repeat those before it and
            are no targets, for evaluation: no label has less context.

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
    texts = [text for text in texts if len(text)]
    count = len(texts)
    if layout == "joined" and end is None:
        texts = [np.concatenate([*texts, np.zeros(0, np.int32)])]
    edge = np.array([] if end is None else [end], np.int32)
    texts = [np.concatenate([edge, text, edge]) for text in texts]
    texts = packing.ragged([text for text in texts if len(text) > 1])
    if not texts.ids.size:
        raise DataError(f"none of {count} documents has a token to predict")
    last = np.zeros(len(texts.ids), bool)
    last[texts.offsets[1:] - 1] = True
    inputs = texts.ids[~last]
    labels = np.roll(texts.ids, -1)[~last]
    starts = texts.offsets[:-1] - np.arange(len(texts.lengths))  # one less in each
    return LAYOUTS[layout](inputs, labels, starts, length, context)


def _joined(inputs, labels, starts, length, context):
    """Cut every ``length`` tokens; a token sees all that its row has before it."""
    del starts
    step = length - context
    rows = max(-(-(len(inputs) - context) // step), 1)
    columns = np.arange(rows)[:, None] * step + np.arange(length)
    real = columns < len(inputs)
    columns = np.where(real, columns, 0)
    is_target = real.copy()
    is_target[1:, :context] = False
    return CausalBatch(
        tokens=np.where(real, inputs[columns], 0).astype(np.int32),
        segments=real.astype(np.int32),
        positions=None,
        types=None,
        labels=np.where(is_target, labels[columns], 0).astype(np.int32),
        weights=is_target.astype(np.float32),
    )


def _cut(inputs, labels, starts, length, context):
    """Cut as `_joined`, but documents do not see each other."""
    del context
    return _pieces(inputs, labels, _with_cuts(starts, len(inputs), length), length)


def _packed(inputs, labels, starts, length, context):
    """Documents cut to pieces that share rows with the least room left over."""
    del context
    bounds = _with_rooms(starts, len(inputs), length)
    return _pieces(inputs, labels, bounds, length, packing.plan)


def _single(inputs, labels, starts, length, context):
    """Documents cut to pieces, each with a row of its own."""
    del context
    bounds = _with_rooms(starts, len(inputs), length)
    return _pieces(inputs, labels, bounds, length, _one_each)


LAYOUTS = {
    "joined": _joined,
    "cut": _cut,
    "packed": _packed,
    "single": _single,
}


def _with_cuts(starts, total, length):
    """Where pieces start and end if rows run through the documents."""
    return np.union1d(np.append(starts, total), np.arange(0, total, length))


def _with_rooms(starts, total, length):
    """The same if every document starts a row."""
    ends = np.append(starts[1:], total)
    cuts = [
        np.arange(start, end, length) for start, end in zip(starts, ends, strict=True)
    ]
    return np.concatenate([*cuts, [total]])


def _in_order(lengths, _, room, __):
    """Pieces that fill row after row exactly."""
    row = (np.cumsum(lengths) - 1) // room
    return np.arange(len(lengths)), np.bincount(row)


def _one_each(lengths, *_):
    return np.arange(len(lengths)), np.ones(len(lengths), int)


def _pieces(inputs, labels, bounds, length, plan=_in_order):
    offsets = bounds.astype(np.int64)
    sides = packing.Ragged(inputs, offsets), packing.Ragged(labels, offsets)
    lengths = sides[0].lengths
    chosen = plan(lengths, lengths, length, length)
    rows = packing.fill_rows(*sides, *chosen, (length, length))
    return CausalBatch(
        tokens=rows.source,
        segments=rows.source_segments,
        positions=packing.positions(rows.source_segments)[0],
        types=None,
        labels=rows.target,
        weights=(rows.target_segments > 0).astype(np.float32),
    )


def _last(rows):
    """The last label of every segment alone."""
    next_segment = np.pad(rows.segments, [(0, 0), (0, 1)])[:, 1:]
    last = (rows.segments > 0) & (rows.segments != next_segment)
    return rows._replace(weights=rows.weights * last)


TARGETS = {"all": lambda rows: rows, "last": _last}  # prediction targets that count


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


def _rows(cfg, tokenizer, documents, split):
    del split
    end = tokenizer.ids_of(cfg.separator)[0] if cfg.separator else None
    ids, report = encode_documents(tokenizer, documents.texts)
    rows = causal_rows(ids, cfg.length, layout=cfg.layout, end=end)
    if cfg.asked != "all":
        report["characters"] = None  # not all of them are predicted
    return filled_text(tokenizer, TARGETS[cfg.asked](rows), report)


KIND = Kind(Config, CausalBatch, load_documents, texts_of, _rows)
