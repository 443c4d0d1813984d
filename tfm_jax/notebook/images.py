"""Trained models of images in a notebook."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from tfm_jax.decode.classifying import over_images
from tfm_jax.notebook.run import ScoredRun
from tfm_jax.runs import pictures, saved
from tfm_jax.runs.images import attention, classified
from tfm_jax.runs.images.attention import ImageAttention
from tfm_jax.runs.log import counted

CHANNELS = (1, 3, 4)  # as last axis, they make an array of three axes one image


class ImagesRun(ScoredRun):
    """A model of images."""

    __slots__ = ()

    def picture(self, images: Any) -> Any:
        """Images [n, H, W, C] uint8, ten in a row, a matplotlib figure."""
        return pictures.images(np.asarray(images))


class ClassifyImagesRun(ImagesRun):
    """A model that tells classes of images apart; their names are ``labels``."""

    __slots__ = ()

    @property
    def labels(self) -> list[str]:
        """Names in the order of the model's outputs."""
        return saved.label_names(self)

    def classify(self, images: Any) -> pd.DataFrame:
        """Probability of each label, a column each.

        Args: images: paths, images of Pillow or arrays uint8 [H, W] or [H, W, C], of
            any size; or an array of several, [n, H, W] or [n, H, W, C]; one of
            [H, W, 1], [H, W, 3] or [H, W, 4] is a single image.
        Returns: a row an image; its path, or number, is its index.
        """
        images = listed_images(images, "classify")
        pixels = classified.read(self, images)
        with counted(len(pixels)) as done:
            probabilities = classified.probabilities(self, pixels, on_batch=done)
        named = all(isinstance(image, str | Path) for image in images)
        index = [*map(str, images)] if named else range(len(images))
        return pd.DataFrame(probabilities, columns=self.labels, index=index)

    def logits(self, images: Any) -> np.ndarray:
        """What the model returns: [n, labels] float32. Args: as of ``classify``."""
        pixels = classified.read(self, listed_images(images, "logits"))
        return classified.logits(self, pixels)

    def attention(self, image: Any) -> ImageAttention:
        """Weights of every layer and head for one image, and their rollout."""
        (pixels,) = classified.read(self, [image])
        return attention.attention(self.model, self.params, pixels)

    def embed(self, images: Any) -> np.ndarray:
        """A vector [n, D] float32 of each image: the mean of the encoder's states.

        Args: images: as in ``classify``.
        """
        pixels = classified.read(self, listed_images(images, "embed"))
        if not len(pixels):
            return np.zeros((0, self.config.model.width), np.float32)
        parts = self.model, self.params, pixels
        with counted(len(pixels)) as done:
            return over_images(*parts, method="encode", on_batch=done).mean(axis=1)


def listed_images(images: Any, method: str) -> Sequence[Any]:
    """Raises: TypeError for a single image."""
    one = isinstance(images, str | Path | Image.Image)
    shape = getattr(images, "shape", (0, 0, 0, 0))
    if one or len(shape) < 3 or (len(shape) == 3 and shape[-1] in CHANNELS):
        raise TypeError(f"images is one image; write {method}([image])")
    return list(images)
