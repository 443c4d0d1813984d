"""Sentence pairs as rows, several in a row or one."""

import dataclasses
import functools
import hashlib
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfm_jax.data.arrays.files import ending
from tfm_jax.data.arrays.mapped_rows import parts
from tfm_jax.data.arrays.tokenized import GrowingArrays, in_parallel
from tfm_jax.data.batches import Order
from tfm_jax.data.errors import DataError
from tfm_jax.data.policies import POLICIES, invalid_utf8_knob, sift
from tfm_jax.data.prepared import Filled, Kind, sha256_of
from tfm_jax.data.progress import progress
from tfm_jax.data.rows import packing
from tfm_jax.data.sources import tfds
from tfm_jax.data.sources.bitext import (
    SOURCES,
    Bitext,
    Pairs,
    load_bitext,
    load_pairs,
    pieces,
)
from tfm_jax.data.sources.mechanisms import examples as mechanisms
from tfm_jax.data.sources.numerals import MOST_NUMBERS
from tfm_jax.data.tokenizers import bilingual, unknown
from tfm_jax.data.tokenizers.bilingual import EOS, UNK
from tfm_jax.data.tokenizers.normalize import NORMALIZERS
from tfm_jax.data.tokenizers.training_texts import MOST, fits
from tfm_jax.data.workspace import workspace
from tfm_jax.knobs import knob

_Mechanism = mechanisms.Config
_SIDES = ("source", "target")
_BAD = ("empty", "overlong")


@dataclasses.dataclass(frozen=True)
class Config(Order):
    """Where sentence pairs come from and how they fill a batch."""

    ROLE = "training"

    source: str = knob("numerals", "where sentence pairs come from", choices=SOURCES)
    source_language: str = knob(
        "en", "language of the source, such as en", role="architecture"
    )
    target_language: str = knob(
        "de", "language of the target, such as de", role="architecture"
    )
    normalize: str = knob(
        "none",
        "what is done to text before tokens are made of it, and undone after",
        role="architecture",
        choices=NORMALIZERS,
    )
    numerals_max: int = knob(99_999, "the largest number", low=0, high=math.inf)
    numerals_train: int = knob(
        0,
        "how many numbers to train on; 0: all not held out",
        low=0,
        high=MOST_NUMBERS,
    )
    numerals_heldout: int = knob(
        1000, "numbers in valid, and as many in test", low=0, high=MOST_NUMBERS
    )
    numerals_seed: int = knob(0, "chooses the held-out numbers", low=0)
    numerals_joined: int = knob(1, "numbers in a line", low=1, high=10_000)
    numerals_joined_heldout: int = knob(
        0, "the same for valid and test; 0: as many", low=0, high=10_000
    )
    mechanism: _Mechanism = _Mechanism()
    heldout_words_least: int = knob(
        0, "words of a source in valid and test; shorter ones are left out", low=0
    )
    heldout_words_most: int = knob(
        0, "the same, longer ones; 0: however long", low=0, high=2**24
    )
    train_files: tuple[str, ...] = knob(
        (), "source=parallel: two text files, or one of tab-separated columns"
    )
    valid_files: tuple[str, ...] = knob((), "of the validation split; () is absent")
    test_files: tuple[str, ...] = knob((), "of the test split; () is absent")
    invalid_utf8: str = invalid_utf8_knob()
    tfds_name: str = tfds.name_knob("wmt14_translate/de-en")
    tfds_data_dir: str = tfds.data_dir_knob()
    tfds_train: str = tfds.train_knob()
    tfds_valid: str = knob("validation", 'its validation split; "": absent')
    tfds_test: str = knob("test", 'its test split; "": absent')
    batching: str = knob(
        "pack",
        "rows of several pairs, of similar lengths, or of one length",
        choices=("pack", "bucket", "fixed"),
    )
    source_length: int = knob(
        64, "tokens of a row, EOS included; longer ones: overlong", low=2, high=2**24
    )
    target_length: int = knob(64, "the same of the target", low=2, high=2**24)
    bucket_lengths: tuple[int, ...] = knob(
        (12, 16, 20, 24, 32, 48), "batching=bucket: the lengths of rows"
    )
    empty: str = knob(
        "drop", "what a pair gets of which one side has no token", choices=POLICIES
    )
    overlong: str = knob(
        "drop",
        "what a pair gets that is longer than its row; keep: cut",
        choices=POLICIES,
    )

    READ_WITH = {
        ("source", ("numerals",)): (
            "numerals_max",
            "numerals_train",
            "numerals_heldout",
            "numerals_seed",
            "numerals_joined",
            "numerals_joined_heldout",
        ),
        ("source", ("mechanisms",)): mechanisms.KNOBS,
        ("source", ("parallel",)): (
            "train_files",
            "valid_files",
            "test_files",
            "invalid_utf8",
        ),
        ("source", ("tfds",)): tfds.KNOBS,
        ("batching", ("bucket",)): ("bucket_lengths",),
    }

    def __post_init__(self):
        super().__post_init__()
        if any(length < 2 for length in self.bucket_lengths):
            raise ValueError(
                f"data.bucket_lengths={self.bucket_lengths}: each must be 2 or more"
            )


class Encoded(NamedTuple):
    """Tokenised pairs, with what became of the ones left out."""

    source: packing.Ragged
    target: packing.Ragged
    kept: np.ndarray  # int64, the entry of `Pairs` each pair came from
    report: dict


def has_text(line: str, ids: np.ndarray) -> bool:
    """Whether a line, and its ids that end in EOS, have anything in them."""
    return bool(line.strip()) and len(ids) > 1


def encode_pairs(
    cfg: Any,
    tokenizer: Any,
    pairs: Pairs | Bitext,
    split: str = "train",
    folder: Path | None = None,
) -> Encoded:
    """Tokenises pairs and applies the policies for empty and overlong ones.

    A pair is empty if either side has no visible character or no token, overlong if
    either side has more tokens than its row. overlong=keep cuts, and the last token
    kept is EOS. Of a held-out split empty pairs are left out whatever the policy.

    Args: folder: where tokens are kept, and what a killed process left of them; None:
        they are in memory.
    Raises: DataError if a policy says error, a token id is outside the vocabulary,
        or nothing is left.
    """
    if split != "train":
        cfg = dataclasses.replace(cfg, empty="drop")
    lines = pairs if isinstance(pairs, Bitext) else zip(*pairs[:2], strict=True)
    vocabs = [getattr(tokenizer, f"{side}_vocab") for side in _SIDES]
    kinds: dict[str, Any] = dict.fromkeys(_BAD, np.bool_)
    for side, vocab in zip(_SIDES, vocabs, strict=True):
        kinds[side + "_ids"] = np.min_scalar_type(max(vocab - 1, 0))
        kinds[side + "_lengths"] = np.uint32
    begun = {"tokenizer": tokenizer.fingerprint, "arrays": [*kinds]}
    with (
        GrowingArrays(folder, split, kinds, begun) as made,
        progress("tokenising", len(pairs.source)) as advance,
    ):
        some = pieces(lines)
        for _, (sources, _) in zip(range(made.added), some, strict=False):
            advance(len(sources), before=True)
        encode = functools.partial(_encoded, cfg, tokenizer, vocabs)
        for (sources, _), arrays in in_parallel(encode, some):
            made.add(arrays, {})
            advance(len(sources))
        *bad, source, source_lengths, target, target_lengths = made.arrays()
    keep, report = sift(cfg, dict(zip(_BAD, bad, strict=True)), "pair", some=True)
    sides = (
        packing.ragged(source, source_lengths),
        packing.ragged(target, target_lengths),
    )
    kept = np.flatnonzero(keep)
    report |= {
        "kept": len(kept),
        "source_tokens": len(source),
        "target_tokens": len(target),
        "unknown_share": {
            name: unknown.share(parts(side.ids), UNK)
            for side, name in zip(sides, _SIDES, strict=True)
        },
    }
    return Encoded(*sides, kept, report)


def _encoded(cfg, tokenizer, vocabs, lines):
    """Arrays of some pairs: what is bad of each, ids and lengths of those that stay."""
    ids = [tokenizer.encode(*one) for one in zip(lines, _SIDES, strict=True)]
    limits = cfg.source_length, cfg.target_length
    text = [list(map(has_text, *side)) for side in zip(lines, ids, strict=True)]
    lengths = np.array([[len(row) for row in side] for side in ids], int)
    bad = {
        "empty": ~np.array(text, bool).all(0),
        "overlong": (lengths > np.array(limits)[:, None]).any(0),
    }
    drops = [wrong for knob, wrong in bad.items() if getattr(cfg, knob) == "drop"]
    kept = np.flatnonzero(~np.any([np.zeros(len(text[0]), bool), *drops], 0))
    arrays = [*bad.values()]
    for n, side in enumerate(ids):
        rows = [_cut(side[index], limits[n]) for index in kept]
        joined = np.concatenate([*rows, np.zeros(0, np.int32)])
        _check_ids(joined, vocabs[n], _SIDES[n])
        arrays += joined, np.array([*map(len, rows)], np.uint32)
    return arrays


def _cut(row, limit):
    return row if len(row) <= limit else np.append(row[: limit - 1], np.int32(EOS))


def _check_ids(ids, vocab, side):
    if ids.size and not 0 <= ids.min() <= ids.max() < vocab:
        raise DataError(
            f"{side} token ids reach from {ids.min()} to {ids.max()}, outside the "
            f"vocabulary 0..{vocab - 1}"
        )


def form_rows(
    cfg: Any, encoded: Encoded, path: Path | None = None
) -> list[packing.Rows]:
    """The examples in rows: one `Rows` per row shape, smallest first.

    Args: path: folder, and what the names of files begin with; None: in memory.
    """
    lengths = encoded.source.lengths, encoded.target.lengths
    full = (cfg.source_length, cfg.target_length)
    if cfg.batching == "pack":
        examples, counts = packing.plan(*lengths, *full)
        return [packing.fill_rows(*encoded[:2], examples, counts, full, path)]
    shapes = [full]
    if cfg.batching == "bucket":
        smaller = {tuple(min(b, room) for room in full) for b in cfg.bucket_lengths}
        shapes = sorted({*smaller, full})
    fits = [(lengths[0] <= s) & (lengths[1] <= t) for s, t in shapes]
    first_fit = np.argmax(fits, axis=0)
    groups = [np.flatnonzero(first_fit == index) for index in range(len(shapes))]
    return [
        packing.fill_rows(
            *(*encoded[:2], group, np.ones(len(group), int), shape),
            path and ending(path, str(number)),
        )
        for number, (group, shape) in enumerate(zip(groups, shapes, strict=True))
        if len(group)
    ]


def _load(cfg, split, names):
    """Training text is read whenever it is needed; evaluation has the rest at hand."""
    del names  # there are no labels
    if split != "train":
        return load_pairs(cfg, split)
    bitext, report = load_bitext(cfg, split)
    if NORMALIZERS[cfg.normalize].moses and bitext.characters <= 2 * MOST:
        bitext = Bitext(*bitext.lists())  # it takes longer than all else
    return bitext, report


def _texts(cfg, pairs):
    """Pairs without those that any tokenizer would leave out as overlong."""
    if cfg.overlong != "drop":
        return pairs
    return pairs.where(
        lambda pair: (
            fits(pair[0], cfg.source_length) and fits(pair[1], cfg.target_length)
        )
    )


def _rows(cfg, tokenizer, pairs, split):
    folder = workspace()
    encoded = encode_pairs(cfg, tokenizer, pairs, split, folder)
    digest = hashlib.sha256()
    for side in (encoded.source, encoded.target):
        for part in parts(side.ids):
            digest.update(part.astype(np.int32))
        digest.update(side.offsets)
    rows = form_rows(cfg, encoded, folder and folder / split)
    return Filled(rows, encoded.report, digest.hexdigest())


def _fingerprint(cfg, tokenizer, digests, examples):
    """Packed otherwise, the data is the same, and the batches are others."""
    content = {"data": digests["train"], "tokenizer": tokenizer.fingerprint}
    held_out = [examples.get(split, ()) for split in ("valid", "test")]
    return sha256_of([content, *held_out]), content | {"batching": cfg.batching}


def _augment(cfg, tokenizer):
    return functools.partial(packing.as_batch, packed=cfg.batching == "pack")


KIND = Kind(
    Config,
    packing.Rows,
    _load,
    _texts,
    _rows,
    size=lambda pairs: len(pairs.source),
    augment=_augment,
    evaluated=lambda lists: Pairs(*lists),
    tokenizer=bilingual,
    fingerprint=_fingerprint,
    mapped=packing.PairRows,
)
