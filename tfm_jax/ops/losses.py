"""Losses as (sum, weight) pairs, so that they can be divided once, globally."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from tfm_jax.ops.products import einsum


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("states", "table"),
    meta_fields=("dtype", "chunk"),
)
@dataclasses.dataclass(frozen=True)
class FactoredLogits:
    """Logits [B, T, V] that are not multiplied out: ``states @ table.T``.

    Attributes:
        states: [B, T, D]. table: [V, D] float32. dtype: of their product's factors.
        chunk: positions of every row whose logits exist at the same time.
    """

    states: jax.Array
    table: jax.Array
    dtype: DTypeLike
    chunk: int


def token_logits(states: jax.Array, table: jax.Array, dtype: DTypeLike) -> jax.Array:
    """[..., D] and [V, D] -> logits [..., V] float32, of factors in ``dtype``."""
    rows = states.reshape(-1, states.shape[-1])
    logits = einsum("td,vd->tv", rows, table, dtype=dtype, out=jnp.float32)
    return logits.reshape(*states.shape[:-1], len(table))


def default_chunk(vocab: int) -> int:
    """Positions of a row whose logits are 32 MiB of float32, at least one."""
    return max(2**23 // vocab, 1)


def token_cross_entropy(
    logits: jax.Array | FactoredLogits,
    labels: jax.Array,
    weights: jax.Array,
    smoothing: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy in nats, summed over tokens, against smoothed labels.

    Source: Vaswani et al. 2017, section 5.4; Szegedy et al. 2015, section 7:
    the label distribution is (1 - e) one-hot + e / V. Deviates: no.

    Args:
        logits: [B, T, V] float; factored ones are never there as a whole, neither are
            their gradients.
        labels: [B, T] int in [0, V); any value where the weight is 0.
        weights: [B, T] float, 0 for padding.
        smoothing: e, a probability.
    Returns: (sum of weighted losses, sum of weights), float32 scalars.
    """
    of_weights = jnp.sum(weights, dtype=jnp.float32)
    if isinstance(logits, FactoredLogits):
        kind = logits.dtype, logits.chunk, smoothing
        factors = logits.states, logits.table
        return _chunked_sum(kind, *factors, labels, weights), of_weights
    losses = _cross_entropy(logits, labels, smoothing)
    losses = jnp.where(weights > 0, losses, 0.0) * weights
    return jnp.sum(losses), of_weights


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _chunked_sum(kind, states, table, labels, weights):
    """Own derivative: that of a chunk is taken while its logits are there."""

    def of_chunk(total, chunk):
        return total + _sum_of(kind, table, *chunk), None

    chunks = _chunks(kind, states, labels, weights)
    return jax.lax.scan(of_chunk, jnp.float32(0), chunks)[0]


def _chunked_sum_forward(kind, states, table, labels, weights):
    def of_chunk(sums, chunk):
        states, labels, weights = chunk
        gradients = jax.value_and_grad(functools.partial(_sum_of, kind), (0, 1, 3))
        loss, (of_table, *of_rows) = gradients(table, states, labels, weights)
        return jax.tree.map(jnp.add, sums, (loss, of_table)), of_rows

    chunks = _chunks(kind, states, labels, weights)
    start = jnp.float32(0), jnp.zeros_like(table)
    (loss, of_table), of_rows = jax.lax.scan(of_chunk, start, chunks)
    length = states.shape[1]
    of_states, of_weights = (_joined(x)[:, :length] for x in of_rows)
    return loss, (of_states, of_table, of_weights)


def _chunked_sum_backward(kind, gradients, cotangent):
    of_states, of_table, of_weights = (
        (x * cotangent).astype(x.dtype) for x in gradients
    )
    return of_states, of_table, None, of_weights


_chunked_sum.defvjp(_chunked_sum_forward, _chunked_sum_backward)


def _sum_of(kind, table, states, labels, weights):
    dtype, _, smoothing = kind
    logits = token_logits(states, table, dtype)
    return token_cross_entropy(logits, labels, weights, smoothing)[0]


def _chunks(kind, *arrays):
    """[B, T, ...] -> [chunks, B, positions, ...], padded with zeros."""
    length = arrays[0].shape[1]
    count = -(-length // kind[1])
    size = -(-length // count)

    def cut(x):
        rest = [(0, 0)] * (x.ndim - 2)
        x = jnp.pad(x, [(0, 0), (0, count * size - length), *rest])
        return jnp.moveaxis(x.reshape(len(x), count, size, *x.shape[2:]), 1, 0)

    return tuple(cut(x) for x in arrays)


def _joined(x):
    """[chunks, B, positions, ...] -> [B, T, ...]."""
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(len(x), -1, *x.shape[3:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _cross_entropy(logits, labels, smoothing):
    """[B, T] losses. Own derivative: one pass over the logits, no one-hot array."""
    return _cross_entropy_forward(logits, labels, smoothing)[0]


def _cross_entropy_forward(logits, labels, smoothing):
    logits32 = logits.astype(jnp.float32)
    total = jax.nn.logsumexp(logits32, axis=-1)
    picked = jnp.take_along_axis(logits, labels[..., None], -1, mode="clip")[..., 0]
    target = (1.0 - smoothing) * picked.astype(jnp.float32)
    if smoothing:
        target += smoothing * jnp.mean(logits32, axis=-1)
    return total - target, (logits, labels, total)


def _cross_entropy_backward(smoothing, residuals, cotangent):
    logits, labels, total = residuals
    probability = jnp.exp(logits.astype(jnp.float32) - total[..., None])
    classes = jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    wanted = jnp.where(classes == labels[..., None], 1.0 - smoothing, 0.0)
    grad = (probability - wanted - smoothing / logits.shape[-1]) * cotangent[..., None]
    return grad.astype(logits.dtype), None


_cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)
