"""Runs in a notebook that retrieve images and texts."""

from pathlib import Path
from typing import Any

import pandas as pd

from tfm_jax.notebook.images import listed_images
from tfm_jax.notebook.run import listed
from tfm_jax.notebook.visual import CaptionRun
from tfm_jax.runs.images import classified, cross_attention, retrieved
from tfm_jax.runs.images.cross_attention import CrossAttention
from tfm_jax.workloads import retrieval


class RetrievalRun(CaptionRun):
    """A model that compares images with texts."""

    __slots__ = ()

    def retrieve(self, texts: Any, images: Any, *, rerank: int = 0) -> pd.DataFrame:
        """How similar each image is to each text: a cosine, a row an image.

        ``run.retrieve(texts, images).idxmax(axis=1)`` is the text for each image, and
        ``.idxmax()`` the image for each text.

        Args:
            images: as of ``ClassifyImagesRun.classify``.
            rerank: so many of the most similar texts of each image, and images of each
                text, are candidates and have the logit of a match plus the cosine (Li
                et al. 2023, section 4.4: 128 of them); others have NaN. 0: cosines.
        Raises: ConfigError for what the run has not learnt.
        """
        texts = listed(texts, "retrieve")
        images = listed_images(images, "retrieve")
        if not texts or not len(images):
            return pd.DataFrame(columns=texts, index=range(len(images)), dtype=float)
        pixels = classified.read(self, images)
        named = all(isinstance(image, str | Path) for image in images)
        index = [*map(str, images)] if named else range(len(images))
        scores = retrieved.scores(self, pixels, texts, rerank=rerank)
        return pd.DataFrame(scores, columns=texts, index=index)

    def attention(self, image: Any, text: str | None = None) -> CrossAttention:
        """Attention of each query to one image, in every cross-attention layer.

        Args: image: as of ``VisualRun.ask``. text: that the queries see with it.
        """
        (pixels,) = classified.read(self, [image])
        row = None
        if text is not None:
            texts = listed([text], "attention")
            row = retrieval.text_rows(self.config.data, self.tokenizer, texts)
        return cross_attention.of_queries(self.model, self.params, pixels, row)
