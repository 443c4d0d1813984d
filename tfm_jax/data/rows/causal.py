"""Documents as rows for causal language models."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfm_jax.data.arrays.files import new_files
from tfm_jax.data.arrays.mapped_rows import (
    AT_ONCE,
    Field,
    MappedRows,
    Windows,
    laid_out,
    release,
    rows_of,
    spans,
)
from tfm_jax.data.arrays.tokenized import TokenizedDocuments, encode_documents
from tfm_jax.data.batch import CausalBatch
from tfm_jax.data.batches import Order
from tfm_jax.data.errors import DataError
from tfm_jax.data.prepared import Kind, digest_of, filled_text
from tfm_jax.data.rows import packing
from tfm_jax.data.sources.documents import Config as Source
from tfm_jax.data.sources.documents import few, load_corpus, texts_of
from tfm_jax.data.sources.mechanisms.examples import ANSWER
from tfm_jax.data.sources.mechanisms.tasks import QUERY
from tfm_jax.data.workspace import workspace
from tfm_jax.knobs import knob

TARGETS = ("all", "last", "answers")  # prediction targets that count


class CausalRows(MappedRows):
    """Rows of text for causal language models.

    Attributes:
        arrays: of rows that follow one another: ids [N]. Of others: rows, one after the
            other tokens, labels, segments and positions of each without its padding;
            and offsets [R + 1], real tokens before each row.
        settings: length T; ``context``, so many tokens repeat those of the row before
            and are no targets; ``last``: of each segment only the last label counts;
            ``answers``: only those between the first of these ids and any other;
            ``single``: rows have one segment each, and neither positions nor segments
            lie in the arrays.
    """

    batch = CausalBatch

    @property
    def tokens(self) -> int:
        """Of all rows, padding left out."""
        if "offsets" in self.arrays:
            return int(self.arrays["offsets"][-1])
        (rows, _), _ = self._there["tokens"]
        return len(self.arrays["ids"]) - 1 + (rows - 1) * self.settings["context"]

    def _kinds(self):
        length, context = self.settings["length"], self.settings["context"]
        names = ["tokens", "segments", "labels", "weights"]
        if "offsets" in self.arrays:
            rows = len(self.arrays["offsets"]) - 1
            names += ["positions"] * (not self.settings["single"])
        else:
            targets = len(self.arrays["ids"]) - 1
            rows = max(-(-(targets - context) // (length - context)), 1)
        types = {"weights": np.float32}
        return {n: ((rows, length), types.get(n, np.int32)) for n in names}

    def _gather(self, chosen, at_once):
        gathered = _Segments if "offsets" in self.arrays else _Blocks
        return gathered(self.arrays, chosen, at_once, **self.settings)


class _Blocks:
    """Rows of text that follow one another."""

    def __init__(self, arrays, chosen, at_once, *, length, context, **of_segments):
        del of_segments
        ids, self._context, self._chosen = arrays["ids"], context, chosen
        starts = chosen * (length - context)
        counts = np.minimum(len(ids) - 1 - starts, length)
        starts = np.stack([starts, starts + 1])
        self._windows = Windows(ids, starts, counts, length, at_once=at_once)

    tokens = property(lambda self: self._windows[0])
    segments = property(lambda self: self._windows.real(np.int32))

    @functools.cached_property
    def weights(self):
        weights = self._windows.real(np.float32)
        if self._context:
            weights[self._chosen > 0, : self._context] = 0
        return weights

    @property
    def labels(self):
        labels = self._windows[1]
        return labels * (self.weights > 0) if self._context else labels


class _Segments:
    """Rows of any segments."""

    def __init__(
        self, arrays, chosen, at_once, *, length, context, last, answers, single
    ):
        del context  # is of rows without segments
        self._windows = Windows.of_rows(
            *(arrays["rows"], arrays["offsets"], chosen, length, 2 if single else 4),
            at_once=at_once,
        )
        self._last, self._answers, self._single = last, answers, single

    tokens = property(lambda self: self._windows[0])
    labels = property(lambda self: self._windows[1])

    @property
    def segments(self):
        return self._windows.real(np.int32) if self._single else self._windows[2]

    @property
    def positions(self):
        if not self._single:
            return self._windows[3]
        segments = self.segments
        return segments * np.arange(segments.shape[1], dtype=np.int32)

    @property
    def weights(self):
        weights = self._windows.real(np.float32)
        if self._last:
            segments = self.segments
            weights[:, :-1] *= segments[:, :-1] != segments[:, 1:]
        if self._answers:
            weights *= self._answered()
        return weights

    def _answered(self):
        """Labels that follow a mark of an answer, in its segment, and end none."""
        tokens, segments = self.tokens, self.segments
        opens, *closes = self._answers
        columns = np.arange(1, tokens.shape[1] + 1)
        opened = np.maximum.accumulate(columns * (tokens == opens), axis=1)
        ends = np.isin(tokens, closes) | (np.diff(segments, axis=1, prepend=0) != 0)
        closed = np.maximum.accumulate(columns * ends, axis=1)
        return (opened > closed) & ~np.isin(self.labels, closes)


def causal_rows(
    text: TokenizedDocuments,
    length: int,
    *,
    layout: str = "joined",
    context: int = 0,
    asked: str = "all",
    answers: Sequence[int] = (),
    path: Path | None = None,
) -> CausalBatch:
    """Rows of ``length`` tokens and, as labels, the token after each: a `CausalBatch`.

    With separators the prediction targets are the tokens of a document and the
    separator behind it; without, its tokens from the second on. Each of them counts
    exactly once in all rows.

    Args:
        length: T.
        layout: a name in LAYOUTS.
        context: with "joined", so many tokens of a row repeat those before it and
            are no targets, for evaluation: no label has less context.
        asked: a name in TARGETS. answers: id of the mark in front of an answer, and
            ids of what ends one, of asked="answers".
        path: folder, and what the names of files begin with, for rows that do not
            follow one another; None: they are in memory.

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
    cut = LAYOUTS[layout]
    least = 0 if text.separated else 1  # tokens of a document without a target
    if len(text.ids) < 2 or (cut and text.lengths.max() <= least):
        raise DataError(f"none of {len(text.lengths)} documents has a token to predict")
    if answers and not np.any(text.ids == answers[0]):
        raise DataError(f"none of {len(text.lengths)} documents has an answer")
    arrays = {"ids": text.ids}
    if cut:
        sizes = text.lengths + np.int64(1 if text.separated else -1)  # targets
        if answers and sizes.max() > length:
            raise DataError(
                f"a document has {sizes.max()} tokens, more than data.length={length}: "
                "its answers would lose their context; raise data.length"
            )
        ends = np.cumsum(text.lengths + np.int64(text.separated))
        starts = ends - text.lengths - np.int64(text.separated)
        pieces = cut(starts[sizes > 0], sizes[sizes > 0], length)
        arrays = _laid_out(text.ids, pieces, length, layout == "single", path)
    settings = {"length": length, "context": context, "last": asked == "last"}
    settings["answers"] = [*answers]
    settings["single"] = layout == "single"
    return CausalRows(arrays, settings).fields()


class Pieces(NamedTuple):
    """Pieces of documents in the order of rows."""

    starts: np.ndarray  # [P] in the ids of all documents
    lengths: np.ndarray  # [P] tokens
    first: np.ndarray  # [R + 1] number of the first piece of each row


def _laid_out(ids, pieces, length, single, path):
    """Arrays of `CausalRows`, some rows at once."""
    starts, lengths, first = pieces
    offsets = np.append(0, np.cumsum(lengths, dtype=np.int64))[first]
    most = max(int(np.diff(first).max()), length - 1)
    kind = np.promote_types(ids.dtype, np.min_scalar_type(most))
    rows, at_once = len(first) - 1, max(AT_ONCE // length, 1)
    with new_files(path, {"rows": kind}) as files:
        for begin in range(0, rows, at_once):
            end = min(begin + at_once, rows)
            some = slice(first[begin], first[end])
            begins, widths = starts[some], lengths[some].astype(np.int64)
            segments = np.arange(some.start, some.stop) + 1
            segments -= np.repeat(first[begin:end], np.diff(first[begin : end + 1]))
            columns = np.arange(widths.sum()) - np.repeat(
                np.cumsum(widths) - widths, widths
            )
            fields = (
                spans(ids, begins, widths),
                spans(ids, begins + 1, widths),
                np.repeat(segments, widths),
                columns,
            )
            counts = np.diff(offsets[begin : end + 1])
            files["rows"].append(laid_out(fields[: 2 if single else 4], counts))
            release(ids)
        return {"rows": files["rows"].array(), "offsets": offsets}


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
        "last: of each document in a row only its last token is predicted; answers: "
        f"what stands between {ANSWER!r} and {QUERY!r}, or the end",
        choices=TARGETS,
    )

    def __post_init__(self):
        super().__post_init__()
        wrong = {"last": ("joined",), "answers": ("joined", "cut")}.get(self.asked, ())
        if self.layout in wrong:  # an answer may need all that stands before it
            kept = "whole" if self.asked == "answers" else "apart"
            legal = ", ".join(layout for layout in LAYOUTS if layout not in wrong)
            raise ValueError(
                f"data.asked={self.asked!r} needs rows that keep documents {kept}; "
                f"choose data.layout from ({legal})"
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
    folder = workspace()
    rows = causal_rows(
        text,
        cfg.length,
        layout=cfg.layout,
        asked=cfg.asked,
        answers=_marks(cfg, tokenizer) if cfg.asked == "answers" else (),
        path=folder and folder / split,
    )
    if cfg.asked != "all":
        report["characters"] = 0  # not all of them are predicted
    if cfg.source == "mechanisms" and cfg.asked == "answers":  # which chance is of
        report["target_tokens"] = int(np.count_nonzero(rows.weights[:]))
    filled = filled_text(tokenizer, rows, report)
    return filled._replace(digest=_digest(rows)) if cfg.layout == "single" else filled


def _marks(cfg, tokenizer):
    """Ids of what begins and ends an answer. Raises: DataError if none begins one."""
    opens, closes = (_mark(tokenizer, mark) for mark in (ANSWER, QUERY))
    if not opens:
        raise DataError(
            f"data.asked='answers' needs {ANSWER!r} as a token of the vocabulary, as "
            "tokenizer.kind=word or character learns it of texts that have it"
        )
    ends = tokenizer.ids_of(cfg.separator) if cfg.separator else []
    return [*opens, *closes, *ends]


def _mark(tokenizer, mark):
    """Its id; none if it is no token, nor in any text the tokenizer was made of."""
    try:
        (ids,) = tokenizer.encode([mark])
    except DataError:
        return []
    known = len(ids) == 1 and ids[0] != tokenizer.unknown
    return [int(ids[0])] if known else []


def _digest(rows):
    """With positions, which ``single`` rows of runs from before had."""
    positions = Field(rows_of(rows), "positions", rows.shape, np.int32)
    return digest_of([rows._replace(positions=positions)])


KIND = Kind(
    Config,
    CausalBatch,
    load_corpus,
    texts_of,
    _rows,
    size=lambda corpus: corpus.count,
    few=few,
    mapped=CausalRows,
)
