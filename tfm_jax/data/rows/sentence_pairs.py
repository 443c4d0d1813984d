"""Pairs of neighbouring text and others, to tell apart in pre-training."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from tfm_jax.data.arrays.files import new_files
from tfm_jax.data.arrays.mapped_rows import AT_ONCE, MappedRows, Windows, release, spans
from tfm_jax.data.arrays.tokenized import TokenizedDocuments
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


class MaskedRows(MappedRows):
    """Rows of one or two texts for masked language models.

    Attributes:
        arrays: rows, one after the other the tokens of each without its padding, and
            offsets [R + 1], tokens before each row. Of pairs: second [R], the column in
            which the second text begins, and pair_labels [R]. Of rows that are masked
            for good: target_positions and labels [R M], and target_counts [R].
        settings: length T; ``most`` M, prediction targets of a row.
    """

    batch = MaskedBatch

    @property
    def tokens(self) -> int:
        """Of all rows, padding left out."""
        return int(self.arrays["offsets"][-1])

    def _kinds(self):
        rows, length = len(self.arrays["offsets"]) - 1, self.settings["length"]
        kinds = dict.fromkeys(("tokens", "segments", "types"), ((rows, length), "i4"))
        if "second" in self.arrays:
            kinds["pair_labels"] = (rows,), "i4"
        if "labels" in self.arrays:
            shape = rows, self.settings["most"]
            kinds |= {"target_positions": (shape, "i4"), "labels": (shape, "i4")}
            kinds["weights"] = shape, "f4"
        return kinds

    def _gather(self, chosen, at_once):
        return _Texts(self.arrays, chosen, at_once, **self.settings)


class _Texts:
    """Some `MaskedRows`."""

    def __init__(self, arrays, chosen, at_once, *, length, most):
        self._arrays, self._chosen, self._most = arrays, chosen, most
        self._windows = Windows.of_rows(
            arrays["rows"], arrays["offsets"], chosen, length, at_once=at_once
        )

    tokens = property(lambda self: self._windows[0])
    segments = property(lambda self: self._windows.real(np.int32))
    pair_labels = property(lambda self: self._of_row("pair_labels"))
    target_positions = property(lambda self: self._of_targets("target_positions"))
    labels = property(lambda self: self._of_targets("labels"))

    @property
    def weights(self):
        counts = self._of_row("target_counts")[:, None]
        return (np.arange(self._most) < counts).astype(np.float32)

    @property
    def types(self):
        real = self._windows.real(bool)
        if "second" not in self._arrays:
            return np.zeros(real.shape, np.int32)
        columns = np.arange(real.shape[1], dtype=np.int32)
        return (real & (columns >= self._of_row("second")[:, None])).astype(np.int32)

    def _of_row(self, name):
        return self._arrays[name].take(self._chosen).astype(np.int32)

    def _of_targets(self, name):
        every = self._arrays[name].reshape(-1, self._most)
        return every[self._chosen].astype(np.int32)


def pair_rows(
    text: TokenizedDocuments,
    cfg: Any,
    tokenizer: Any,
    *,
    length: int,
    seed: int,
    path: Path | None = None,
) -> MaskedBatch:
    """Rows of text from documents: a `MaskedBatch` with ``pair_labels``.

    Chunks of sentences fill a row and are cut in two at a random sentence; "nsp" puts
    a piece of another document in the place of the second half, and goes on behind
    the first; "sop" swaps the halves; "none" leaves them one text and labels None.

    Args:
        text: documents of sentences.
        cfg: a Config.
        tokenizer: has BERT's special tokens.
        length: T, tokens of a row, special ones included.
        seed: draws everything; the same rows on every run.
        path: folder, and what the names of files begin with; None: rows are in memory.

    Source: Devlin et al. 2019, arXiv:1810.04805, section 3.1 and appendix A.2, and the
    released create_pretraining_data.py; Lan et al. 2020, arXiv:1909.11942, section 3.1.
    Deviates: sop has no row of one sentence, which ALBERT's code pairs with another
    document.
    Raises: DataError if there is no row, or nsp has but one document.
    """
    documents, paired = _Documents(text), cfg.kind != "none"
    if cfg.kind == "nsp" and len(documents) < 2:
        raise DataError("data.pairs.kind='nsp' needs two documents or more")
    rows = itertools.chain.from_iterable(
        _pairs(documents, n, cfg, length, np.random.default_rng((seed, n)))
        for n in range(len(documents))
    )
    ids = framing.frame_ids(tokenizer)
    kinds = {"rows": text.ids.dtype, "offsets": np.int64}
    if paired:
        kinds |= {"second": np.min_scalar_type(length), "pair_labels": np.uint8}
    with new_files(path, kinds) as files:
        while some := [*itertools.islice(rows, max(AT_ONCE // length, 1))]:
            *texts, labels = zip(*some, strict=True)
            tokens, counts = _framed(text.ids, texts[: 1 + paired], ids)
            files["rows"].append(tokens)
            files["offsets"].append_totals(counts)
            if paired:
                files["second"].append([end - start + 2 for start, end in texts[0]])
                files["pair_labels"].append(labels)
            release(text.ids, text.sentences)
        if not files["rows"].size:
            raise DataError(
                f"{len(documents)} documents give no row for data.pairs.kind="
                f"{cfg.kind!r}: each has but one sentence"
            )
        arrays = {name: file.array() for name, file in files.items()}
    return MaskedRows(arrays, {"length": length, "most": 0}).fields()


def _framed(array, texts, ids):
    """(tokens of rows [N], how many of each [R]): texts between special tokens.

    Args: texts: [P, R, 2], the first token of each, and the one behind its last.
    """
    begins, ends = np.moveaxis(np.array(texts, np.int64), 0, -1).swapaxes(0, 1)
    special = [ids.begin, *[ids.between] * (len(texts) - 1), ids.end]
    shape = len(begins), len(texts) + len(special)
    starts, widths = np.zeros(shape, np.int64), np.ones(shape, np.int64)
    starts[:, 1::2], widths[:, 1::2] = begins, ends - begins
    tokens = spans(array, starts.ravel(), widths.ravel())
    before = np.cumsum(widths).reshape(shape) - widths
    tokens[before[:, ::2]] = special
    return tokens, widths.sum(1)


class _Documents:
    """Where the sentences of documents begin in the tokens of all."""

    def __init__(self, text):
        self._edges = np.asarray(text.sentences)
        self._first = np.append(0, np.cumsum(text.sentence_counts, dtype=np.int64))

    def __len__(self):
        return len(self._first) - 1

    def __getitem__(self, number):
        """[n + 1] of n sentences, and where the last one ends."""
        return self._edges[self._first[number] : self._first[number + 1] + 1]


def _pairs(documents, number, cfg, row_length, rng):
    """(first, second, label) of one document, of texts (first token, behind the last).

    ``second`` is None where there are no pairs.
    """
    edges = documents[number]
    count = len(edges) - 1
    room = framing.room(row_length, pair=cfg.kind != "none")
    start, goal = 0, _goal(cfg, room, rng)
    while start < count:
        end = _end(edges, start, goal)
        size = end - start
        if cfg.kind == "none":
            yield _trim(edges[start], edges[end], room, rng), None, FOLLOWS
        elif cfg.kind == "nsp" or size > 1:
            middle = start + (int(rng.integers(1, size)) if size > 1 else 1)
            first = edges[start], edges[middle]
            label = OTHER if size == 1 else int(rng.random() < cfg.other_share)
            if cfg.kind == "nsp" and label == OTHER:
                left = goal - int(first[1] - first[0])
                second = _elsewhere(documents, number, left, rng)
                end = middle  # the rest is used next
            else:
                second = edges[middle], edges[end]
            if cfg.kind == "sop" and label == OTHER:
                first, second = second, first
            sizes = framing.cut_lengths(
                first[1] - first[0], second[1] - second[0], room
            )
            yield _trim(*first, sizes[0], rng), _trim(*second, sizes[1], rng), label
        start = end


def _end(edges, start, goal):
    """Behind the last sentence of those from ``start`` on that fill ``goal`` tokens."""
    end = int(np.searchsorted(edges, edges[start] + goal))
    return min(max(end, start + 1), len(edges) - 1)


def _goal(cfg, room, rng):
    """Tokens to collect before a row is made, the same in a whole document."""
    return int(rng.integers(2, room + 1)) if rng.random() < cfg.short_share else room


def _elsewhere(documents, number, goal, rng):
    """Sentences of another document from a random one on, a token at least."""
    for _ in range(_TRIES):
        other = int(rng.integers(len(documents)))
        if other != number:
            break
    edges = documents[other]
    start = int(rng.integers(len(edges) - 1))
    return edges[start], edges[_end(edges, start, goal)]


def _trim(start, end, size, rng):
    """Leaves ``size`` tokens, taking each of the others from a random end."""
    extra = int(end - start) - int(size)
    if extra <= 0:
        return start, end
    start += int(rng.binomial(extra, 0.5))
    return start, start + int(size)
