"""From a data section to batches: load, tokenise, lay out in rows, iterate."""

import dataclasses
import hashlib
import json
import math
from typing import NamedTuple

import numpy as np

from tfm_jax.data.errors import DataError, within
from tfm_jax.data.rows import packing
from tfm_jax.data.sources.bitext import SOURCES, SPLITS, Pairs, load_pairs
from tfm_jax.data.stream import BatchSource, TrainBatches
from tfm_jax.data.tokenizers import unknown
from tfm_jax.data.tokenizers.bilingual import EOS, UNK, Tokenizer, train_tokenizer
from tfm_jax.data.tokenizers.normalize import NORMALIZERS
from tfm_jax.data.tokenizers.training_texts import fits, with_short_words
from tfm_jax.data.watchdog import patience
from tfm_jax.knobs import bounded, check_numbers, choice


@dataclasses.dataclass(frozen=True)
class Config:
    """Where sentence pairs come from and how they fill a batch."""

    source: str = choice(SOURCES, "numerals")
    source_language: str = "en"
    target_language: str = "de"
    normalize: str = choice(NORMALIZERS, "none")
    # source=numerals
    numerals_max: int = bounded(99_999, 0, math.inf)  # the largest number
    # how many numbers to train on; 0: all not held out
    numerals_train: int = bounded(0, 0)
    numerals_heldout: int = bounded(1000, 0)  # numbers in valid, and as many in test
    numerals_seed: int = bounded(0, 0)  # chooses the held-out numbers
    numerals_joined: int = bounded(1, 1, 10_000)  # numbers in a line
    # the same for valid and test; 0: as many
    numerals_joined_heldout: int = bounded(0, 0, 10_000)
    # source=parallel: two text files, or one of tab-separated columns; () is absent
    train_files: tuple[str, ...] = ()
    valid_files: tuple[str, ...] = ()
    test_files: tuple[str, ...] = ()
    invalid_utf8: str = choice(("error", "replace"), "error")
    # source=tfds
    tfds_name: str = "wmt14_translate/de-en"
    tfds_data_dir: str = ""  # "": where TFDS puts its data
    tfds_train: str = "train"
    tfds_valid: str = "validation"
    tfds_test: str = "test"
    # rows
    batching: str = choice(("pack", "bucket", "fixed"), "pack")
    # tokens of a row, EOS included; longer ones: overlong
    source_length: int = bounded(64, 2, 2**24)
    target_length: int = bounded(64, 2, 2**24)
    bucket_lengths: tuple[int, ...] = (12, 16, 20, 24, 32, 48)  # batching=bucket
    empty: str = choice(("drop", "keep", "error"), "drop")
    overlong: str = choice(("drop", "keep", "error"), "drop")  # keep: cut
    shuffle: bool = True
    # batches made ahead by one thread; 0: none, made on demand
    prefetch: int = bounded(4, 0, 10_000)
    # of waiting for data, after which the run ends with exit code 69; 0: for ever
    timeout_seconds: float = bounded(600.0, 0)

    READ_WITH = {
        ("source", ("numerals",)): (
            "numerals_max",
            "numerals_train",
            "numerals_heldout",
            "numerals_seed",
            "numerals_joined",
            "numerals_joined_heldout",
        ),
        ("source", ("parallel",)): (
            "train_files",
            "valid_files",
            "test_files",
            "invalid_utf8",
        ),
        ("source", ("tfds",)): (
            "tfds_name",
            "tfds_data_dir",
            "tfds_train",
            "tfds_valid",
            "tfds_test",
        ),
        ("batching", ("bucket",)): ("bucket_lengths",),
    }

    def __post_init__(self):
        check_numbers(self, "data")
        if any(length < 2 for length in self.bucket_lengths):
            raise ValueError(
                f"data.bucket_lengths={self.bucket_lengths}: each must be 2 or more"
            )


class Encoded(NamedTuple):
    """Tokenised examples, with what became of the ones left out."""

    source: packing.Ragged
    target: packing.Ragged
    kept: np.ndarray  # int64, the entry of `Pairs` each example came from
    report: dict
    fingerprint: dict  # sha256 of the tokenised examples and of the tokenizer


class Prepared(NamedTuple):
    """What training needs to know of the data."""

    tokenizer: Tokenizer
    train: Encoded
    valid: Pairs
    test: Pairs
    report: dict  # per split what was read, dropped and kept; plain JSON
    fingerprint: str  # sha256 over data and tokenizer


def prepare(cfg, tokenizer_cfg, *, tokenizer=None):
    """Loads all splits, trains the tokenizer unless one is given, encodes train."""
    splits, report = {}, {}
    with patience(cfg.timeout_seconds):
        for split in SPLITS:
            splits[split], report[split] = load_pairs(cfg, split)
    train = splits["train"]
    if not train.source:
        raise DataError(f"data.source={cfg.source!r}: the training split is empty")
    if tokenizer is None:
        tokenizer = train_tokenizer(tokenizer_cfg, *_training_texts(cfg, train))
    encoded = {}
    for split, pairs in splits.items():
        encode = encode_pairs if split == "train" else encode_held_out
        with within(f"the {split} split"):
            encoded[split] = encode(cfg, tokenizer, pairs)
        report[split] |= encoded[split].report
        unknown.check(report[split], split)
    encoded, *held_out = encoded["train"], splits["valid"], splits["test"]
    content = json.dumps([encoded.fingerprint, *held_out]).encode()
    report["fingerprint"] = hashlib.sha256(content).hexdigest()
    return Prepared(tokenizer, encoded, *held_out, report, report["fingerprint"])


def _training_texts(cfg, pairs):
    """Both sides, without the pairs that any tokenizer would leave out as overlong."""
    kept = [
        pair
        for pair in zip(pairs.source, pairs.target, strict=True)
        if cfg.overlong != "drop"
        or (fits(pair[0], cfg.source_length) and fits(pair[1], cfg.target_length))
    ]
    return [with_short_words(pair[side] for pair in kept) for side in (0, 1)]


def has_text(line, ids):
    """Whether a line, and its ids that end in EOS, have anything in them."""
    return bool(line.strip()) and len(ids) > 1


def encode_held_out(cfg, tokenizer, pairs):
    """`encode_pairs` of pairs to evaluate on: empty ones are left out."""
    return encode_pairs(dataclasses.replace(cfg, empty="drop"), tokenizer, pairs)


def encode_pairs(cfg, tokenizer, pairs):
    """Tokenises pairs and applies the policies for empty and overlong ones.

    A pair is empty if either side has no visible character or no token, overlong if
    either side has more tokens than its row. overlong=keep cuts, and the last token
    kept is EOS.

    Raises: DataError if a policy says error, a token id is outside the vocabulary,
        or nothing is left.
    """
    sides = ("source", "target")
    ids = [
        tokenizer.encode(lines, side)
        for lines, side in zip(pairs[:2], sides, strict=True)
    ]
    lengths = np.array([[len(row) for row in side] for side in ids], int)
    limits = np.array([[cfg.source_length], [cfg.target_length]])
    text = [list(map(has_text, *side)) for side in zip(pairs[:2], ids, strict=True)]
    empty = ~np.array(text, bool).all(0)
    overlong = (lengths > limits).any(0) & ~(empty & (cfg.empty == "drop"))
    keep = np.ones(lengths.shape[1], bool)
    for name, found in (("empty", empty), ("overlong", overlong)):
        policy = getattr(cfg, name)
        if policy == "error" and found.any():
            raise DataError(
                f"pair {found.argmax() + 1} is {name}, {found.sum()} in all; "
                f"data.{name}=drop leaves them out"
            )
        if policy == "drop":
            keep &= ~found
    kept = np.flatnonzero(keep)
    if len(pairs.source) and not len(kept):
        raise DataError(
            f"none of {len(pairs.source)} pairs is left: {empty.sum()} empty, "
            f"{overlong.sum()} longer than data.source_length={cfg.source_length} or "
            f"data.target_length={cfg.target_length}"
        )
    cut = [
        packing.ragged([_cut(side[index], limit) for index in kept])
        for side, limit in zip(ids, limits[:, 0], strict=True)
    ]
    for side, name in zip(cut, sides, strict=True):
        _check_ids(side.ids, getattr(tokenizer, f"{name}_vocab"), name)
    digest = hashlib.sha256()
    for array in (*cut[0], *cut[1]):
        digest.update(array.tobytes())
    report = {
        "empty": {"policy": cfg.empty, "pairs": int(empty.sum())},
        "overlong": {"policy": cfg.overlong, "pairs": int(overlong.sum())},
        "kept": len(kept),
        "source_tokens": len(cut[0].ids),
        "target_tokens": len(cut[1].ids),
        "unknown_share": {
            name: unknown.share(side.ids, UNK)
            for side, name in zip(cut, sides, strict=True)
        },
    }
    fingerprint = {"data": digest.hexdigest(), "tokenizer": tokenizer.fingerprint}
    return Encoded(*cut, kept, report, fingerprint)


def _cut(row, limit):
    return row if len(row) <= limit else np.append(row[: limit - 1], np.int32(EOS))


def _check_ids(ids, vocab, side):
    if ids.size and not 0 <= ids.min() <= ids.max() < vocab:
        raise DataError(
            f"{side} token ids reach from {ids.min()} to {ids.max()}, outside the "
            f"vocabulary 0..{vocab - 1}"
        )


def form_rows(cfg, encoded):
    """The examples in rows: one `Rows` per row shape, smallest first."""
    lengths = encoded.source.lengths, encoded.target.lengths
    full = (cfg.source_length, cfg.target_length)
    if cfg.batching == "pack":
        examples, counts = packing.plan(*lengths, *full)
        return [packing.fill_rows(*encoded[:2], examples, counts, full)]
    shapes = [full]
    if cfg.batching == "bucket":
        smaller = {tuple(min(b, room) for room in full) for b in cfg.bucket_lengths}
        shapes = sorted({*smaller, full})
    fits = [(lengths[0] <= s) & (lengths[1] <= t) for s, t in shapes]
    first_fit = np.argmax(fits, axis=0)
    groups = [np.flatnonzero(first_fit == index) for index in range(len(shapes))]
    return [
        packing.fill_rows(*encoded[:2], group, np.ones(len(group), int), shape)
        for group, shape in zip(groups, shapes, strict=True)
        if len(group)
    ]


def rows_per_batch(rows, batch_tokens, row_multiple):
    """How many rows of a shape make a batch of ``batch_tokens`` target tokens."""
    wanted = batch_tokens // rows.target.shape[1]
    return max(wanted // row_multiple, 1) * row_multiple


def train_batches(
    cfg, encoded, *, batch_tokens, total_batches, seed,
    start=0, process_index=0, process_count=1, row_multiple=1,
):  # fmt: skip
    """Endless shuffled epochs cut off after ``total_batches``: a `TrainBatches`.

    Args:
        cfg: the data section.
        encoded: the training examples.
        batch_tokens: target tokens of a global batch, padding included; a batch has
            ``batch_tokens // row length`` rows, rounded down to ``row_multiple``.
        total_batches: where the iterator ends.
        seed: orders rows and batches.
        start: the first batch to give; any batch costs the same.
        process_index: which slice of each global batch to give.
        process_count: of how many; the global batch does not depend on it.
        row_multiple: what the rows of a batch must divide into, such as devices.

    Raises: DataError if the data does not fill one batch; ValueError if the rows of
        a batch do not divide among the processes.
    """
    row_sets = form_rows(cfg, encoded)
    sizes = [rows_per_batch(rows, batch_tokens, row_multiple) for rows in row_sets]
    counts = [len(rows.source) for rows in row_sets]
    if row_multiple % process_count:
        raise ValueError(
            f"row_multiple={row_multiple} must be a multiple of "
            f"process_count={process_count}"
        )
    if all(count < size for count, size in zip(counts, sizes, strict=True)):
        raise DataError(
            f"{len(encoded.kept)} training pairs make {counts} rows, less than one "
            f"batch of {sizes}: lower train.batch_tokens={batch_tokens}"
        )
    source = BatchSource(
        row_sets, sizes, total=total_batches, seed=seed, shuffle=cfg.shuffle,
        part=(process_index, process_count),
    )  # fmt: skip
    shapes = [[*rows.source.shape, rows.target.shape[1]] for rows in row_sets]
    identity = {
        **encoded.fingerprint,
        "seed": seed,
        "batch_tokens": batch_tokens,
        "batch_rows": sizes,
        "batching": cfg.batching,
        "shapes": shapes,
        "shuffle": cfg.shuffle,
    }
    return TrainBatches(
        source, start=start, prefetch=cfg.prefetch, identity=identity,
        timeout_seconds=cfg.timeout_seconds,
    )  # fmt: skip


def eval_batches(cfg, encoded, *, batch_tokens, row_multiple=1):
    """Every example exactly once, in the batch shapes of training.

    The last batch of a shape is filled up with empty rows (segment 0).
    """
    for rows in form_rows(cfg, encoded):
        size = rows_per_batch(rows, batch_tokens, row_multiple)
        for first in range(0, len(rows.source), size):
            yield packing.make_batch(rows, slice(first, first + size), size)
