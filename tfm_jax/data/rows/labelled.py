"""Texts or pairs of texts with a label each, as rows."""

import dataclasses
from typing import Any

import numpy as np

from tfm_jax.data.batch import LabelledBatch
from tfm_jax.data.batches import Order
from tfm_jax.data.policies import POLICIES, sift
from tfm_jax.data.prepared import Kind, filled_text
from tfm_jax.data.rows import framing
from tfm_jax.data.sources import tables
from tfm_jax.data.tokenizers.training_texts import fitting
from tfm_jax.knobs import knob


@dataclasses.dataclass(frozen=True)
class Config(Order, tables.Config):
    """Where labelled texts come from and how they fill rows."""

    ROLE = "training"

    frame: str = knob(
        "bert",
        "special tokens around texts",
        role="architecture",
        choices=framing.FRAMES,
    )
    length: int = knob(
        128,
        "tokens of a row, special ones included; longer: overlong",
        low=5,
        high=2**24,
    )
    empty: str = knob(
        "keep", "what an example gets of which one text has no token", choices=POLICIES
    )
    overlong: str = knob(
        "keep",
        "what an example gets that is longer than its row; keep: cut",
        choices=POLICIES,
    )


def labelled_rows(cfg: Any, tokenizer: Any, labelled: Any) -> tuple:
    """A row per example: (`LabelledBatch`, report).

    An example is empty if one of its texts has no token, overlong if it does not fit
    its row; then the longer text is cut at its end.

    Raises: DataError if a policy says error or nothing is left.
    """
    pair = labelled.seconds is not None
    sides = [labelled.firsts, labelled.seconds] if pair else [labelled.firsts]
    ids = [tokenizer.encode(side) for side in sides]
    lengths = np.array([[len(row) for row in side] for side in ids])
    room = framing.room(cfg.length, pair=pair)
    bad = {"empty": (lengths == 0).any(0), "overlong": lengths.sum(0) > room}
    keep, report = sift(cfg, bad, "example", some=True)
    kept = np.flatnonzero(keep)
    left = framing.cut_lengths(lengths[0], lengths[1] if pair else 0, room)
    texts = [
        [side[n][: size[n]] for n in kept]
        for side, size in zip(ids, left, strict=False)
    ]
    names = framing.frame_ids(tokenizer, cfg.frame)
    rows = framing.frame_rows(texts[0], texts[1] if pair else None, names, cfg.length)
    known = labelled.known[kept].astype(np.float32)
    rows = LabelledBatch(*rows, labels=labelled.labels[kept], weights=known)
    return rows, report | {"kept": len(kept)}


def _texts(cfg, labelled):
    return fitting(cfg, [*labelled.firsts, *(labelled.seconds or ())])


def _rows(cfg, tokenizer, labelled, split):
    del split
    return filled_text(tokenizer, *labelled_rows(cfg, tokenizer, labelled))


KIND = Kind(Config, LabelledBatch, tables.load_labelled, _texts, _rows)
