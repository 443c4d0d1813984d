"""One vector of a text, out of the states of its tokens."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def mean(x: jax.Array, real: jax.Array) -> jax.Array:
    """Mean of the real tokens' states, summed in float32; 0 where a row has none.

    Source: Reimers and Gurevych 2019, arXiv:1908.10084, section 3. Deviates: no.
    """
    real = real[..., None]
    total = jnp.sum(jnp.where(real, x, 0), axis=1, dtype=jnp.float32)
    return (total / jnp.maximum(jnp.sum(real, axis=1), 1)).astype(x.dtype)


def first(x: jax.Array, real: jax.Array) -> jax.Array:
    """State of the first token, [CLS] (Devlin et al. 2019, section 3)."""
    del real
    return x[:, 0]


def last(x: jax.Array, real: jax.Array) -> jax.Array:
    """State of the last real token, which has seen all of the text in causal models.

    Source: Radford et al. 2018, section 3.2. Deviates: no. Padding is on the right.
    """
    index = jnp.sum(real, axis=1, dtype=jnp.int32) - 1
    return jnp.take_along_axis(x, index[:, None, None], axis=1, mode="clip")[:, 0]


# (states [B, T, D], real [B, T] bool) -> [B, D]
POOLS: dict[str, Callable] = {"mean": mean, "first": first, "last": last}
