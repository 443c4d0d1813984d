"""Causal language modelling: cross-entropy of each token given those before it."""

import jax.numpy as jnp
import numpy as np

from tfm_jax.data.batch import TextBatch
from tfm_jax.ops.losses import token_cross_entropy


def example() -> TextBatch:
    """The smallest batch, for shapes only."""
    ones = np.ones((1, 2), np.int32)
    return TextBatch(
        ones, ones, positions=ones, labels=ones, weights=np.ones((1, 2), np.float32)
    )


def loss_sum(apply, params, batch: TextBatch, *, rng=None, smoothing=0.0, train: bool):
    """(loss sum in nats, number of tokens asked for), label smoothing included.

    Args:
        apply: ``apply(params, batch, rng=..., train=...) -> logits [B, T, V]``.
        batch: ``TextBatch``, labels and weights [B, T]. rng: JAX key for dropout.
    """
    logits = apply(params, batch, rng=rng, train=train)
    return token_cross_entropy(logits, batch.labels, batch.weights, smoothing)


def eval_sums(apply, params, batch: TextBatch):
    """Sums over tokens asked for: ``nll`` (nats), ``correct``, ``tokens``."""
    logits = apply(params, batch, rng=None, train=False)
    nll, tokens = token_cross_entropy(logits, batch.labels, batch.weights)
    correct = jnp.sum((jnp.argmax(logits, -1) == batch.labels) * batch.weights)
    return {"nll": nll, "correct": correct, "tokens": tokens}
