"""Losses as (sum, weight) pairs, so that they can be divided once, globally."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from tfm_jax.ops.platform import platform
from tfm_jax.ops.products import einsum


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("states", "table", "bias"),
    meta_fields=("dtype", "chunk"),
)
@dataclasses.dataclass(frozen=True)
class FactoredLogits:
    """Logits [B, T, V] that are not multiplied out: ``states @ table.T + bias``.

    Attributes:
        states: [B, T, D]. table: [V, D] float32. bias: [V] float32 or None.
        dtype: of the factors of their product.
        chunk: positions of every row whose logits exist at the same time.
    """

    states: jax.Array
    table: jax.Array
    bias: jax.Array | None
    dtype: DTypeLike
    chunk: int


def token_logits(
    states: jax.Array,
    table: jax.Array,
    dtype: DTypeLike,
    bias: jax.Array | None = None,
) -> jax.Array:
    """[..., D] and [V, D] -> logits [..., V] float32, of factors in ``dtype``."""
    rows = states.reshape(-1, states.shape[-1])
    logits = einsum("td,vd->tv", rows, table, dtype=dtype, out=jnp.float32)
    logits = logits.reshape(*states.shape[:-1], len(table))
    return logits if bias is None else logits + bias


def default_chunk(vocab: int, rows: int) -> int:
    """Positions of ``rows`` rows whose logits should exist at the same time.

    On a CPU 2**22 logits, which its caches nearly hold, of at least 256 tokens, see
    benchmarks/README.md. Elsewhere 2**26, 256 MiB, of at least 1,024 tokens, as
    products need.
    """
    logits, tokens = (2**22, 256) if platform() == "cpu" else (2**26, 1024)
    return max(max(logits // vocab, tokens) // rows, 1)


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
        output = logits.table, logits.bias
        return _chunked_sum(kind, output, logits.states, labels, weights), of_weights
    losses = _cross_entropy(logits, labels, smoothing)
    return jnp.sum(_weighted(losses, weights)), of_weights


def _weighted(losses, weights):
    return jnp.where(weights > 0, losses, 0.0) * weights


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _chunked_sum(kind, output, states, labels, weights):
    """Own derivative: that of a chunk is taken while its logits are there.

    Args: output: the table and its bias.
    """
    dtype, _, smoothing = kind

    def of_chunk(total, chunk):
        states, labels, weights = chunk
        logits = token_logits(states, output[0], dtype, output[1])
        losses = _cross_entropy(logits, labels, smoothing)
        return total + jnp.sum(_weighted(losses, weights)), None

    chunks = _chunks(kind, states, labels, weights)
    return jax.lax.scan(of_chunk, jnp.float32(0), chunks)[0]


def _chunked_sum_forward(kind, output, states, labels, weights):
    dtype, _, smoothing = kind
    table, bias = output

    def of_chunk(sums, chunk):
        states, labels, weights = chunk
        logits = token_logits(states, table, dtype, bias)
        losses, grad = _with_gradient(logits, labels, weights, smoothing)
        # [D, V]: on a CPU a fifth faster than the table's own order
        to_kernel = einsum("td,tv->dv", states, grad, dtype=dtype, out=jnp.float32)
        to_bias = None if bias is None else jnp.sum(grad, axis=0)
        to_states = einsum("tv,vd->td", grad, table, dtype=dtype, out=states.dtype)
        added = jnp.sum(_weighted(losses, weights)), to_kernel, to_bias
        return jax.tree.map(jnp.add, sums, added), (to_states, losses)

    chunks = _chunks(kind, states, labels, weights)
    start = jnp.float32(0), *jax.tree.map(jnp.zeros_like, (table.T, bias))
    (loss, to_kernel, to_bias), of_rows = jax.lax.scan(of_chunk, start, chunks)
    to_states, losses = (_joined(x, states) for x in of_rows)
    to_weights = jnp.where(weights > 0, losses, 0.0)
    return loss, ((to_kernel.T, to_bias), to_states, to_weights)


def _chunked_sum_backward(kind, gradients, cotangent):
    to_output, to_states, to_weights = jax.tree.map(
        lambda x: (x * cotangent).astype(x.dtype), gradients
    )
    return to_output, to_states, None, to_weights


_chunked_sum.defvjp(_chunked_sum_forward, _chunked_sum_backward)


def _chunks(kind, *arrays):
    """[B, T, ...] -> [chunks, tokens, ...], of some positions each; padded."""
    rows, length = arrays[0].shape[:2]
    count = -(-length // kind[1])
    size = -(-length // count)

    def cut(x):
        rest = x.shape[2:]
        x = jnp.pad(x, [(0, 0), (0, count * size - length), *[(0, 0)] * len(rest)])
        x = jnp.moveaxis(x.reshape(rows, count, size, *rest), 1, 0)
        return x.reshape(count, rows * size, *rest)

    return tuple(cut(x) for x in arrays)


def _joined(chunks, like):
    """[chunks, tokens, ...] -> [B, T, ...], as ``like``."""
    (rows, length), rest = like.shape[:2], chunks.shape[2:]
    x = chunks.reshape(len(chunks), rows, -1, *rest)
    return jnp.moveaxis(x, 0, 1).reshape(rows, -1, *rest)[:, :length]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _cross_entropy(logits, labels, smoothing):
    """[B, T] losses. Own derivative: one pass over the logits, no one-hot array."""
    return _cross_entropy_forward(logits, labels, smoothing)[0]


def _cross_entropy_forward(logits, labels, smoothing):
    total = jax.nn.logsumexp(logits.astype(jnp.float32), axis=-1)
    return total - _target(logits, labels, smoothing), (logits, labels, total)


def _cross_entropy_backward(smoothing, residuals, cotangent):
    logits, labels, total = residuals
    probability = jnp.exp(logits.astype(jnp.float32) - total[..., None])
    grad = _gradient(probability, labels, cotangent, smoothing)
    return grad.astype(logits.dtype), None


def _with_gradient(logits, labels, weights, smoothing):
    """Losses, and the gradient of their weighted sum, by one exponential a logit."""
    top = jnp.max(logits, axis=-1, keepdims=True)
    powers = jnp.exp(logits - top)
    total = jnp.sum(powers, axis=-1, keepdims=True)
    losses = (jnp.log(total) + top)[..., 0] - _target(logits, labels, smoothing)
    return losses, _gradient(powers * (1.0 / total), labels, weights, smoothing)


def _target(logits, labels, smoothing):
    """[B, T] float32, mean logit of the smoothed labels."""
    picked = jnp.take_along_axis(logits, labels[..., None], -1, mode="clip")[..., 0]
    target = (1.0 - smoothing) * picked.astype(jnp.float32)
    if smoothing:
        target += smoothing * jnp.mean(logits, axis=-1, dtype=jnp.float32)
    return target


def _gradient(probability, labels, cotangent, smoothing):
    """[B, T, V] of the logits, from cotangents [B, T]."""
    shape = probability.shape
    classes = jax.lax.broadcasted_iota(labels.dtype, shape, len(shape) - 1)
    wanted = jnp.where(classes == labels[..., None], 1.0 - smoothing, 0.0)
    return (probability - wanted - smoothing / shape[-1]) * cotangent[..., None]


_cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)
