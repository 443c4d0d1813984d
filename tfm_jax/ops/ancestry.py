"""Beam ancestry: which hypothesis wrote each token that a hypothesis continues.

Slot ``t * W + w`` of a cache holds the token that hypothesis w wrote at t. The table
``ancestry`` [B, W, T] int32 says, for hypothesis w, the writer of its token at t:
re-ordering the hypotheses re-orders rows of the table and moves no keys or values.
"""

import jax
import jax.numpy as jnp


def write(ancestry: jax.Array, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """All hypotheses write token ``index``: (ancestry, visible [B, W, T * W] bool)."""
    batch, width, length = ancestry.shape
    each = jnp.arange(width)
    ancestry = ancestry.at[:, :, index].set(each)
    taken = (jnp.arange(length) <= index)[:, None]
    visible = (ancestry[..., None] == each) & taken  # [B, W, T, W]
    return ancestry, visible.reshape(batch, width, -1)


def follow(ancestry: jax.Array, parents: jax.Array) -> jax.Array:
    """Hypothesis w continues what ``parents[:, w]`` [B, W] have written."""
    return jnp.take_along_axis(ancestry, parents[:, :, None], axis=1)
