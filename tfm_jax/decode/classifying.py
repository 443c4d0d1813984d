"""What trained models make of images: logits and states, in batches of a few sizes."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from tfm_jax.data.batch import ImageBatch
from tfm_jax.decode.rows import power_of_two
from tfm_jax.mesh import fetch

BATCH = 64  # images at a time


class Judge(NamedTuple):
    """A classifier by which images are measured that another model has drawn.

    Attributes:
        name: of its family and its parameters. labels: names of its classes, in order.
        model: images -> logits. features: the same -> what these are read from.
        params: of both. trained_on: ``digest`` of each image that it has
            learnt; None if they cannot be read any more.
    """

    name: str
    labels: list[str]
    model: nn.Module
    features: nn.Module
    params: Mapping[str, Any]
    trained_on: frozenset[bytes] | None = None

    def look(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(features [n, D], classes [n]) of images [n, height, width, C] uint8."""
        features, logits = (
            over_images(model, self.params, images)
            for model in (self.features, self.model)
        )
        return features, np.argmax(logits, axis=-1)


def over_images(
    model: nn.Module,
    params: Mapping[str, Any],
    images: np.ndarray,
    *,
    method: str = "__call__",
    on_batch: Callable[[int], object] = lambda count: None,
) -> np.ndarray:
    """What a method of ``model`` makes of images [n, height, width, C] uint8.

    Args: on_batch: called with the number of images of each batch when it is done.
    Returns: [n, ...] float32; there must be an image.
    """
    outputs, params = [], jax.device_put(params)
    for first in range(0, len(images), BATCH):
        some = images[first : first + BATCH]
        padding = power_of_two(len(some)) - len(some)
        filled = np.concatenate([some, np.repeat(some[:1], padding, axis=0)])
        result = fetch(_run(model, method, params, filled))
        outputs.append(np.asarray(result, np.float32)[: len(some)])
        on_batch(len(some))
    return np.concatenate(outputs)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(model, method, params, images):
    count = len(images)
    labels, weights = np.zeros(count, np.int32), np.ones(count, np.float32)
    batch = ImageBatch(images, labels, weights)
    return model.apply({"params": params}, batch, train=False, method=method)
