"""Self-attention of an image encoder, by layer and head or rolled out, as pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn

from tfm_jax.data.batch import ImageBatch
from tfm_jax.layers.images.patches import grid_of
from tfm_jax.layers.layout import to_unrolled
from tfm_jax.runs import pictures


class ImageAttention(NamedTuple):
    """Attention weights of one image.

    Attributes:
        weights: [L, H, T, T] float32, of [CLS] if there is one, of registers, of the
            patches row by row.
        pooled: [T] float32, how much of each token's state is pooled: all of [CLS], the
            same of every patch, or what the query that pools attends to.
        image: [height, width, C], as the model was given it.
        grid: (rows, columns) of patches.
    """

    weights: np.ndarray
    pooled: np.ndarray
    image: np.ndarray
    grid: tuple[int, int]

    def __repr__(self):
        rows, columns = self.grid
        return f"ImageAttention({rows}x{columns} patches, {list(self.weights.shape)})"

    def rollout(self) -> np.ndarray:
        """[L, T, T]: how much each token at a layer's end is of each one of the image.

        Source: Abnar and Zuidema 2020, arXiv:2005.00928, section 3: the mean over
        heads, half of it residual connection. Deviates: no.
        """
        mixed = 0.5 * self.weights.mean(1) + 0.5 * np.eye(self.weights.shape[-1])
        rolled = [mixed[0]]
        for layer in mixed[1:]:
            rolled.append(layer @ rolled[-1])
        return np.stack(rolled)

    def on_grid(self, weights: np.ndarray) -> np.ndarray:
        """[..., T, T] -> [..., rows, columns], by the token that is pooled."""
        pooled = np.einsum("t,...ts->...s", self.pooled, weights)
        patches = pooled[..., -int(np.prod(self.grid)) :]
        return patches.reshape(*pooled.shape[:-1], *self.grid)

    def plot(self, layer: int | None = None) -> Any:
        """``draw`` of these weights."""
        return draw(self, layer=layer)


def attention(model: nn.Module, params: Any, image: Any) -> ImageAttention:
    """Weights of every layer and head for ``image`` [height, width, C].

    Args: model: an unrolled module. image: see ``ImageEncoder``.
    Raises: ValueError for another number of axes, and as the model does.
    """
    image = np.asarray(image)
    if image.ndim != 3:
        raise ValueError(f"image has shape {image.shape}, not [height, width, C]")
    with nn.logical_axis_rules(()):  # one image: nothing to spread over devices
        batch = ImageBatch(image[None], None, None)
        kept = pictures.intermediates(model, to_unrolled(params), batch)
    layers = pictures.weights_of(kept["encoder"]["stack"], "self_attention")
    weights = np.stack([*layers.values()])
    grid = grid_of(image.shape, model.cfg.patch)
    pooled = np.zeros(weights.shape[-1], np.float32)
    patches = pooled[-int(np.prod(grid)) :]
    if model.cfg.pool == "cls":
        pooled[0] = 1.0
    elif "head" in kept:
        query = kept["head"]["attention_pool"]["attention"]["weights"][0]
        patches[:] = np.mean(query[0], axis=(0, 1))
    else:
        patches[:] = 1 / len(patches)
    return ImageAttention(weights, pooled, image, grid)


def draw(
    maps: ImageAttention, path: str | Path | None = None, *, layer: int | None = None
) -> Any:
    """Draws the image, the rollout to a layer, and that layer's heads over the image.

    Args: path: where it is saved as PNG. layer: index, by default the last.
    Returns: the matplotlib figure; layers and heads are numbered as in the arrays.
    Raises: ValueError for a layer that there is not.
    """
    layer = pictures.numbered(layer, len(maps.weights))
    heads = maps.on_grid(maps.weights[layer])
    rolled = maps.on_grid(maps.rollout()[layer])
    named = [("image", None), ("rollout", rolled)]
    named += [(f"head {number}", each) for number, each in enumerate(heads)]
    return panels(
        maps.image, named, f"attention of what is pooled, layer {layer}", path
    )


def panels(
    image: np.ndarray,
    named: Sequence[tuple[str, np.ndarray | None]],
    title: str,
    path: str | Path | None = None,
) -> Any:
    """Draws weights [rows, columns] over an image in grey, or it alone, a panel each.

    Args: named: (name, weights) of the panels; None draws the image in its colours.
    """
    most, side = (4, 2.2) if len(named) <= 8 else (6, 1.6)  # in a row; inches
    down = -(-len(named) // most)
    across = -(-len(named) // down)
    figure = pictures.canvas((side * across, (side + 0.1) * down + 0.4))
    axes = figure.subplots(down, across, squeeze=False).ravel()
    fonts, known = pictures.drawable_fonts()
    text = dict(fontsize=9, parse_math=False, fontfamily=fonts)
    height, width, _ = image.shape
    edges = (-0.5, width - 0.5, height - 0.5, -0.5)
    for axis in axes:
        axis.axis("off")
    for axis, (name, weights) in zip(axes, named, strict=False):
        shown = _drawable(image)
        below = shown if weights is None else shown.mean(-1)
        axis.imshow(below, cmap="gray", extent=edges)
        if weights is not None:
            axis.imshow(weights, cmap="viridis", alpha=0.6, extent=edges, vmin=0)
        axis.set_title(pictures.legible(name, known), **text)
    figure.suptitle(
        f"{title}: from violet, none, to yellow, the most of a panel", fontsize=9
    )
    return pictures.save(figure, path)


def _drawable(image):
    """[height, width, 1 | 3] in [0, 1]."""
    image = image if image.shape[-1] == 3 else image.mean(-1, keepdims=True)
    if np.issubdtype(image.dtype, np.integer):
        return image / 255
    low, high = image.min(), image.max()
    return (image - low) / max(high - low, 1e-6)
