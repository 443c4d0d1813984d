"""Columns beside each other, of which a matrix product makes a convolution."""

import jax
import jax.numpy as jnp


def unfold(
    x: jax.Array, before: int, after: int, segments: jax.Array | None = None
) -> jax.Array:
    """Every column of x with those ``before`` and ``after`` it.

    Where there is no such column of the row, or it is of another segment, stand zeros:
    what a convolution computes of a text depends neither on the texts beside it in the
    row nor on padding. As a product it takes a CPU the time of XLA's own convolution.

    Args: x: [B, T, C]. segments: [B, T] int; None: every row is one.
    Returns: [B, T, before + 1 + after, C].
    """
    length, window = x.shape[1], before + 1 + after
    beside = ((0, 0), (before, after))
    columns = jnp.pad(x, (*beside, (0, 0)))
    shifted = [columns[:, k : k + length] for k in range(window)]
    if segments is not None:
        of = jnp.pad(segments, beside, constant_values=-1)
        shifted = [
            jnp.where((of[:, k : k + length] == segments)[..., None], column, 0)
            for k, column in enumerate(shifted)
        ]
    return jnp.stack(shifted, axis=2)
