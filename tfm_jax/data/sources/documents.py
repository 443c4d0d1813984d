"""Running text as documents: Python's own documentation, files, TFDS, made text."""

import dataclasses
import hashlib
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfm_jax.data.errors import DataError
from tfm_jax.data.policies import POLICIES, invalid_utf8_knob, sift
from tfm_jax.data.sources import recall, scenes, tfds
from tfm_jax.data.sources.mechanisms import counting
from tfm_jax.data.sources.mechanisms import examples as mechanisms
from tfm_jax.data.sources.running_text import (
    ENDS,
    PART,
    Documents,
    between,
    documents,
    text_file,
)
from tfm_jax.data.watchdog import awaited
from tfm_jax.knobs import check_numbers, knob

_Scenes = scenes.Config  # a field hides the module
_SCENES, _COUNTING = scenes.KNOBS, counting.KNOBS
_Counting = counting.Config
_Mechanism = mechanisms.Config


def _pydocs(cfg, split):
    """The topics of Python's language reference that `help()` shows."""
    from pydoc_data import topics

    named = sorted(topics.topics.items())
    report = {"python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
    return _in_memory(_share(cfg, split, named)), report


def _in_memory(named):
    """Documents of (name, text) pairs."""
    return [Documents([name], [text]) for name, text in named]


def _files(cfg, split):
    """Files named for each split, or the last characters of those for training."""
    if split == "train" and not cfg.train_files:
        raise DataError("data.train_files is empty; name text files")
    knob, cut = f"{split}_files", None
    if not cfg.valid_files and not cfg.test_files:
        knob, cut = "train_files", split
    texts = [
        (str(path), text_file(Path(path), f"data.{knob}", cfg.invalid_utf8))
        for path in getattr(cfg, knob)
    ]
    return _read(cfg, texts, cut)


def _folder(cfg, split):
    """Every file below a folder whose name fits a pattern, in the order of names."""
    folder, paths = Path(cfg.folder), folder_files(cfg)
    if not paths:
        raise DataError(f"data.folder={cfg.folder!r} has no file {cfg.pattern!r}")
    texts = [
        (name, text_file(path, "data.folder", cfg.invalid_utf8))
        for name, path in _share(cfg, split, [(_below(p, folder), p) for p in paths])
    ]
    chunks, report = _read(cfg, texts)
    return chunks, {"folder": cfg.folder, **report}


def _read(cfg, texts, cut=None):
    """Args.

    texts: (name, file) pairs; a file is read as often as it is named.
    cut: the split whose share of the characters of each file is read.
    """
    measured = {name: text.measured for name, text in texts}
    report = {"files": {name: file for name, (_, file) in measured.items()}}

    def chunks():
        for name, text in texts:
            if not cut:
                yield from documents(name, text, cfg.document)
                continue
            first, last = _part(cfg, measured[name][0], cut)
            if first < last:
                part = between(text, first, last)
                yield from documents(name, part, cfg.document)

    return _Again(chunks), report


class _Again:
    """Iterates anew over what a function gives."""

    def __init__(self, function):
        self._function = function

    def __iter__(self):
        return self._function()


def folder_files(cfg: Any) -> list[Path]:
    """The paths of source=folder, in the order of names. Raises: DataError."""
    folder = Path(cfg.folder)
    if not cfg.folder or not folder.is_dir():
        raise DataError(f"data.folder={cfg.folder!r} is no folder")
    with awaited(folder):
        return sorted(path for path in folder.rglob(cfg.pattern) if path.is_file())


def _tfds(cfg, split):
    texts, report = tfds.load_features(cfg, split, (cfg.tfds_feature,))
    named = [(f"{cfg.tfds_name} {split} {n}", text) for n, text in enumerate(texts)]
    return _in_memory(named), report


def _recall(cfg, split):
    named, report = recall.load(cfg, split)
    return _in_memory(named), report


def _counting(cfg, split):
    named, report = counting.load(cfg.counting, split)
    return _in_memory(named), report


def _mechanisms(cfg, split):
    examples, report = mechanisms.load(cfg.mechanism, split)
    task = cfg.mechanism.task
    named = [(f"{task} {split} {n}", x.document) for n, x in enumerate(examples)]
    return _in_memory(named), report


def _scenes(cfg, split):
    """What is said of rendered scenes, for models of text that will see them."""
    texts = scenes.texts(cfg.scenes, split)
    return _in_memory((f"scene {split} {n}", text) for n, text in enumerate(texts)), {}


def _below(path, folder):
    return path.relative_to(folder).as_posix()


DOCUMENTS = {  # name -> load(cfg, split) -> (iterable of Documents, report)
    "pydocs": _pydocs,
    "files": _files,
    "folder": _folder,
    "tfds": _tfds,
    "counting": _counting,  # made, see there
    "mechanisms": _mechanisms,  # the same
    "recall": _recall,
    "scenes": _scenes,
}


def _part(cfg, characters, split):
    """Train, valid and test one behind the other: (first character, last)."""
    ends = {
        "train": 1 - cfg.valid_share - cfg.test_share,
        "valid": 1 - cfg.test_share,
        "test": 1.0,
    }
    first = {"train": 0.0, "valid": ends["train"], "test": ends["valid"]}[split]
    return tuple(int(round(share, 9) * characters) for share in (first, ends[split]))


def _share(cfg, split, named):
    """The documents of a split, chosen by a hash of their names.

    So a document stays in its split when others come or go.
    """
    return [one for one in named if _split_of(cfg, one[0]) == split]


def _split_of(cfg, name):
    digest = hashlib.sha256(f"{cfg.split_seed}/{name}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    if place < cfg.test_share:
        return "test"
    return "valid" if place < cfg.test_share + cfg.valid_share else "train"


@dataclasses.dataclass(frozen=True)
class Config:
    """Where running text comes from and which of it is held out."""

    ROLE = "training"

    source: str = knob("pydocs", "where documents come from", choices=DOCUMENTS)
    valid_share: float = knob(
        0.1, "of the documents; with source=files: of the characters"
    )
    test_share: float = knob(0.0, "the same of the test split")
    split_seed: int = knob(0, "chooses the documents held out", low=0)
    empty: str = knob("drop", "what a document without text gets", choices=POLICIES)
    invalid_utf8: str = invalid_utf8_knob()
    train_files: tuple[str, ...] = knob(
        (),
        "source=files: if only those for training are named, their ends are held out",
    )
    valid_files: tuple[str, ...] = knob((), "of the validation split; () is absent")
    test_files: tuple[str, ...] = knob((), "of the test split; () is absent")
    folder: str = knob("", "source=folder: where the files are")
    pattern: str = knob("*.txt", "names of its files, in folders below too")
    document: str = knob("file", "where one ends; source=files or folder", choices=ENDS)
    tfds_name: str = tfds.name_knob("wiki40b/en")
    tfds_feature: str = knob("text", "its feature that holds the text")
    tfds_data_dir: str = tfds.data_dir_knob()
    tfds_train: str = tfds.train_knob()
    tfds_valid: str = knob("validation", 'its validation split; "": absent')
    tfds_test: str = knob("test", 'its test split; "": absent')
    recall_examples: int = knob(
        16, "source=recall: pairs in front of the one to complete", low=0, high=2**20
    )
    recall_keys: int = knob(8, "distinct letters", low=1, high=52)
    recall_train: int = knob(4_000, "texts to train on", low=1, high=mechanisms.MOST)
    recall_heldout: int = knob(
        500, "texts of each held-out split", low=1, high=mechanisms.MOST
    )
    counting: _Counting = _Counting()
    mechanism: _Mechanism = _Mechanism()
    scenes: _Scenes = _Scenes()

    READ_WITH = {
        ("source", ("files",)): ("train_files", "valid_files", "test_files"),
        ("source", ("folder",)): ("folder", "pattern"),
        ("source", ("files", "folder")): ("document", "invalid_utf8"),
        ("source", ("pydocs", "files", "folder")): ("valid_share",),
        ("source", ("pydocs", "files", "folder", "recall")): ("test_share",),
        ("source", ("pydocs", "folder", "recall")): ("split_seed",),
        ("source", ("tfds",)): (*tfds.KNOBS, "tfds_feature"),
        ("source", ("recall",)): (
            "recall_examples",
            "recall_keys",
            "recall_train",
            "recall_heldout",
        ),
        ("source", ("counting",)): _COUNTING,
        ("source", ("mechanisms",)): mechanisms.KNOBS,
        ("source", ("scenes",)): _SCENES,
        ("valid_files", ((),)): ("valid_share", "test_share"),
        ("test_files", ((),)): ("valid_share", "test_share"),
    }

    def __post_init__(self):
        check_numbers(self, "data")
        shares = self.valid_share, self.test_share
        if min(shares) < 0 or sum(shares) >= 1:
            raise ValueError(
                f"data.valid_share={self.valid_share} and data.test_share="
                f"{self.test_share} must not be negative and leave some to train on"
            )


class Corpus:
    """The documents of a split, read anew by each iteration: `Documents`, some at once.

    Attributes:
        read, count: documents that there are, and that are kept.
        characters: of those that are kept.
        report: what became of empty ones; of those longer than PART none is.
    """

    def __init__(self, cfg: Any, chunks: Iterable[Documents]) -> None:
        """Reads them once. Args: chunks: can be iterated again.

        Raises: DataError if there is an empty one and ``data.empty`` refuses it.
        """
        self._chunks, self._drops = chunks, cfg.empty == "drop"
        self.characters, first = 0, ""
        empty = [np.zeros(0, bool)]
        for chunk in chunks:
            blank = _blank(chunk)
            if any(blank) and not first:
                first = chunk.names[blank.index(True)]
            empty.append(np.array(blank[not chunk.begins :], bool))
            self.characters += sum(map(len, self._kept(chunk).texts))
        keep, self.report = sift(
            cfg,
            {"empty": np.concatenate(empty)},
            "document",
            clause=lambda *_: f"document {first} is empty",
        )
        self.read, self.count = len(keep), int(keep.sum())

    def _kept(self, chunk):
        blank = _blank(chunk)
        if not self._drops or not any(blank):
            return chunk
        names, texts = (
            [one for one, bad in zip(field, blank, strict=True) if not bad]
            for field in chunk[:2]
        )
        return chunk._replace(names=names, texts=texts)

    def __iter__(self) -> Iterator[Documents]:
        names: list[str] = []
        texts: list[str] = []
        size, begins, ends = 0, True, True
        for chunk in map(self._kept, self._chunks):
            if texts and (not chunk.begins or size > PART):
                yield Documents(names, texts, begins, ends)
                names, texts, size = [], [], 0
            begins = begins if texts else chunk.begins
            names += chunk.names
            texts += chunk.texts
            size, ends = size + sum(map(len, chunk.texts)), chunk.ends
        if texts:
            yield Documents(names, texts, begins, ends)

    def texts(self) -> Iterator[str]:
        """Of each document, or part of a long one."""
        return itertools.chain.from_iterable(chunk.texts for chunk in self)


def _blank(chunk):
    """Which texts are documents without text."""
    blank = [not text.strip() for text in chunk.texts]
    if not chunk.begins:
        blank[0] = False
    if not chunk.ends:
        blank[-1] = False
    return blank


def load_corpus(
    cfg: Any, split: str, names: Any = None
) -> tuple[Corpus, dict[str, Any]]:
    """The documents of one split: (corpus, report of what was read).

    Raises: DataError if the data is absent or malformed, or nothing is left of the
        training split.
    """
    del names  # there are no labels
    chunks, report = DOCUMENTS[cfg.source](cfg, split)
    corpus = Corpus(cfg, chunks)
    if split == "train" and not corpus.count:
        raise DataError(
            f"data.source={cfg.source!r}: the training split has no text "
            f"({corpus.report['empty']['documents']} empty documents)"
        )
    return corpus, {
        "source": cfg.source,
        **report,
        "read": corpus.read,
        **corpus.report,
        "kept": corpus.count,
        "characters": corpus.characters,
    }


def few(cfg: Any) -> str:
    """What is wrong with training on so few different documents, or ""."""
    return recall.few_texts(cfg) if cfg.source == "recall" else ""


def load_documents(
    cfg: Any, split: str, names: Any = None
) -> tuple[Documents, dict[str, Any]]:
    """The same, read into memory at once: (documents, report)."""
    corpus, report = load_corpus(cfg, split, names)
    titles: list[str] = []
    texts: list[str] = []
    for chunk in corpus:
        known = len(texts) - (not chunk.begins)
        texts[known:] = ["".join([*texts[known:], chunk.texts[0]]), *chunk.texts[1:]]
        titles[known:] = chunk.names
    return Documents(titles, texts), report


def texts_of(cfg: Any, documents: Documents | Corpus) -> Iterable[str]:
    """What a tokenizer is trained on."""
    if cfg.source == "scenes":
        return scenes.language()
    if isinstance(documents, Corpus):
        return _Again(documents.texts)
    return documents.texts
