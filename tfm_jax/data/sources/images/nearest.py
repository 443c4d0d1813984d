"""Nearest neighbour: labelled keys and a noisy query, as an image of patches.

A mechanism on continuous keys, for models that read patches: a strip of square patches,
of which each holds a key in its first channel and a lit pixel, the
number of its label, in the second. The last patch is the query, a key that stands
before with noise, without a label. The class is the label of the key that is nearest to
the query, in the numbers that the image holds: who computes distances is always right.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from tfm_jax.data.sources.mechanisms.examples import MOST
from tfm_jax.knobs import check_numbers, knob, roles_of

SPLITS = ("train", "valid", "test")
_MEAN, _STD = 128, 48  # of the pixels of a key
_CHUNK = 1024  # images drawn at a time


@dataclasses.dataclass(frozen=True)
class Config:
    """How many keys there are, how long they are, and how noisy the query is."""

    ROLE = "training"

    keys: int = knob(16, "in an image", role="architecture", low=1, high=1_000)
    side: int = knob(
        4,
        "pixels of a patch; a key has side x side entries",
        role="architecture",
        low=1,
        high=64,
    )
    labels: int = knob(8, "different ones", role="architecture", low=2, high=1_000)
    noise: float = knob(
        0.5, "of the query: standard deviation, of that of a key", low=0
    )
    train: int = knob(10_000, "images to train on", low=1, high=MOST)
    valid: int = knob(
        1_000, "of the validation split; 0: data.valid_share", low=0, high=MOST
    )
    test: int = knob(0, "of the test split; 0: data.test_share", low=0, high=MOST)
    seed: int = knob(0, "draws the images", low=0)

    def __post_init__(self):
        check_numbers(self, "data.nearest")
        if self.labels > self.side**2:
            raise ValueError(
                f"data.nearest.labels={self.labels} of data.nearest.side={self.side}: "
                f"at most {self.side**2}, a pixel each"
            )


KNOBS = tuple(roles_of(Config, "nearest."))


class Drawn(NamedTuple):
    """Images of one split, and what they show."""

    pixels: np.ndarray  # [n, side, (keys + 1) * side, 2] uint8
    labels: np.ndarray  # [n] of the nearest key


def load(cfg: Config, split: str) -> tuple[Drawn, dict[str, Any]]:
    """The images of one split, drawn apart from the others': (images, report).

    The report has ``chance``, the accuracy of any guess that has not seen the image;
    the label that most keys of an image have is right more often.
    """
    rng = np.random.default_rng((cfg.seed, SPLITS.index(split)))
    count = getattr(cfg, split)
    parts = [
        _draw(cfg, rng, min(_CHUNK, count - first)) for first in range(0, count, _CHUNK)
    ]
    return Drawn(*map(np.concatenate, zip(*parts, strict=True))), {
        "chance": round(1 / cfg.labels, 3)
    }


def _draw(cfg, rng, count):
    shape = count, cfg.keys, cfg.side**2
    keys = rng.normal(_MEAN, _STD, shape)
    meant = rng.integers(cfg.keys, size=count)
    query = keys[np.arange(count), meant]
    query = query + rng.normal(0, cfg.noise * _STD, query.shape)
    keys, query = (np.clip(np.rint(x), 0, 255).astype(np.uint8) for x in (keys, query))
    values = rng.integers(cfg.labels, size=(count, cfg.keys))
    patches = np.zeros((count, cfg.keys + 1, cfg.side**2, 2), np.uint8)
    patches[:, :-1, :, 0], patches[:, -1, :, 0] = keys, query
    np.put_along_axis(patches[:, :-1, :, 1], values[..., None], 255, axis=2)
    pixels = patches.reshape(count, cfg.keys + 1, cfg.side, cfg.side, 2)
    pixels = pixels.transpose(0, 2, 1, 3, 4).reshape(count, cfg.side, -1, 2)
    return pixels, values[np.arange(count), nearest(keys, query)]


def nearest(keys: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Number of the key at the least Euclidean distance, the first of equal ones.

    Args: keys: [n, K, entries]. query: [n, entries].
    """
    apart = keys.astype(np.int64) - query[:, None].astype(np.int64)
    return np.square(apart).sum(-1).argmin(1)
