"""Trained models that find the image for a text, and the text for an image."""

from pathlib import Path
from typing import Any

import pandas as pd

from tfm_jax.notebook.images import ImagesRun, listed_images
from tfm_jax.notebook.run import listed
from tfm_jax.runs.images import classified
from tfm_jax.workloads import retrieval


class RetrievalRun(ImagesRun):
    """A model that compares images with texts."""

    __slots__ = ()

    def retrieve(self, texts: Any, images: Any) -> pd.DataFrame:
        """How similar each image is to each text: a cosine, a row an image.

        ``run.retrieve(texts, images).idxmax(axis=1)`` is the text for each image, and
        ``.idxmax()`` the image for each text.

        Args: images: as of ``ClassifyImagesRun.classify``.
        """
        texts = listed(texts, "retrieve")
        images = listed_images(images, "retrieve")
        if not texts or not len(images):
            return pd.DataFrame(columns=texts, index=range(len(images)), dtype=float)
        pixels = classified.read(self, images)
        rows = retrieval.text_rows(self.config.data, self.tokenizer, texts)
        named = all(isinstance(image, str | Path) for image in images)
        index = [*map(str, images)] if named else range(len(images))
        cosines = retrieval.similarities(self.model, self.params, pixels, rows)
        return pd.DataFrame(cosines, columns=texts, index=index)
