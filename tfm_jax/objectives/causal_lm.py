"""Causal language modelling: cross-entropy of each token given those before it."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from tfm_jax.data.batch import CausalBatch
from tfm_jax.objectives import tokens
from tfm_jax.ops.losses import token_cross_entropy


def example() -> CausalBatch:
    """The smallest batch, for shapes only."""
    ones = np.ones((1, 2), np.int32)
    return CausalBatch(ones, ones, ones, None, ones, np.ones((1, 2), np.float32))


def loss_sum(
    apply: Callable,
    params: Mapping[str, Any],
    batch: CausalBatch,
    *,
    rng: jax.Array | None = None,
    smoothing: float = 0.0,
    train: bool,
) -> tuple[jax.Array, jax.Array]:
    """(loss sum in nats, number of prediction targets), label smoothing included.

    Args:
        apply: ``apply(params, batch, rng=..., train=...) -> logits [B, T, V]``.
        batch: ``CausalBatch``. rng: JAX key for dropout.
    """
    logits = apply(params, batch, rng=rng, train=train)
    return token_cross_entropy(logits, batch.labels, batch.weights, smoothing)


def eval_sums(
    apply: Callable, params: Mapping[str, Any], batch: CausalBatch
) -> dict[str, jax.Array]:
    """See `tokens.sums`."""
    logits = apply(params, batch, rng=None, train=False)
    return tokens.sums(logits, batch.labels, batch.weights)


def scores(totals: Mapping[str, Any], report: Mapping[str, Any]) -> dict:
    """See `tokens.scores`; and ``bits_per_character``, whatever the tokenizer is.

    Args: report: of the split, with its ``characters``; 0: not all are targets.
    """
    if not report["characters"]:
        return tokens.scores(totals)
    bits = float(totals["nll"]) / math.log(2) / max(report["characters"], 1)
    return tokens.scores(totals) | {"bits_per_character": bits}
