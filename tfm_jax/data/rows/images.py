"""Images with a class each, an image a row."""

import dataclasses

import numpy as np

from tfm_jax.data.augment import images as augment
from tfm_jax.data.batch import ImageBatch
from tfm_jax.data.batches import Order
from tfm_jax.data.prepared import Filled, Kind
from tfm_jax.data.sources.images import labelled, splits
from tfm_jax.data.sources.images.listed import content

_Augment = augment.Config  # its field hides the name


@dataclasses.dataclass(frozen=True)
class Config(Order, labelled.Config):
    """Where images come from, and what is done to them while they are trained on."""

    augment: _Augment = _Augment()


def _rows(cfg, tokenizer, images, split):
    del cfg, tokenizer, split
    known = images.known.astype(np.float32)
    return Filled([ImageBatch(images.pixels, images.labels, known)], {})


KIND = Kind(
    Config,
    ImageBatch,
    labelled.load_images,
    None,
    _rows,
    size=lambda images: len(images.labels),
    tokenizer=None,
    augment_train=lambda cfg: augment.augment_of(cfg.augment),
    compare=splits.without_leaks,
    content=content,
    unstored=("augment",),
)
