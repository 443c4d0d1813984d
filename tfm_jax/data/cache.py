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
from pathlib import Path

import numpy as np

from tfm_jax.data import pipeline
from tfm_jax.data.packing import Ragged
from tfm_jax.data.sources import Pairs
from tfm_jax.data.tokenizers import Tokenizer

_LIBRARIES = ("num2words", "numpy", "sacremoses", "tokenizers")


def prepared(cfg, tokenizer_cfg, directory, *, tokenizer=None) -> pipeline.Prepared:
    """``pipeline.prepare``, out of ``directory`` if the same was prepared before.

    The same: the two sections (or the tokenizer), the bytes of the files they name, the
    code of this package and the versions of the libraries it uses. Of several processes
    that ask at once, one prepares and the others wait. An entry that is damaged is made
    again; without a directory that can be written nothing is kept. What TFDS
    holds is read where it is.
    """
    prepare = functools.partial(
        pipeline.prepare, cfg, tokenizer_cfg, tokenizer=tokenizer
    )
    if cfg.source == "tfds":
        return prepare()
    with contextlib.ExitStack() as stack:
        try:
            entry = directory / _key(cfg, tokenizer_cfg, tokenizer)
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = stack.enter_context(open(entry.with_suffix(".lock"), "w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            return prepare()  # says what is wrong if it is a file of the data
        found = _read(entry)
        if found is None:
            found = prepare()
            try:
                _write(entry, found)
                resumed = directory / _key(cfg, tokenizer_cfg, found.tokenizer)
                if not os.path.lexists(resumed):
                    resumed.symlink_to(entry.name)
            except OSError as error:
                logging.warning("prepared data is not kept: %s", error)
        return found


def _key(cfg, tokenizer_cfg, tokenizer):
    files = [*cfg.train_files, *cfg.valid_files, *cfg.test_files]
    code = sorted(Path(__file__).parent.glob("*.py"))
    wanted = {
        "data": dataclasses.asdict(cfg),
        "tokenizer": dataclasses.asdict(tokenizer_cfg)
        if tokenizer is None
        else tokenizer.fingerprint,
        "files": [_digest(Path(path)) for path in [*files, *code]],
        "libraries": [importlib.metadata.version(name) for name in _LIBRARIES],
    }
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:32]


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(entry, found):
    """A directory that is whole or absent: made under another name, then renamed."""
    made = Path(tempfile.mkdtemp(dir=entry.parent, prefix=".making-"))
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
            "arrays": _digest(made / "train.npz"),
        }
        (made / "rest.json").write_text(json.dumps(document), encoding="utf-8")
        shutil.rmtree(entry, ignore_errors=True)
        os.replace(made, entry)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _read(entry):
    """What ``_write`` wrote; None if it is absent or damaged."""
    try:
        document = json.loads((entry / "rest.json").read_text(encoding="utf-8"))
        if document["arrays"] != _digest(entry / "train.npz"):
            return None
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
    except (OSError, ValueError, KeyError, TypeError):
        return None
