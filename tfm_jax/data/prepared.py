"""Prepared data: from a data section to the rows that batches are taken from."""

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tfm_jax import bounded_json
from tfm_jax.data.arrays.mapped_rows import MappedRows
from tfm_jax.data.batch import FORMER
from tfm_jax.data.errors import DataError, within
from tfm_jax.data.progress import announced
from tfm_jax.data.tokenizers import unknown, vocabularies
from tfm_jax.data.watchdog import patience
from tfm_jax.data.workspace import workspace

SPLITS = ("train", "valid", "test")
_AT_ONCE = 1 << 20  # items of a field


class Prepared(NamedTuple):
    """What training and evaluation need to know of the data.

    Attributes:
        tokenizer: of the kind of data; None if that is no text.
        train, valid, test: row sets, see `batches`; [] for a split that is absent.
        examples: held-out split, if there is one -> the examples that evaluation reads
            besides its rows.
        report: split -> what was read, left out and kept; plain JSON.
        fingerprint: sha256 over data and tokenizer.
        identity: of the training data, what a resumed run must find again; plain JSON.
        augment: (rows, seeds [B, 3]) -> batch, what differs from epoch to epoch, such
            as dynamic masks, or is not stored; None: nothing.
        augment_train: (row set, chosen rows [B], seeds [B, 3]) -> those B rows as they
            are trained on, such as images that are cropped and mixed with others of the
            set; None: as they are stored.
    """

    tokenizer: Any
    train: list
    valid: list
    test: list
    examples: dict
    report: dict
    fingerprint: str
    identity: dict
    augment: Callable | None
    augment_train: Callable | None = None


class Filled(NamedTuple):
    """The rows of one split.

    Attributes:
        row_sets: one per row shape.
        report: what became of the examples; plain JSON.
        digest: sha256 of what fills the rows; "": of the rows themselves.
        examples: what evaluation reads of the examples; None: all.
    """

    row_sets: list
    report: dict
    digest: str = ""
    examples: Any = None


def filled_text(tokenizer: Any, rows: Any, report: dict[str, Any]) -> Filled:
    """Rows of text, with the share of their tokens that are unknown, special apart."""
    special = [*{*tokenizer.special.values()} - {tokenizer.unknown}]

    def parts():
        for some in _some(rows.tokens):
            tokens = rows.tokens[some][rows.segments[some] > 0]
            yield tokens[~np.isin(tokens, special)]

    share = unknown.share(parts(), tokenizer.unknown)
    return Filled([rows], report | {"unknown_share": share})


def _some(field):
    """Numbers of rows, so many that a million items are in memory at once."""
    size = max(_AT_ONCE // max(math.prod(field.shape[1:]), 1), 1)
    for first in range(0, len(field), size):
        yield np.arange(first, min(first + size, len(field)))


def sha256_of(document: Any) -> str:
    """Of plain JSON, hexadecimal."""
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def digest_of(row_sets: Sequence[Any]) -> str:
    """sha256 of rows, hexadecimal."""
    digest = hashlib.sha256()
    for rows in row_sets:
        for name, field in rows._asdict().items():
            if field is not None:
                name = FORMER.get(name, name)
                digest.update(f"{name}{field.dtype}{field.shape}".encode())
                for some in _some(field):
                    digest.update(np.ascontiguousarray(field[some]).data)
    return digest.hexdigest()


def _fingerprint(cfg, tokenizer, digests, examples):
    read_by = [tokenizer.fingerprint] if tokenizer else []
    fingerprint = sha256_of([*read_by, *digests.values()])
    return fingerprint, {"data": fingerprint}


class Kind(NamedTuple):
    """One kind of data: how its section becomes examples, and examples rows.

    Attributes:
        Config: the data section, an `Order` among other things.
        Rows: type of its row sets.
        load: (cfg, split, names) -> (examples, report of what was read). ``names`` are
            those of the training split's labels, None while that one is read.
        texts: (cfg, examples) -> what a tokenizer is trained on.
        rows: (cfg, tokenizer, examples, split) -> `Filled`; there is an example.
        size: examples -> how many there are.
        augment: (cfg, tokenizer) -> ``augment`` of `Prepared`.
        augment_train: cfg -> ``augment_train`` of `Prepared`.
        compare: (cfg, examples, report), each by split -> the examples that stay, once
            all that is asked for is loaded.
        content: cfg -> plain JSON that changes with what is read; None: that are the
            sha256 of the files that the section names.
        few: cfg -> what is wrong with training on so few different examples, or "".
        unstored: knobs of the section that rows on disk do not depend on, besides those
            of `Order`.
        evaluated: plain JSON of examples -> the examples, if evaluation reads them.
        tokenizer: module with ``Config``, ``Tokenizer`` and ``make(cfg, texts)``; None,
            as ``texts`` is, of what is no text.
        fingerprint: (cfg, tokenizer, digests, examples), each by split, ->
            (``fingerprint``, ``identity``) of `Prepared`.
        mapped: the type of `MappedRows` whose fields row sets have; None: of arrays.
    """

    Config: type
    Rows: type
    load: Callable
    texts: Callable | None
    rows: Callable
    size: Callable = lambda examples: len(examples[0])
    augment: Callable = lambda cfg, tokenizer: None
    augment_train: Callable = lambda cfg: None
    compare: Callable = lambda cfg, examples, report: examples
    content: Callable = lambda cfg: None
    few: Callable = lambda cfg: ""
    unstored: tuple[str, ...] = ()
    evaluated: Callable | None = None
    tokenizer: ModuleType | None = vocabularies
    fingerprint: Callable = _fingerprint
    mapped: type[MappedRows] | None = None


def prepare(
    kind: Kind,
    cfg: Any,
    tokenizer_cfg: Any,
    *,
    tokenizer: Any = None,
    splits: Sequence[str] = SPLITS,
    names: Sequence[str] | None = None,
) -> Prepared:
    """Loads the splits, makes the tokenizer unless one is given, fills the rows.

    Args:
        tokenizer_cfg: its section, None if the kind has no tokenizer.
        splits: those to load, training first; without it a tokenizer must be given.
        names: of the labels, in order; by default those of the training split.
    Raises: DataError as ``kind`` does; held-out splits may be absent.
    """
    examples, report = {}, {}
    with patience(cfg.timeout_seconds):
        for split in splits:
            examples[split], report[split] = kind.load(cfg, split, names)
            names = names or report[split].get("labels")
        examples = kind.compare(cfg, examples, report)
        if "train" in splits and not kind.size(examples["train"]):
            raise DataError("the training split is empty")
        if tokenizer is None and kind.tokenizer and kind.texts:
            tokenizer = _trained(kind, cfg, tokenizer_cfg, examples["train"])
        if special := getattr(tokenizer_cfg, "special", ()):
            tokenizer = tokenizer.with_special(special)
        return of_examples(kind, cfg, tokenizer, examples, report)


def _trained(kind, cfg, tokenizer_cfg, examples):
    """The tokenizer of training data, or what a killed process has left of it."""
    folder = workspace()
    path = folder and folder / "tokenizer.json"
    if path:
        with contextlib.suppress(OSError, ValueError, LookupError):
            known = bounded_json.read_sealed(path)["tokenizer"]
            return kind.tokenizer.Tokenizer.from_json(known)
    with announced("training the tokenizer"):
        tokenizer = kind.tokenizer.make(tokenizer_cfg, kind.texts(cfg, examples))
    if path:
        part = path.with_suffix(".part")
        known = bounded_json.sealed({"tokenizer": tokenizer.to_json()})
        part.write_text(json.dumps(known), encoding="utf-8")
        part.replace(path)
    return tokenizer


def of_examples(
    kind: Kind,
    cfg: Any,
    tokenizer: Any,
    examples: Mapping[str, Any],
    report: dict[str, Any],
) -> Prepared:
    """Fills the rows of examples that are loaded, by split as their report is."""
    row_sets: dict[str, list] = {split: [] for split in SPLITS}
    digests = dict.fromkeys(SPLITS, digest_of([]))
    evaluated = {}
    for split, some in examples.items():
        if kind.size(some):
            with within(f"the {split} split"):
                filled = kind.rows(cfg, tokenizer, some, split)
            row_sets[split], said, digest, kept = filled
            evaluated[split] = some if kept is None else kept
            report[split] |= said
            digests[split] = digest or digest_of(row_sets[split])
    fingerprint, identity = kind.fingerprint(cfg, tokenizer, digests, examples)
    report["fingerprint"] = fingerprint
    unknown.check(report)
    held_out = evaluated.keys() - {"train"} if kind.evaluated else ()
    return Prepared(
        tokenizer,
        **row_sets,
        examples={split: evaluated[split] for split in held_out},
        report=report,
        fingerprint=fingerprint,
        identity=identity,
        augment=kind.augment(cfg, tokenizer),
        augment_train=kind.augment_train(cfg),
    )
