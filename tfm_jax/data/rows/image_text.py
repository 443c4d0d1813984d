"""Images and text as rows: turns of an image, a prompt and an answer."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfm_jax.data.arrays.gathered import Gathered
from tfm_jax.data.batch import ImageTextBatch
from tfm_jax.data.batches import Order
from tfm_jax.data.policies import POLICIES, sift
from tfm_jax.data.prepared import Filled, Kind, filled_text
from tfm_jax.data.sources import scenes
from tfm_jax.data.sources.image_text import Config as Source
from tfm_jax.data.sources.image_text import content, load_examples
from tfm_jax.data.sources.turns import Example, ImageTexts, examples_of
from tfm_jax.knobs import knob

SPECIAL = IMAGE, END = "<image>", "<end>"  # tokens that the tokenizer must have


@dataclasses.dataclass(frozen=True)
class Config(Order, Source):
    """Where images and text come from, and how they fill rows."""

    length: int = knob(
        64,
        "tokens of a row, special ones included; longer: overlong",
        role="training",
        low=2,
        high=2**24,
    )
    begin: str = knob(END, 'special token in front of a row; "": none')
    marker: str = knob(IMAGE, 'special token in the place of an image; "": none')
    end: str = knob(END, 'special token behind an answer; "": none')
    empty: str = knob(
        "drop",
        "what an example without a token to predict gets",
        role="training",
        choices=POLICIES,
    )
    overlong: str = knob(
        "drop",
        "what an example gets that is longer than its row; keep: cut",
        role="training",
        choices=POLICIES,
    )


def image_text_rows(
    cfg: Any, tokenizer: Any, split: ImageTexts
) -> tuple[ImageTextBatch, list[Example], dict[str, Any]]:
    """A row per example: (`ImageTextBatch`, the example of each row, report).

    Rows share their images, `Gathered`; batches of them have arrays.

    The tokens are ``begin`` and, turn after turn, ``marker``, prompt, answer and
    ``end``; labels are the tokens after each, the last one 0, and answers and ``end``
    alone count. Without a marker an image is in front of its prompt all the same.

    Source: Alayrac et al. 2022, arXiv:2204.14198, section 2 and appendix A.3.2.
    Raises: DataError if a policy says so or no example is left.
    """
    laid_out = _laid_out(cfg, tokenizer, split.examples)
    bad = {
        "empty": [not targets.any() for _, targets, _ in laid_out],
        "overlong": [len(tokens) > cfg.length for tokens, _, _ in laid_out],
    }

    def clause(knob, n):
        size = f": {len(laid_out[n][0])} tokens for a row of {cfg.length}"
        return f"example {n + 1} is {knob}{size * (knob == 'overlong')}"

    keep, report = sift(cfg, bad, "example", clause=clause, some=True)
    kept = np.flatnonzero(keep)
    examples = [split.examples[n] for n in kept]
    fields = np.zeros((5, len(kept), cfg.length), np.int32)
    tokens, segments, labels, weights, index = fields
    for row, n in enumerate(kept):
        ids, targets, seen = (x[: cfg.length] for x in laid_out[n])
        size = len(ids)
        tokens[row, :size], segments[row, :size] = ids, 1
        labels[row, : size - 1], weights[row, : size - 1] = ids[1:], targets[1:]
        index[row, :size] = seen
    counts = index.max(1)  # what is cut has no image
    rows = ImageTextBatch(
        tokens,
        segments,
        None,
        None,
        labels * weights,
        weights.astype(np.float32),
        _images(split.pixels, examples, counts),
        counts,
        index,
    )
    kinds = Counter(example.kind for example in examples)
    return (
        rows,
        examples,
        report
        | {
            "kept": len(kept),
            "tokens": int(segments.sum()),
            "targets": int(weights.sum()),
            "images": int(counts.sum()),
            "kinds": dict(sorted(kinds.items())),
        },
    )


def answer_starts(rows: ImageTextBatch) -> np.ndarray:
    """[R]: how many tokens of each row stand in front of its last answer."""
    counted = np.pad(rows.weights > 0, [(0, 0), (1, 0)])
    first = counted[:, 1:] & ~counted[:, :-1]
    columns = np.arange(1, first.shape[1] + 1)
    return np.where(first, columns, 0).max(1)


def _laid_out(cfg, tokenizer, examples):
    """(tokens, whether they are to be predicted, images so far) of each example."""
    ids = {"": np.zeros(0, np.int32)}
    texts = {text for example in examples for text in _texts_in(example)}
    texts = sorted(texts - ids.keys())
    ids |= zip(texts, tokenizer.encode(texts), strict=True)
    begin, marker, end = (
        np.array(tokenizer.ids_of(name) if name else [], np.int32)
        for name in (cfg.begin, cfg.marker, cfg.end)
    )
    nothing = np.zeros(0, np.int32)
    laid_out = []
    for example in examples:
        parts, targets, seen, images = [begin], [False], [0], 0
        for turn in example.turns:
            images += turn.image
            parts += [
                marker if turn.image else nothing,
                ids[turn.prompt],
                ids[_spaced(turn)],
                end if turn.ends else nothing,
            ]
            targets += [False, False, True, True]
            seen += [images] * 4
        sizes = [len(part) for part in parts]
        pieces = (
            np.concatenate(parts),
            np.repeat(targets, sizes),
            np.repeat(seen, sizes),
        )
        laid_out.append(pieces)
    return laid_out


def _texts_in(example):
    for turn in example.turns:
        yield turn.prompt
        yield _spaced(turn)


def _spaced(turn):
    """An answer as it is spelled behind its prompt."""
    return f" {turn.answer}" if turn.prompt and turn.answer else turn.answer


def _images(pixels, examples: Sequence[Example], counts):
    """[R, images, height, width, C], 0 behind the last image of each row."""
    index = np.full((len(examples), max(counts.max(), 1)), -1, np.int32)
    for row, (example, count) in enumerate(zip(examples, counts, strict=True)):
        index[row, :count] = example.images[:count]
    return Gathered(pixels, index)


def _texts(cfg, split):
    """What a tokenizer is trained on."""
    if cfg.source == "scenes":
        return scenes.language()
    return [turn.text for example in split.examples for turn in example.turns]


def _rows(cfg, tokenizer, split, name) -> Filled:
    del name
    rows, examples, report = image_text_rows(cfg, tokenizer, split)
    return filled_text(tokenizer, rows, report)._replace(examples=examples)


KIND = Kind(
    Config,
    ImageTextBatch,
    load_examples,
    _texts,
    _rows,
    size=lambda split: len(split.examples),
    content=content,
    evaluated=examples_of,
)
