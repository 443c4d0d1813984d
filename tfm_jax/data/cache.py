"""Prepared data on disk: many runs on the same data read and tokenise it once."""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from tfm_jax.data import pipeline
from tfm_jax.data.rows.packing import Ragged
from tfm_jax.data.sources.bitext import Pairs
from tfm_jax.data.sources.text_files import pieces
from tfm_jax.data.tokenizers.bilingual import Tokenizer
from tfm_jax.data.watchdog import awaited, patience

_LIBRARIES = ("num2words", "numpy", "sacremoses", "tokenizers")
_FILES = ("train.npz", "rest.json")
_SUMS = "SHA256SUMS"  # of _FILES, as sha256sum writes and checks it
_UNFINISHED = ".making-"  # begins the names of folders that are being written
_DAY = 86_400  # seconds


def prepared(cfg, tokenizer_cfg, directory, *, tokenizer=None) -> pipeline.Prepared:
    """``pipeline.prepare``, out of ``directory`` if the same was prepared before.

    The same: the two sections (or the tokenizer), the bytes of the files they name, the
    code of this package and the versions of the libraries it uses. Of several processes
    that ask at once, one prepares and the others wait. An entry with a damaged file is
    made again, and a directory that ``make_private`` refuses is not used, which a
    warning says. What TFDS holds is read where it is; so is what can be read but once,
    such as a pipe.
    """
    prepare = functools.partial(
        pipeline.prepare, cfg, tokenizer_cfg, tokenizer=tokenizer
    )
    if cfg.source == "tfds":
        return prepare()
    with contextlib.ExitStack() as stack:
        stack.enter_context(patience(cfg.timeout_seconds))
        if not all(map(_is_file, _files(cfg))):
            return prepare()
        try:
            key = functools.partial(_key, cfg, tokenizer_cfg)
            make_private(directory)
            entry = (directory / key(tokenizer)).resolve()
            lock = stack.enter_context(open(entry.with_suffix(".lock"), "w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            logging.warning("prepared data is not kept: %s", error)
            return prepare()
        if os.path.lexists(entry):
            try:
                return _read(entry)
            except (OSError, ValueError, KeyError, TypeError) as error:
                logging.warning("prepared data is made again: %s", error)
        found = prepare()
        try:
            _write(entry, found)
            with contextlib.suppress(FileExistsError):
                (directory / key(found.tokenizer)).symlink_to(entry.name)
            _clean(directory)
        except OSError as error:
            logging.warning("prepared data is not kept: %s", error)
        return found


def make_private(directory):
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
    return [*cfg.train_files, *cfg.valid_files, *cfg.test_files]


def _is_file(path):
    with awaited(path):
        return os.path.isfile(path)


def _key(cfg, tokenizer_cfg, tokenizer):
    code = sorted(Path(__file__).parent.rglob("*.py"))
    wanted = {
        "data": dataclasses.asdict(dataclasses.replace(cfg, timeout_seconds=0.0)),
        "tokenizer": dataclasses.asdict(tokenizer_cfg)
        if tokenizer is None
        else tokenizer.fingerprint,
        "files": [_digest(Path(path)) for path in [*_files(cfg), *code]],
        "libraries": [importlib.metadata.version(name) for name in _LIBRARIES],
    }
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:32]


def _digest(path):
    digest = hashlib.sha256()
    for piece in pieces(path):
        digest.update(piece)
    return digest.hexdigest()


def _write(entry, found):
    """A directory that is whole or absent: made under another name, then renamed."""
    made = Path(tempfile.mkdtemp(dir=entry.parent, prefix=_UNFINISHED))
    try:
        train = found.train
        arrays = {"kept": train.kept}
        for side in ("source", "target"):
            ragged = getattr(train, side)
            arrays |= {f"{side}_{name}": x for name, x in ragged._asdict().items()}
        np.savez(made / "train.npz", **arrays)
        document = {
            "tokenizer": found.tokenizer.to_json(),
            "train": {"report": train.report, "fingerprint": train.fingerprint},
            "valid": found.valid,
            "test": found.test,
            "report": found.report,
            "fingerprint": found.fingerprint,
        }
        (made / "rest.json").write_text(json.dumps(document), encoding="utf-8")
        (made / _SUMS).write_text(_sums(made), encoding="utf-8")
        _remove(entry)
        os.replace(made, entry)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _clean(directory):
    """Removes what killed processes half wrote, and what no run used for a month."""
    with contextlib.suppress(OSError):  # another process cleans as well
        for unfinished in directory.glob(f"{_UNFINISHED}*"):
            if _age(unfinished) > _DAY:
                _remove(unfinished)
        for lock in directory.glob("*.lock"):  # written at each use of its entry
            if _age(lock) > 30 * _DAY:
                _remove(lock.with_suffix(""))
                _remove(lock)
        for path in directory.iterdir():
            if not path.exists():  # a link whose entry is gone
                _remove(path)


def _age(path):
    return time.time() - path.lstat().st_mtime


def _sums(entry):
    return "".join(f"{_digest(entry / name)}  {name}\n" for name in _FILES)


def _read(entry):
    """What ``_write`` wrote. Raises: ValueError and the like if it is damaged."""
    if not all((entry / name).is_file() for name in (*_FILES, _SUMS)):
        raise ValueError(f"{entry} lacks a file, or holds a pipe in its place")
    if (entry / _SUMS).read_bytes() != _sums(entry).encode():
        raise ValueError(f"{entry} is damaged")
    document = json.loads((entry / "rest.json").read_text(encoding="utf-8"))
    with np.load(entry / "train.npz") as arrays:
        sides = [
            Ragged(**{n: arrays[f"{side}_{n}"] for n in Ragged._fields})
            for side in ("source", "target")
        ]
        train = pipeline.Encoded(*sides, arrays["kept"], **document["train"])
    return pipeline.Prepared(
        Tokenizer.from_json(document["tokenizer"]),
        train,
        Pairs(*document["valid"]),
        Pairs(*document["test"]),
        document["report"],
        document["fingerprint"],
    )
