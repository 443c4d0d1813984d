"""Visual language modelling: cross-entropy of an answer, given images and text."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfm_jax.data.batch import ImageTextBatch
from tfm_jax.objectives import tokens
from tfm_jax.objectives.causal_lm import eval_sums, loss_sum

__all__ = ["eval_sums", "example", "loss_sum", "scores"]


def example() -> ImageTextBatch:
    """The smallest batch; models have the size of their images from their config."""
    ones = np.ones((1, 2), np.int32)
    weights, image = np.ones((1, 2), np.float32), np.zeros((1, 1, 1, 1, 1), np.uint8)
    of_images = image, np.ones(1, np.int32), ones
    return ImageTextBatch(ones, ones, None, None, ones, weights, *of_images)


def scores(totals: Mapping[str, Any], report: Mapping[str, Any]) -> dict:
    """See `tokens.scores`."""
    del report
    return tokens.scores(totals)
