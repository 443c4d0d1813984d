"""Cross-attention to an image: of the queries of a Q-Former, of predicted words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn

from tfm_jax.data.batch import ImageTextBatch, TextBatch
from tfm_jax.layers.images.patches import grid_of
from tfm_jax.layers.layout import to_unrolled
from tfm_jax.runs import pictures
from tfm_jax.runs.images.attention import panels


class CrossAttention(NamedTuple):
    """Attention weights of queries, or of predicted words, over one image's tokens.

    Attributes:
        weights: [L, H, T, S] float32, of the L layers that attend to the image.
        patches: [S, rows, columns] float32, the share of each patch in each token of
            the image.
        layers: L, their numbers in the stack.
        labels: T, names of the queries, or the words that are predicted.
        image: [height, width, C], as the model was given it.
    """

    weights: np.ndarray
    patches: np.ndarray
    layers: tuple[int, ...]
    labels: tuple[str, ...]
    image: np.ndarray

    def __repr__(self):
        rows, columns = self.patches.shape[1:]
        shape = list(self.weights.shape)
        return f"CrossAttention({' '.join(self.labels)!r}, {rows}x{columns}, {shape})"

    def on_grid(self, layer: int | None = None) -> np.ndarray:
        """[T, rows, columns]: the mean of the heads of one layer, times ``patches``.

        Args: layer: 0 to L - 1, or from -1 backwards, by default the last.
        """
        weights = self.weights[pictures.numbered(layer, len(self.weights))]
        return np.einsum("hts,srp->trp", weights, self.patches) / len(weights)

    def plot(self, layer: int | None = None) -> Any:
        """``draw`` of these weights."""
        return draw(self, layer=layer)


def of_queries(
    model: nn.Module, params: Any, image: np.ndarray, text: TextBatch | None = None
) -> CrossAttention:
    """Of the queries of a Q-Former, in every layer that attends to the image.

    Args: model: an unrolled module. image: [height, width, C]. text: one row [1, T],
        which the queries see, as they do where the two are matched.
    """
    inputs = image[None, None], text
    kept = _kept(model, params, *inputs, method=_read)["qformer"]
    weights = pictures.weights_of(kept["stack"], "cross_attention")
    grid = grid_of(image.shape, model.cfg.vision.patch)
    count = int(np.prod(grid))
    first, *_ = weights.values()
    beside = first.shape[-1] - count  # [CLS], registers
    patches = np.pad(np.eye(count, dtype=np.float32), ((beside, 0), (0, 0)))
    labels = tuple(f"query {number}" for number in range(first.shape[1]))
    return _maps(weights, patches.reshape(-1, *grid), labels, image)


def of_words(
    model: nn.Module, params: Any, rows: ImageTextBatch, words: Sequence[str]
) -> CrossAttention:
    """Of the words that are predicted, in the gated layers of Flamingo.

    Gated layers attend to the S tokens of the resampler, in each of which patches have
    the shares X [S, P]: the attention rollout over the resampler's layers. W are the
    weights of a layer, the mean over heads; its residual connection counts as much.

    - Latents attend to the patches and to one another: X <- (W [I; X] + X) / 2, X = 0
      at first.
    - States that are resampled themselves: X <- (W X + X) / 2, X = I at first.

    "Patches" are the last states of the image encoder, which has mixed them already.

    Source: Abnar and Zuidema 2020, arXiv:2005.00928, section 3. Deviates: latents.
    Args: rows: one row with one image. words: the labels of positive weight.
    Raises: ValueError for a model without gated layers.
    """
    rows = rows._replace(images=rows.images[:])  # an array, if it was gathered
    image = rows.images[0, 0]
    kept = _kept(model, params, rows)
    language = kept.get("lm", {}).get("stack", {})
    weights = pictures.weights_of(language, "gated_cross_attention")
    if not weights:
        raise ValueError(f"{type(model).__name__} has no gated layers, as Flamingo has")
    places = np.flatnonzero(np.asarray(rows.weights)[0] > 0)
    weights = {layer: each[:, places] for layer, each in weights.items()}
    grid = grid_of(image.shape, model.cfg.vision.patch)
    states = np.eye(int(np.prod(grid)), dtype=np.float32)
    resampler = kept.get("resampler", {}).get("stack", {})
    mixed = states
    for each in pictures.weights_of(resampler, "self_attention").values():
        mixed = (each.mean(0) @ mixed + mixed) / 2
    latents = pictures.weights_of(resampler, "latent_attention").values()
    for number, each in enumerate(latents):
        mixed = mixed if number else np.zeros((each.shape[1], len(states)), np.float32)
        mixed = (each.mean(0) @ np.concatenate([states, mixed]) + mixed) / 2
    return _maps(weights, mixed.reshape(-1, *grid), tuple(words), image)


def draw(
    maps: CrossAttention, path: str | Path | None = None, *, layer: int | None = None
) -> Any:
    """Draws the image, the mean of all maps, and each over the image.

    Args: path: where it is saved as PNG. layer: see ``on_grid``.
    Returns: the matplotlib figure.
    Raises: ValueError for a layer that there is not.
    """
    each = maps.on_grid(layer)
    named = [("image", None), ("mean", each.mean(0))]
    named += zip(maps.labels, each, strict=True)
    number = maps.layers[pictures.numbered(layer, len(maps.layers))]
    return panels(maps.image, named, f"attention to the image, layer {number}", path)


def _read(model, images, text, *, train):
    states = model.image_states(images, train=train)
    return model.qformer(states, text, "full", train=train)


def _kept(model, params, *inputs, **options):
    with nn.logical_axis_rules(()):  # one image: nothing to spread over devices
        return pictures.intermediates(model, to_unrolled(params), *inputs, **options)


def _maps(weights, patches, labels, image):
    stacked = np.stack([*weights.values()])
    return CrossAttention(stacked, patches, tuple(weights), labels, image)
