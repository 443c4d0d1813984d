"""Translation: teacher-forced token cross-entropy over a batch of sentence pairs."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tfm_jax.data.batch import PairBatch
from tfm_jax.objectives import tokens
from tfm_jax.ops.losses import token_cross_entropy


def example() -> PairBatch:
    """The smallest batch, for shapes only."""
    return PairBatch(*(np.ones((1, 2), np.int32) for _ in PairBatch._fields))


def loss_sum(
    apply: Callable,
    params: Mapping[str, Any],
    batch: PairBatch,
    *,
    rng: jax.Array | None = None,
    smoothing: float = 0.0,
    train: bool,
) -> tuple[jax.Array, jax.Array]:
    """(loss sum in nats, number of target tokens), label smoothing included.

    Args:
        apply: ``apply(params, batch, rng=..., train=...) -> logits [B, T, V]``.
        batch: ``PairBatch`` of [B, S] and [B, T]. rng: JAX key for dropout.
    """
    logits = apply(params, batch, rng=rng, train=train)
    weights = (batch.target_segments > 0).astype(jnp.float32)
    return token_cross_entropy(logits, batch.target_labels, weights, smoothing)


def eval_sums(
    apply: Callable, params: Mapping[str, Any], batch: PairBatch
) -> dict[str, jax.Array]:
    """See `tokens.sums`; not smoothed."""
    logits = apply(params, batch, rng=None, train=False)
    weights = (batch.target_segments > 0).astype(jnp.float32)
    return tokens.sums(logits, batch.target_labels, weights)


def scores(totals: Mapping[str, Any], report: Mapping[str, Any]) -> dict:
    """See `tokens.scores`."""
    del report
    return tokens.scores(totals)
