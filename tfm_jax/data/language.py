"""From a data section to rows of text, whatever is asked about them.

What differs from task to task is a module each: `causal_text`, `masked_text`,
`labelled_text`, `tagged_text`, `span_text`. It has

- ``Config``: the data section;
- ``load(cfg, split, names) -> (found, report)``: what was read, of a list-like kind;
  names are those of the training split's labels, None while that one is read;
- ``texts(found)``: what a tokenizer is trained on;
- ``rows(cfg, tokenizer, found, split) -> (TextBatch, report)``;
- ``change(cfg, tokenizer)``: what draws labels anew for every batch whose rows have
  none, see `text_batches`; or None.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfm_jax.data import text_batches
from tfm_jax.data.batch import TextBatch
from tfm_jax.data.errors import DataError, within
from tfm_jax.data.tokenizers import published, unknown
from tfm_jax.data.tokenizers.subwords import TextTokenizer
from tfm_jax.data.tokenizers.training_texts import fits, with_short_words
from tfm_jax.data.tokenizers.vocabularies import TRAINERS, train_text_tokenizer
from tfm_jax.data.watchdog import patience
from tfm_jax.knobs import bounded, check_numbers, choice

SPLITS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """What a token is; trained on the training split unless it is published."""

    kind: str = choice((*TRAINERS, "published"), "byte_bpe")
    # at most, special tokens included; not for bytes
    vocab: int = bounded(8_000, 1, 2**24)
    min_frequency: int = bounded(1, 1)
    lowercase: bool = True  # kind=wordpiece and unigram
    special: tuple[str, ...] = ()  # further special tokens of the vocabulary
    file: str = ""  # kind=published: tokenizer.json, or a folder with a vocabulary

    READ_WITH = {
        ("kind", tuple(kind for kind in TRAINERS if kind != "byte")): ("vocab",),
        ("kind", ("byte_bpe", "wordpiece")): ("min_frequency",),
        ("kind", ("wordpiece", "unigram")): ("lowercase",),
    }

    def __post_init__(self):
        check_numbers(self, "tokenizer")
        if (self.kind == "published") != bool(self.file):
            raise ValueError(
                f"tokenizer.file={self.file!r} belongs to tokenizer.kind='published', "
                f"not {self.kind!r}"
            )


class Prepared(NamedTuple):
    """What training needs to know of the data; each split is a list of row sets."""

    tokenizer: TextTokenizer
    train: list[TextBatch]
    valid: list[TextBatch]
    test: list[TextBatch]
    report: dict  # per split what was read and kept; plain JSON
    fingerprint: str  # sha256 over data and tokenizer
    change: Callable | None  # of the task


def prepare(
    task, cfg, tokenizer_cfg: TokenizerConfig, *, tokenizer=None, splits=SPLITS,
    names=None,
) -> Prepared:  # fmt: skip
    """Loads the splits, makes the tokenizer unless one is given, fills the rows.

    Args:
        task: one of the modules above.
        splits: those to load, training first; without it a tokenizer must be given.
        names: of the labels, in order; by default those of the training split.
    Raises: DataError as ``task`` does; held-out splits may be absent.
    """
    found, report = {}, {}
    with patience(cfg.timeout_seconds):
        for split in splits:
            found[split], report[split] = task.load(cfg, split, names)
            names = names or report[split].get("labels")
    if tokenizer is None:
        texts = task.texts(found["train"])
        if getattr(cfg, "overlong", "") == "drop":
            texts = [text for text in texts if fits(text, cfg.length)]
        tokenizer = make_tokenizer(tokenizer_cfg, with_short_words(texts))
    tokenizer = tokenizer.with_special(tokenizer_cfg.special)
    rows = {split: [] for split in SPLITS}
    for split, content in found.items():
        if len(task.texts(content)):
            with within(f"the {split} split"):
                filled, said = task.rows(cfg, tokenizer, content, split)
            report[split] |= said | {"unknown_share": _unknown_share(tokenizer, filled)}
            unknown.check(report[split], split)
            rows[split].append(filled)
    digests = [text_batches.fingerprint(rows[split]) for split in SPLITS]
    content = json.dumps([tokenizer.fingerprint, *digests]).encode()
    report["fingerprint"] = hashlib.sha256(content).hexdigest()
    change = task.change(cfg, tokenizer)
    return Prepared(tokenizer, *rows.values(), report, report["fingerprint"], change)


def _unknown_share(tokenizer, rows):
    """Of the tokens of a `TextBatch`, special ones apart."""
    tokens = rows.tokens[rows.segments > 0]
    special = {*tokenizer.special.values()} - {tokenizer.unknown}
    return unknown.share(tokens[~np.isin(tokens, [*special])], tokenizer.unknown)


def make_tokenizer(cfg: TokenizerConfig, texts) -> TextTokenizer:
    """The tokenizer that the section describes, trained on ``texts`` if it must be."""
    if cfg.kind == "published":
        path = Path(cfg.file)
        if not path.exists():
            raise DataError(f"tokenizer.file={cfg.file!r} does not exist")
        return TextTokenizer(published.read(path))
    _, usual = TRAINERS[cfg.kind]
    return train_text_tokenizer(
        cfg.kind,
        texts,
        vocab=cfg.vocab,
        special=(*usual, *cfg.special),
        min_frequency=cfg.min_frequency,
        lowercase=cfg.lowercase,
    )


def train_batches(cfg, data: Prepared, **options):
    """Endless shuffled batches, see `text_batches.train_text_batches`."""
    return text_batches.train_text_batches(
        data.train,
        identity={"data": data.fingerprint},
        change=_change(data, data.train),
        shuffle=cfg.shuffle,
        prefetch=cfg.prefetch,
        timeout_seconds=cfg.timeout_seconds,
        **options,
    )


def eval_batches(data: Prepared, split: str, **options):
    """Every row of a split once, see `text_batches.eval_text_batches`."""
    rows = getattr(data, split)
    return text_batches.eval_text_batches(rows, change=_change(data, rows), **options)


def _change(data, row_sets):
    """Rows that have their labels for good are left as they are."""
    return data.change if row_sets and row_sets[0].labels is None else None
