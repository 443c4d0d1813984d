"""Augmented batches of images: a pure function of (seed, epoch, row of the set).

Neither the batch in which an image is nor what is done to others has a part in it, so
that it is the same with any number of devices and processes and after an interruption.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tfm_jax.data.augment.geometry import erased, mirrored, padded_crop, resized_crop
from tfm_jax.data.augment.randaugment import LEVELS, randaugment
from tfm_jax.data.batch import ImageBatch
from tfm_jax.knobs import Above, check_numbers, knob


@dataclasses.dataclass(frozen=True)
class Config:
    """What is done to images that are trained on, in this order; at 0 it is not."""

    ROLE = "training"

    crop_padding: int = knob(
        0,
        "pixels of black around an image, out of which it is cropped",
        low=0,
        high=512,
    )
    resized_crop: float = knob(
        0.0,
        "smallest share of the area of a crop that is resized to the whole, 0.08 as "
        "published",
        low=0,
        high=1,
    )
    flip: float = knob(0.0, "probability of a mirror image", low=0, high=1)
    randaugment_layers: int = knob(
        0, "operations on an image, N of RandAugment", low=0, high=16
    )
    randaugment_magnitude: float = knob(
        9.0, "of the operations, M of RandAugment", low=0, high=LEVELS
    )
    erasing: float = knob(0.0, "probability of random erasing", low=0, high=1)
    mixup: float = knob(
        0.0, "alpha: images are mixed by shares of Beta(alpha, alpha)", low=0, high=1e3
    )
    cutmix: float = knob(
        0.0,
        "alpha: a patch of Beta(alpha, alpha) of the area is another image's; with "
        "mixup, every second image",
        low=0,
        high=1e3,
    )

    READ_WITH = {("randaugment_layers", Above(0)): ("randaugment_magnitude",)}

    def __post_init__(self):
        check_numbers(self, "data.augment")


# knob -> (image, config, draws) -> image
CHANGES: dict[str, Callable] = {
    "crop_padding": lambda x, cfg, draw: padded_crop(x, cfg.crop_padding, draw),
    "resized_crop": lambda x, cfg, draw: resized_crop(x, cfg.resized_crop, draw),
    "flip": lambda x, cfg, draw: mirrored(x, cfg.flip, draw),
    "randaugment_layers": lambda x, cfg, draw: randaugment(
        x, cfg.randaugment_layers, cfg.randaugment_magnitude, draw
    ),
    "erasing": lambda x, cfg, draw: erased(x, cfg.erasing, draw),
}
_MIXING = len(CHANGES)  # number of the draws of who is mixed, and how


class Augment:
    """``augment_train`` of ``Prepared``: changes images, and mixes each with another.

    Source: mixup, Zhang et al. 2018, arXiv:1710.09412; CutMix, Yun et al. 2019,
    arXiv:1905.04899. Deviates: shares and partners are drawn for each image, from the
    whole set, there for a batch; the partner is changed as it is itself in that epoch.
    """

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        there = enumerate(CHANGES.items())
        self.changes = [(n, f) for n, (name, f) in there if getattr(cfg, name)]

    def __call__(
        self, rows: ImageBatch, chosen: np.ndarray, seeds: np.ndarray
    ) -> ImageBatch:
        """See ``Prepared.augment_train``."""
        images = [
            self.changed(rows.images[row], *map(int, seed))
            for row, seed in zip(chosen, seeds, strict=True)
        ]
        batch = ImageBatch(np.stack(images), rows.labels[chosen], rows.weights[chosen])
        return self._mixed(rows, batch, seeds) if self.mixes else batch

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with others."""
        return self.cfg.mixup > 0 or self.cfg.cutmix > 0

    def changed(self, image: Any, seed: int, epoch: int, row: int) -> np.ndarray:
        """One image [height, width, C], as it is in an epoch before it is mixed."""
        for number, function in self.changes:
            draw = np.random.default_rng((seed, epoch, row, number))
            image = function(image, self.cfg, draw)
        return image

    def _mixed(self, rows, batch, seeds):
        partners, shares = np.zeros(len(seeds), int), np.zeros(len(seeds), np.float32)
        for place, (seed, epoch, row) in enumerate(seeds.tolist()):
            draw = np.random.default_rng((seed, epoch, row, _MIXING))
            partners[place] = partner = draw.integers(len(rows.labels))
            other = self.changed(rows.images[partner], seed, epoch, int(partner))
            mix = self._mixture(draw)
            batch.images[place], shares[place] = mix(batch.images[place], other, draw)
        return batch._replace(
            mixed_labels=rows.labels[partners],
            mixed_shares=shares * rows.weights[partners],
        )

    def _mixture(self, draw):
        cut = self.cfg.cutmix > 0
        if cut and self.cfg.mixup > 0:
            cut = draw.random() < 0.5
        return self._cut_mixed if cut else self._mixed_up

    def _mixed_up(self, image, other, draw):
        """(mixture, share of ``other``)."""
        share = draw.beta(self.cfg.mixup, self.cfg.mixup)
        mixture = (1 - share) * image + share * other
        return np.rint(mixture).astype(np.uint8), share

    def _cut_mixed(self, image, other, draw):
        """(image with a patch of ``other``, share of its area)."""
        height, width = image.shape[:2]
        side = math.sqrt(draw.beta(self.cfg.cutmix, self.cfg.cutmix))
        y, x = draw.integers(0, height), draw.integers(0, width)  # the middle
        top, left = (round(at - side * n / 2) for at, n in ((y, height), (x, width)))
        bottom, right = top + round(side * height), left + round(side * width)
        rows = slice(max(top, 0), min(bottom, height))
        columns = slice(max(left, 0), min(right, width))
        mixture = image.copy()
        mixture[rows, columns] = other[rows, columns]
        inside = mixture[rows, columns, 0].size
        return mixture, inside / (height * width)


def augment_of(cfg: Config) -> Augment | None:
    """What a section asks for; None if it is nothing."""
    augment = Augment(cfg)
    return augment if augment.changes or augment.mixes else None
