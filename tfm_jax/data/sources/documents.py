"""Running text as documents: Python's own documentation, files, TFDS, made text."""

import dataclasses
import hashlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfm_jax.data.errors import DataError
from tfm_jax.data.policies import POLICIES, invalid_utf8_knob, sift
from tfm_jax.data.sources import recall, scenes, tfds
from tfm_jax.data.sources.text_files import read_bytes
from tfm_jax.data.tokenizers.normalize import decode
from tfm_jax.data.watchdog import awaited
from tfm_jax.knobs import check_numbers, knob

_Scenes = scenes.Config  # a field hides the module
_SCENES = scenes.KNOBS


class Documents(NamedTuple):
    """Texts of one split, each with a name that tells where it is from."""

    names: Sequence[str]
    texts: Sequence[str]


def _pydocs(cfg, split):
    """The topics of Python's language reference that `help()` shows."""
    from pydoc_data import topics

    named = sorted(topics.topics.items())
    report = {"python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
    return _share(cfg, split, named), report


def _files(cfg, split):
    """Files named for each split, or the last characters of those for training."""
    knob = f"data.{split}_files"
    if split == "train" and not cfg.train_files:
        raise DataError("data.train_files is empty; name text files")
    paths, cut = getattr(cfg, f"{split}_files"), None
    if not cfg.valid_files and not cfg.test_files:
        paths, cut = cfg.train_files, split
    named, files = [], {}
    for path in map(Path, paths):
        text, files[str(path)] = _read_file(cfg, path, knob)
        if cut:
            text = _part(cfg, text, cut)
            if not text:
                continue
        named += _documents_of(cfg, str(path), text)
    return named, {"files": files}


def _folder(cfg, split):
    """Every file below a folder whose name fits a pattern, in the order of names."""
    folder, paths = Path(cfg.folder), folder_files(cfg)
    if not paths:
        raise DataError(f"data.folder={cfg.folder!r} has no file {cfg.pattern!r}")
    named, files = [], {}
    for name, path in _share(cfg, split, [(_below(p, folder), p) for p in paths]):
        text, files[name] = _read_file(cfg, path, "data.folder")
        named += _documents_of(cfg, name, text)
    return named, {"folder": cfg.folder, "files": files}


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
    return named, report


def _scenes(cfg, split):
    """What is said of rendered scenes, for models of text that will see them."""
    texts = scenes.texts(cfg.scenes, split)
    return [(f"scene {split} {n}", text) for n, text in enumerate(texts)], {}


def _below(path, folder):
    return path.relative_to(folder).as_posix()


def _read_file(cfg, path, knob):
    data = read_bytes(path, knob)
    try:
        text, replaced = data.decode("utf-8-sig"), 0
    except UnicodeDecodeError:
        lines = [
            decode(line, cfg.invalid_utf8, f"{path}: line {number}")
            for number, line in enumerate(data.split(b"\n"), start=1)
        ]
        text = "\n".join(line for line, _ in lines).removeprefix("\ufeff")
        replaced = sum(wrong for _, wrong in lines)
    report = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "invalid_utf8_lines": replaced,
    }
    return text.replace("\r\n", "\n"), report


def _documents_of(cfg, name, text):
    pieces = ENDS[cfg.document](text)
    if len(pieces) == 1:
        return [(name, pieces[0])]
    return [(f"{name}:{n}", piece) for n, piece in enumerate(pieces, start=1)]


def _lines(text):
    return text.removesuffix("\n").split("\n") if text else []


def _blank_lines(text):
    return re.split(r"\n(?:[ \t]*\n)+", text.strip("\n"))


ENDS = {  # where a document of a file ends
    "file": lambda text: [text],
    "line": _lines,
    "blank_line": _blank_lines,  # one sentence a line, as BERT's input files
}
DOCUMENTS = {  # name -> load(cfg, split) -> ((name, text) pairs, report)
    "pydocs": _pydocs,
    "files": _files,
    "folder": _folder,
    "tfds": _tfds,
    "recall": recall.load,  # made, see there
    "scenes": _scenes,
}


def _part(cfg, text, split):
    """Train, valid and test one behind the other, cut at characters."""
    ends = {
        "train": 1 - cfg.valid_share - cfg.test_share,
        "valid": 1 - cfg.test_share,
        "test": 1.0,
    }
    first = {"train": 0.0, "valid": ends["train"], "test": ends["valid"]}[split]
    return text[_place(first, text) : _place(ends[split], text)]


def _place(share, text):
    return int(round(share, 9) * len(text))


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
    recall_train: int = knob(4_000, "texts to train on", low=1)
    recall_heldout: int = knob(500, "texts of each held-out split", low=1)
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


def load_documents(
    cfg: Any, split: str, names: Any = None
) -> tuple[Documents, dict[str, Any]]:
    """The documents of one split: (Documents, report of what was read).

    Raises: DataError if the data is absent or malformed, or nothing is left of the
        training split.
    """
    del names  # there are no labels
    named, report = DOCUMENTS[cfg.source](cfg, split)
    blank = {"empty": [not text.strip() for _, text in named]}
    keep, empty = sift(
        cfg, blank, "document", clause=lambda _, n: f"document {named[n][0]} is empty"
    )
    kept = [one for one, stays in zip(named, keep, strict=True) if stays]
    if split == "train" and not kept:
        raise DataError(
            f"data.source={cfg.source!r}: the training split has no text "
            f"({empty['empty']['documents']} empty documents)"
        )
    documents = Documents([name for name, _ in kept], [text for _, text in kept])
    return documents, {
        "source": cfg.source,
        **report,
        "read": len(named),
        **empty,
        "kept": len(kept),
        "characters": sum(map(len, documents.texts)),
    }


def texts_of(cfg: Any, documents: Documents) -> Sequence[str]:
    """What a tokenizer is trained on."""
    return scenes.language() if cfg.source == "scenes" else documents.texts
