"""Images of one shape: which size and colours they get, and what a broken one gets."""

import concurrent.futures
import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfm_jax.data.errors import DataError
from tfm_jax.data.policies import sift
from tfm_jax.data.sources.images import decoding
from tfm_jax.data.watchdog import each
from tfm_jax.knobs import knob
from tfm_jax.terminal import say

_CHUNK = 1024  # images that are decoded at a time
_SAY_EVERY = 30  # seconds
_IN_MEMORY = 2**31  # bytes of pixels; more lie in a temporary file


@dataclasses.dataclass(frozen=True)
class Config:
    """What images become."""

    ROLE = "training"

    image_size: tuple[int, ...] = knob(
        (),
        "pixels, HEIGHT,WIDTH or both in one, that images are resized to; (): as they "
        "are, all alike",
        role="architecture",
    )
    fit: str = knob(
        "crop",
        "how images of other proportions become so; crop: their middle",
        role="architecture",
        choices=decoding.FITS,
    )
    color: str = knob(
        "native",
        "what they are converted to; native: they stay grey or coloured, all alike",
        role="architecture",
        choices=decoding.COLORS,
    )
    broken: str = knob(
        "error",
        "what a file gets that is damaged, empty, gone or of too many pixels",
        choices=("drop", "error"),
    )

    def __post_init__(self):
        getattr(super(), "__post_init__", lambda: None)()
        size = self.image_size
        if size and (len(size) > 2 or not 1 <= min(size) <= max(size) <= 2**14):
            raise ValueError(
                f"data.image_size={size} must be one or two numbers from 1 to {2**14:,}"
            )


def pixels_of(
    cfg: Config, listed: Any
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """(pixels of those that are kept, which [n] bool, report).

    Args: listed: ``items``, ``origin`` and ``read`` of a `listed.Listed`.
    Raises: DataError if images differ in shape, or none is left.
    """
    kept, pixels, wrong = 0, None, {}
    for number, one in enumerate(each(_each_decoded(cfg, listed), listed.origin(0))):
        if isinstance(one, decoding.BrokenImage):
            wrong[number] = one
            continue
        if pixels is None:
            pixels, first = room(len(listed.items), *one.shape), listed.origin(number)
        if one.shape != pixels.shape[1:]:
            raise DataError(
                f"{listed.origin(number)} is {_spoken(one.shape)}, {first} is "
                f"{_spoken(pixels.shape[1:])}; data.image_size and data.color make "
                "them alike"
            )
        pixels[kept] = one
        kept += 1
    bad = np.isin(np.arange(len(listed.items)), [*wrong])
    keep, report = sift(
        cfg,
        {"broken": bad},
        "image",
        clause=lambda _, n: f"{listed.origin(n)} is broken: {wrong[n]}",
        some=True,
    )
    assert pixels is not None  # one is left
    return pixels[:kept], keep, report


def _each_decoded(cfg: Any, listed: Any) -> Iterator[np.ndarray | decoding.BrokenImage]:
    def decode(item):
        try:
            item = listed.read(item)
            return decoding.pixels(item, cfg.image_size, cfg.color, cfg.fit)
        except decoding.BrokenImage as error:
            return error
        except FileNotFoundError:  # what a link leads to
            return decoding.BrokenImage("there is no such file")

    if not isinstance(listed.read(listed.items[0]), Path | bytes):
        yield from map(decode, listed.items)  # nothing to be done beside another
        return
    count, last_said = len(listed.items), time.monotonic()
    with decoding.strictly(), concurrent.futures.ThreadPoolExecutor() as pool:
        for first in range(0, count, _CHUNK):
            if time.monotonic() > last_said + _SAY_EVERY:
                say(f"{first:,} of {count:,} images are decoded", file=sys.stderr)
                last_said = time.monotonic()
            yield from pool.map(decode, listed.items[first : first + _CHUNK])


def room(*shape: int) -> np.ndarray:
    """Pixels of a shape, uint8, whatever they are; many lie in a temporary file."""
    if np.prod(shape, dtype=np.int64) < _IN_MEMORY:
        return np.empty(shape, np.uint8)
    return np.memmap(tempfile.TemporaryFile(), np.uint8, "w+", shape=shape)


def _spoken(shape):
    height, width, channels = shape
    return f"{height}x{width} pixels of {channels} channels"
