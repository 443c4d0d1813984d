"""The k likeliest next tokens, without a pass over the vocabulary more than needed."""

import jax
import jax.numpy as jnp
from jax import lax

from tfm_jax.ops.masks import HIDDEN
from tfm_jax.ops.platform import platform

CHUNK = 64


def best_tokens(
    logits: jax.Array, k: int, forbid: tuple[int, ...] = ()
) -> tuple[jax.Array, jax.Array]:
    """The ``k`` likeliest tokens that are not in ``forbid``, likeliest first.

    Args:
        logits: [..., V] float32.
        k: how many; fewer come back if the vocabulary is smaller.
        forbid: token ids; they keep their share of the probability.
    Returns: (log-probabilities in nats [..., k], ids [..., k] int32). Where no allowed
        token is left the log-probability is -inf.
    """
    vocab, forbidden = logits.shape[-1], {*forbid}
    while vocab - 1 in forbidden:  # rows that fill a table up, maybe thousands
        vocab -= 1
    others = [token for token in forbid if token < vocab]
    values, ids = top_k(logits[..., :vocab], min(k + len(others), vocab))
    hidden = jnp.max(logits[..., vocab:], axis=-1, keepdims=True, initial=HIDDEN)
    peak = jnp.maximum(values[..., :1], hidden)
    total = jnp.log(jnp.sum(jnp.exp(logits - peak), axis=-1, keepdims=True))
    log_probs = (values - peak) - total
    if others:
        log_probs = jnp.where(jnp.isin(ids, jnp.array(others)), HIDDEN, log_probs)
        log_probs, places = top_k(log_probs, min(k, vocab))
        ids = jnp.take_along_axis(ids, places, axis=-1)
    return log_probs, ids


def top_k(x: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """``lax.top_k`` along the last axis, ties by lowest index, fast on CPU too.

    Args:
        x: [..., V] float32. k: at most V.
    Returns: (values [..., k], indices [..., k] int32), largest first.
    """
    if platform() != "cpu":
        values, indices = lax.top_k(x, k)
        return values, indices
    large = x.shape[-1] >= 4 * k * CHUNK
    values, indices = chunked_top_k(x, k, CHUNK) if large else lax.top_k(x, k)
    # XLA on CPU merges a slice of the result into the search, which then becomes a
    # complete sort of x, a hundred times slower. One barrier each: a barrier on the
    # pair can abort XLA's compiler under shard_map.
    return lax.optimization_barrier(values), lax.optimization_barrier(indices)


def chunked_top_k(x: jax.Array, k: int, chunk: int) -> tuple[jax.Array, jax.Array]:
    """``lax.top_k`` in two stages: the k best chunks, then the k best of their entries.

    Exact. An entry of any other chunk is preceded, by value or at equal value by index,
    by the largest entry of each of the k chosen chunks: chunks are contiguous and are
    ranked by maximum with ties by position, as entries are.

    Args:
        x: [..., V] float32. k: at most the number of chunks, ceil(V / chunk).
        chunk: entries of a chunk; the last one may be shorter.
    """
    ones = (1,) * (x.ndim - 1)
    padding = ((0, 0),) * (x.ndim - 1) + ((0, -x.shape[-1] % chunk),)
    # reduce_window pads without a copy and is vectorised, unlike argmax on CPU
    maxima = lax.reduce_window(
        x, HIDDEN, lax.max, (*ones, chunk), (*ones, chunk), padding
    )
    chosen = jnp.sort(lax.top_k(maxima, k)[1], axis=-1)  # in order, to keep ties right
    indices = chosen[..., None] * chunk + jnp.arange(chunk, dtype=chosen.dtype)
    indices = indices.reshape(*x.shape[:-1], k * chunk)
    entries = jnp.take_along_axis(x, indices, -1, mode="fill", fill_value=HIDDEN)
    values, places = lax.top_k(entries, k)
    return values, jnp.take_along_axis(indices, places, axis=-1)
