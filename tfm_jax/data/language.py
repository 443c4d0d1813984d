"""From a data section to rows for causal language models."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from tfm_jax.data import causal_rows, documents, published, text_batches
from tfm_jax.data.batch import TextBatch
from tfm_jax.data.errors import DataError
from tfm_jax.data.subwords import TextTokenizer
from tfm_jax.data.vocabularies import TRAINERS, train_text_tokenizer

SPLITS = ("train", "valid", "test")


def _choice(names, default):
    return dataclasses.field(default=default, metadata={"choices": tuple(names)})


@dataclasses.dataclass(frozen=True)
class Config(documents.Config):
    """Running text, and how it fills rows."""

    length: int = 64  # tokens of a row
    layout: str = _choice(causal_rows.LAYOUTS, "joined")
    separator: str = ""  # special token between documents; "": none
    shuffle: bool = True
    prefetch: int = 4  # batches made ahead by one thread; 0: none, made on demand

    def __post_init__(self):
        super().__post_init__()
        if self.length < 1 or self.prefetch < 0:
            raise ValueError(
                f"data.length={self.length} must be positive and "
                f"data.prefetch={self.prefetch} not negative"
            )


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """What a token is; trained on the training split unless it is published."""

    kind: str = _choice((*TRAINERS, "published"), "byte_bpe")
    vocab: int = 8_000  # at most, special tokens included; not for bytes
    min_frequency: int = 1
    lowercase: bool = True  # kind=wordpiece
    file: str = ""  # kind=published: tokenizer.json, or a folder with a vocabulary

    def __post_init__(self):
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


def prepare(cfg: Config, tokenizer_cfg: TokenizerConfig, *, tokenizer=None) -> Prepared:
    """Loads all splits, makes the tokenizer unless one is given, fills the rows.

    Raises: DataError as `documents` and `causal_rows`; held-out splits may be absent.
    """
    found, report = {}, {}
    for split in SPLITS:
        found[split], report[split] = documents.load_documents(cfg, split)
    if tokenizer is None:
        tokenizer = make_tokenizer(tokenizer_cfg, found["train"].texts)
    end = tokenizer.ids_of(cfg.separator)[0] if cfg.separator else None
    rows = {}
    for split, (_, texts) in found.items():
        rows[split] = []
        if texts:
            ids, said = causal_rows.encode_documents(tokenizer, texts)
            report[split] |= said
            rows[split].append(
                causal_rows.causal_rows(ids, cfg.length, layout=cfg.layout, end=end)
            )
    digests = [text_batches.fingerprint(rows[split]) for split in SPLITS]
    content = json.dumps([tokenizer.fingerprint, *digests]).encode()
    report["fingerprint"] = hashlib.sha256(content).hexdigest()
    return Prepared(tokenizer, *rows.values(), report, report["fingerprint"])


def make_tokenizer(cfg: TokenizerConfig, texts) -> TextTokenizer:
    """The tokenizer that the section describes, trained on ``texts`` if it must be."""
    if cfg.kind == "published":
        path = Path(cfg.file)
        if not path.exists():
            raise DataError(f"tokenizer.file={cfg.file!r} does not exist")
        return TextTokenizer(published.read(path))
    return train_text_tokenizer(
        cfg.kind,
        texts,
        vocab=cfg.vocab,
        min_frequency=cfg.min_frequency,
        lowercase=cfg.lowercase,
    )


def train_batches(cfg: Config, data: Prepared, **options):
    """Endless shuffled batches, see `text_batches.train_text_batches`."""
    identity = {"data": data.fingerprint, "layout": cfg.layout}
    return text_batches.train_text_batches(
        data.train,
        identity=identity,
        shuffle=cfg.shuffle,
        prefetch=cfg.prefetch,
        **options,
    )
