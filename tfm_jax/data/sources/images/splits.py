"""Splits of labelled images: which are held out, and which of those are trained on."""

import contextlib
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfm_jax.data.policies import sift
from tfm_jax.data.sources.images.listed import SOURCES, Listed
from tfm_jax.data.sources.text_files import pieces

GENERATED = ("scenes", "nearest")  # each with a section that sizes its splits


def is_named(cfg: Any, split: str) -> bool:
    """Whether a split has a place of its own."""
    if cfg.source in GENERATED:
        return bool(getattr(getattr(cfg, cfg.source), split))
    knobs = {"idx": "{}_files", "npz": "{}_files", "digits": ""}
    knob = knobs.get(cfg.source, f"{cfg.source}_{{}}").format(split)
    return split == "train" or bool(knob and getattr(cfg, knob))


def chosen(cfg: Any, split: str) -> Listed | None:
    """What is listed of a split; None if there is none.

    One that has no place of its own is a share of the training split, by a hash of each
    image: equal ones are all in one split, and an image stays in its split when others
    come or go.
    """
    shares = {
        held: 0.0 if is_named(cfg, held) else getattr(cfg, f"{held}_share")
        for held in ("test", "valid")
    }
    if is_named(cfg, split) and split != "train":
        return SOURCES[cfg.source](cfg, split)
    if not shares.get(split, 1.0):
        return None
    listed = SOURCES[cfg.source](cfg, "train")
    if not any(shares.values()):
        return listed
    of_each = [_split_of(cfg, listed.read(item), shares) for item in listed.items]
    own = [n for n, other in enumerate(of_each) if other == split]
    return listed._replace(
        items=[listed.items[n] for n in own],
        labels=[listed.labels[n] for n in own],
        origin=lambda n: listed.origin(own[n]),
        names=listed.classes(),
    )


def _split_of(cfg, item, shares):
    hashed = hashlib.sha256(f"{cfg.split_seed}/".encode())
    if isinstance(item, Path):
        with contextlib.suppress(OSError):  # decoding says what is wrong with it
            for piece in pieces(item):
                hashed.update(piece)
    else:
        hashed.update(np.ascontiguousarray(item) if hasattr(item, "shape") else item)
    place = int.from_bytes(hashed.digest()[:8]) / 2**64
    for split, share in shares.items():
        if place < share:
            return split
        place -= share
    return "train"


def without_leaks(
    cfg: Any, examples: Mapping[str, Any], report: dict[str, Any]
) -> dict[str, Any]:
    """Held-out images that are trained on, too, get what ``data.leaked`` says.

    Raises: DataError if that is an error.
    """
    if "train" not in examples:
        return dict(examples)
    trained_on = {*map(digest, examples["train"].pixels)}
    splits = dict(examples)
    for split in splits.keys() - {"train"}:
        images = splits[split]
        if not len(images.labels):
            continue
        leaked = [digest(one) in trained_on for one in images.pixels]
        keep, counts = sift(
            cfg,
            {"leaked": leaked},
            "image",
            clause=lambda _, n, split=split: f"{split} image {n} is trained on, too",
        )
        report[split] |= counts
        if any(leaked):
            logging.warning(
                "%d of %d %s images are trained on, too (data.leaked=%s)",
                sum(leaked),
                len(leaked),
                split,
                cfg.leaked,
            )
        if not keep.all():
            kept = {k: getattr(images, k)[keep] for k in ("pixels", "labels", "known")}
            splits[split] = images._replace(**kept)
            report[split] |= splits[split].counts()
    return splits


def digest(pixels: Any) -> bytes:
    """Of one image [height, width, C] uint8; equal for equal ones."""
    return hashlib.blake2b(np.asarray(pixels).tobytes(), digest_size=16).digest()
