"""Attention on NVIDIA GPUs by cuDNN, from the structure of a mask alone."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from tfm_jax.ops.masks import Mask

# cuDNN has a layout for them, on Hopper GPUs and later, which JAX has not made public
PACKED = "packed rows (data.batching=pack, data.layout=packed or cut)"


def lacks(
    q: jax.Array | jax.ShapeDtypeStruct, v: jax.Array | jax.ShapeDtypeStruct, mask: Mask
) -> dict[str, Any]:
    """What it may lack, in words -> whether the request has it."""
    size = q.shape[-1]
    return {
        f"heads of {size} numbers (a multiple of 8, at most 128)": size % 8
        or size > 128,
        "values of another size than keys": v.shape[-1] != size,
        PACKED: mask.q_segments is not None,
        "windows without causality": mask.window is not None and not mask.causal,
    }


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: Mask | None,
    divided: PartitionSpec | None = None,
) -> jax.Array:
    """Weighted mean of the values a query may see; no [T, S] array exists.

    Args: as ``splash.attention``; XLA divides it over a mesh by itself.
    Returns: [B, T, H, K] in the dtype of ``q``.
    """
    del divided
    mask, queries, keys = mask or Mask(), q.shape[1], k.shape[1]
    window = None if mask.window is None else (mask.window - 1, 0)  # it is causal
    kv_lengths = mask.kv_lengths
    if keys % 2 and kv_lengths is None:
        kv_lengths = jnp.full(len(k), keys)
    # JAX refuses gradients of odd numbers of tokens: of one more, nobody sees the last
    q, k, v = (
        jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) for x in (q, k, v)
    )
    y = jax.nn.dot_product_attention(
        q,
        k,
        v,
        is_causal=mask.causal,
        query_seq_lengths=mask.q_lengths,
        key_value_seq_lengths=kv_lengths,
        local_window_size=window,
        implementation="cudnn",
    )[:, :queries]
    if mask.q_lengths is not None:
        real = jnp.arange(queries) < mask.q_lengths[:, None]
        y = jnp.where(real[:, :, None, None], y, 0)
    if mask.kv_lengths is not None:
        first = jnp.arange(queries) + 1 - (mask.window or queries)
        sees = jnp.maximum(first, 0) < mask.kv_lengths[:, None]
        y = jnp.where(sees[:, :, None, None], y, 0)
    return y
