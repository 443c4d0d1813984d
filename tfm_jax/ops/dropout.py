"""Dropout whose random bits cost a few integer operations per element."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

SHARDS = "data"  # the mesh axis that the rows of a batch are divided over


def mix(x: jax.Array) -> jax.Array:
    """Bijective avalanche hash of uint32 ("lowbias32", C. Wellons, hash-prospector)."""
    x ^= x >> 16
    x *= jnp.uint32(0x7FEB352D)
    x ^= x >> 15
    x *= jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def first_row(rows: int) -> jax.Array | int:
    """Index in the whole batch of the first of ``rows`` that are worked on.

    0 but where each shard of the mesh axis SHARDS works on rows of its own.
    """
    apart = SHARDS in jax.sharding.get_abstract_mesh().manual_axes
    return jax.lax.axis_index(SHARDS) * rows if apart else 0


def row_keys(key: jax.Array, rows: int) -> jax.Array:
    """[B] keys for what is drawn for ``rows`` rows, whichever device works on them."""
    numbers = first_row(rows) + jnp.arange(rows)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)


def dropout(
    x: jax.Array, rate: ArrayLike, key: jax.Array, *, of_rows: bool = True
) -> jax.Array:
    """Zeroes elements of ``x`` with probability ``rate`` and scales up the others.

    Source: Srivastava et al. 2014, with the rescaling at training time.
    Deviates: bits come from a keyed hash of the element's index, not from the
        generator: two words are drawn from ``key``, so calls are independent, and the
        hash fuses into the surrounding loop where generated bits would be stored. What
        is drawn for a row does not depend on the device that works on it.

    Args:
        x: [...] float.
        rate: probability in [0, 1); may be traced, so that a population can vary it.
        key: a typed JAX key.
        of_rows: the first axis is that of the batch.
    Returns: array like ``x``.
    """
    seed = jax.random.bits(key, (2,), jnp.uint32)
    index, stride = jnp.zeros(x.shape, jnp.uint32), 1
    for axis in reversed(range(x.ndim)):
        index += jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis) * jnp.uint32(
            stride & 0xFFFFFFFF
        )
        stride *= x.shape[axis]
    if of_rows and x.size:
        rows, *of_a_row = x.shape or (1,)
        a_row = math.prod(of_a_row) & 0xFFFFFFFF
        index += jnp.uint32(first_row(rows)) * jnp.uint32(a_row)
    bits = mix(mix(index ^ seed[0]) + seed[1])
    uniform = (bits >> 8).astype(jnp.float32) * (1.0 / (1 << 24))
    keep = 1.0 - jnp.asarray(rate, jnp.float32)
    return jnp.where(uniform < keep, x / keep.astype(x.dtype), jnp.zeros_like(x))
