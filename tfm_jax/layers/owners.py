"""Who wrote what in a past that W hypotheses share.

Slot ``t * W + w`` of a cache holds the token that hypothesis w wrote at t. Which
of them a hypothesis continues is a table, ``owners`` [B, W, T] int32: re-ordering the
hypotheses re-orders its rows and moves no keys or values.
"""

import jax.numpy as jnp


def write(owners, index):
    """Every hypothesis writes token ``index``: (owners, visible [B, W, T * W] bool)."""
    batch, width, length = owners.shape
    each = jnp.arange(width)
    owners = owners.at[:, :, index].set(each)
    taken = (jnp.arange(length) <= index)[:, None]
    visible = (owners[..., None] == each) & taken  # [B, W, T, W]
    return owners, visible.reshape(batch, width, -1)


def follow(owners, parents):
    """Hypothesis w continues what ``parents[:, w]`` [B, W] have written."""
    return jnp.take_along_axis(owners, parents[:, :, None], axis=1)
