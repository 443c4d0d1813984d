"""Grids of vectors at another resolution, as PyTorch interpolates them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def _bilinear(distance):
    return np.maximum(1 - np.abs(distance), 0)


def _bicubic(distance, a=-0.75):
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


# weight of a point by its distance, in points of the source
INTERPOLATIONS: dict[str, Callable] = {
    "bilinear": _bilinear,
    "bicubic": _bicubic,  # Keys 1981, with PyTorch's a in place of -1/2
    "zeros": np.zeros_like,  # nothing is kept
}


def interpolate(grid: jax.Array, size: tuple[int, int], kind: str) -> jax.Array:
    """[rows, columns, D] -> [*size, D].

    ``torch.nn.functional.interpolate(mode=kind, align_corners=False)``: centres of
    cells are aligned, the border is repeated, nothing is smoothed where there are fewer
    points than before.

    Args: kind: a key of INTERPOLATIONS.
    """
    rows, columns = (
        _matrix(before, now, INTERPOLATIONS[kind])
        for before, now in zip(grid.shape[:2], size, strict=True)
    )
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("ip,jq,pqd->ijd", rows, columns, grid, precision=highest)


def _matrix(before, now, weight):
    """[now, before] float32, the weights of the points of each new one."""
    centres = (np.arange(now) + 0.5) * before / now - 0.5
    near = np.floor(centres).astype(int)[:, None] + np.arange(-1, 3)
    weights = weight(centres[:, None] - near)
    matrix = np.zeros((now, before))
    np.add.at(matrix, (np.arange(now)[:, None], near.clip(0, before - 1)), weights)
    return jnp.asarray(matrix, jnp.float32)
