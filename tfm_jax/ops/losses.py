"""Losses as (sum, weight) pairs, so that they can be divided once, globally."""

import functools

import jax
import jax.numpy as jnp


def token_cross_entropy(
    logits: jax.Array, labels: jax.Array, weights: jax.Array, smoothing: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy in nats, summed over tokens, against smoothed labels.

    Source: Vaswani et al. 2017, section 5.4; Szegedy et al. 2015, section 7:
    the label distribution is (1 - e) one-hot + e / V. Deviates: no.

    Args:
        logits: [B, T, V] float.
        labels: [B, T] int in [0, V); any value where the weight is 0.
        weights: [B, T] float, 0 for padding.
        smoothing: e, a probability.
    Returns: (sum of weighted losses, sum of weights), float32 scalars.
    """
    losses = _cross_entropy(logits, labels, smoothing)
    losses = jnp.where(weights > 0, losses, 0.0) * weights
    return jnp.sum(losses), jnp.sum(weights, dtype=jnp.float32)


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
