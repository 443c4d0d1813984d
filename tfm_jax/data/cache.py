"""Prepared data on disk: many runs on the same data read and tokenise it once."""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tfm_jax.data import eviction
from tfm_jax.data.arrays.gathered import Gathered
from tfm_jax.data.arrays.mapped_rows import rows_of
from tfm_jax.data.batches import Order
from tfm_jax.data.digests import known_digest
from tfm_jax.data.errors import DataError
from tfm_jax.data.prepared import SPLITS, Prepared, prepare
from tfm_jax.data.sources.documents import folder_files
from tfm_jax.data.sources.text_files import digest
from tfm_jax.data.tokenizers import unknown
from tfm_jax.data.watchdog import awaited, patience
from tfm_jax.data.workspace import working_in

_LIBRARIES = ("num2words", "numpy", "pillow", "sacremoses", "tokenizers")
_REST = "rest.json"
_SUMS = "SHA256SUMS"  # of the other files, as sha256sum writes and checks it


def prepared(
    kind: Any,
    cfg: Any,
    tokenizer_cfg: Any,
    directory: Path,
    *,
    tokenizer: Any = None,
) -> Prepared:
    """``prepared.prepare``, out of ``directory`` if the same was prepared before.

    The same: the kind, the two sections (or the tokenizer), the bytes of the files they
    name, the code of this package and the versions of the libraries it uses. Of several
    processes that ask at once, one prepares and the others wait. Rows are mapped into
    memory, which processes share. An entry with a damaged file is made again, and a
    directory that ``make_private`` refuses is not used, which a warning says. Text that
    TFDS holds is read where it is; so is what can be read but once, such as a pipe.
    What a killed process had tokenised is not tokenised again. Where the disk is full,
    data is prepared in memory, with a warning. Entries are removed, the longest unused
    first, beyond the size that `eviction` says.

    Raises: as ``prepare``; ConfigError if that size is no number.
    """
    make = functools.partial(prepare, kind, cfg, tokenizer_cfg, tokenizer=tokenizer)
    with contextlib.ExitStack() as stack:
        stack.enter_context(patience(cfg.timeout_seconds))
        eviction.size_limit()  # wrong, it is an error now and not after hours of work
        content = kind.content(cfg)
        if content is None and not _may_be_kept(cfg):
            return make()
        if tokenizer is None and getattr(tokenizer_cfg, "file", ""):
            tokenizer = kind.tokenizer.make(tokenizer_cfg, ())
        try:
            make_private(directory)
            key = functools.partial(_key, kind, cfg, tokenizer_cfg, content, directory)
            entry = Path(os.path.realpath(directory / key(tokenizer)))
            stack.enter_context(eviction.locked(entry.with_suffix(".lock")))
        except OSError as error:
            logging.warning("prepared data is not kept: %s", error)
            return make()
        if os.path.lexists(entry):
            try:
                data = _read(kind, cfg, entry)
                eviction.pin(entry, _SUMS)
                unknown.check(data.report)
                return data
            except (
                OSError,
                ValueError,
                LookupError,
                TypeError,
                RecursionError,
            ) as error:
                logging.warning("prepared data is made again: %s", error)
        work = directory / f"{eviction.UNFINISHED}{entry.name}"
        data = None
        try:
            with working_in(work):
                data = make()
            _write(entry, data)
            with contextlib.suppress(FileExistsError):
                (directory / key(data.tokenizer)).symlink_to(entry.name)
            eviction.pin(entry, _SUMS)
            eviction.evict(directory, _SUMS)
        except DataError:
            shutil.rmtree(work, ignore_errors=True)  # another one would fail as well
            raise
        except OSError as error:
            logging.warning("prepared data is not kept: %s", error)
        shutil.rmtree(work, ignore_errors=True)
        return make() if data is None else data


def home(name: str) -> Path:
    """The directory where the user's runs share what can be made again."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(root) / "tfm_jax" / name


def make_private(directory: Path) -> None:
    """Makes a directory to which nobody but the user writes, or finds that it is one.

    Raises: OSError if it cannot be, belongs to another user or is open to others.
    """
    if not directory.is_absolute():
        raise FileNotFoundError(f"{directory} is nowhere: set HOME or XDG_CACHE_HOME")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{directory} belongs to user {status.st_uid}")
    if status.st_mode & 0o022:
        raise PermissionError(f"others may write to {directory}: chmod go-w")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(f"{directory} cannot be written to")


def _files(cfg):
    if getattr(cfg, "source", "") == "folder":
        return folder_files(cfg)
    knobs = (f"{split}_files" for split in SPLITS)
    return [path for knob in knobs for path in getattr(cfg, knob, ())]


def _is_file(path):
    with awaited(path):
        return os.path.isfile(path)


def _may_be_kept(cfg):
    return getattr(cfg, "source", "") != "tfds" and all(map(_is_file, _files(cfg)))


def _key(kind, cfg, tokenizer_cfg, content, memory, tokenizer):
    code = sorted(Path(__file__).parent.rglob("*.py"))
    tokens = getattr(tokenizer_cfg, "special", ())  # that are added to the tokenizer's
    unstored = {field.name for field in dataclasses.fields(Order)} | {*kind.unstored}
    wanted = {
        "kind": kind.Config.__module__,
        "data": {k: x for k, x in dataclasses.asdict(cfg).items() if k not in unstored},
        "tokenizer": [tokenizer.fingerprint, tokens]
        if tokenizer
        else tokenizer_cfg and dataclasses.asdict(tokenizer_cfg),
        "content": content or [(str(p), known_digest(p, memory)) for p in _files(cfg)],
        "code": [digest(path) for path in code],
        "python": platform.python_version(),  # whose documentation is a source
        "libraries": [importlib.metadata.version(name) for name in _LIBRARIES],
    }
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:32]


def _write(entry, data):
    """A directory that is whole or absent: made under another name, then renamed."""
    made = Path(tempfile.mkdtemp(dir=entry.parent, prefix=eviction.UNFINISHED))
    try:
        fields = {split: [] for split in SPLITS}
        for split in SPLITS:
            for number, rows in enumerate(getattr(data, split)):
                if mapped := rows_of(rows):
                    fields[split].append(mapped.move(made / f"{split}-{number}"))
                    continue
                there = {k: x for k, x in rows._asdict().items() if x is not None}
                fields[split].append([*there])
                for name, field in there.items():
                    for part, array in _parts(field).items():
                        np.save(made / f"{split}-{number}-{name}{part}.npy", array)
        document = {
            "tokenizer": data.tokenizer and data.tokenizer.to_json(),
            "fields": fields,
            "examples": data.examples,
            "report": data.report,
            "fingerprint": data.fingerprint,
            "identity": data.identity,
        }
        (made / _REST).write_text(json.dumps(document), encoding="utf-8")
        (made / _SUMS).write_text(_sums(made), encoding="utf-8")
        eviction.remove(entry)
        os.replace(made, entry)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _parts(field):
    """End of the name of a file -> array of a field."""
    if isinstance(field, Gathered):
        return {f".{name}": array for name, array in vars(field).items()}
    return {"": field}


def _field(path):
    """What ``_write`` left of a field under a path without its end, memory-mapped."""
    whole, *parts = (
        path.with_name(f"{path.name}{part}.npy") for part in ("", ".items", ".index")
    )
    if whole.exists():
        return np.asarray(np.load(whole, mmap_mode="r"))
    return Gathered(*(np.asarray(np.load(part, mmap_mode="r")) for part in parts))


def _sums(entry):
    names = sorted({path.name for path in entry.iterdir()} - {_SUMS})
    sums = {name: known_digest(entry / name, entry.parent) for name in names}
    return "".join(f"{sha256}  {name}\n" for name, sha256 in sums.items())


def _read(kind, cfg, entry):
    """What ``_write`` wrote. Raises: ValueError and the like if it is damaged."""
    if not all(path.is_file() for path in (entry / _SUMS, *entry.iterdir())):
        raise ValueError(f"{entry} lacks a file, or holds a pipe in its place")
    if (entry / _SUMS).read_bytes() != _sums(entry).encode():
        raise ValueError(f"{entry} is damaged")
    document = json.loads((entry / _REST).read_text(encoding="utf-8"))
    tokenizer = document["tokenizer"]
    if kind.tokenizer:
        tokenizer = kind.tokenizer.Tokenizer.from_json(tokenizer)
    absent = dict.fromkeys(kind.Rows._fields)

    def rows(split, number, names):
        if isinstance(names, dict):
            return kind.mapped.read(names, entry / f"{split}-{number}").fields()
        there = {name: _field(entry / f"{split}-{number}-{name}") for name in names}
        return kind.Rows(**absent | there)

    return Prepared(
        tokenizer,
        **{
            split: [rows(split, *one) for one in enumerate(document["fields"][split])]
            for split in SPLITS
        },
        examples={k: kind.evaluated(x) for k, x in document["examples"].items()},
        report=document["report"],
        fingerprint=document["fingerprint"],
        identity=document["identity"],
        augment=kind.augment(cfg, tokenizer),
        augment_train=kind.augment_train(cfg),
    )
