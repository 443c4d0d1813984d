"""What tasks that predict tokens are scored by."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tfm_jax.ops.losses import token_cross_entropy


def sums(
    logits: jax.Array, labels: jax.Array, weights: jax.Array
) -> dict[str, jax.Array]:
    """Sums over prediction targets: ``nll`` (nats), ``correct``, ``tokens``.

    Args: logits: [..., V]. labels, weights: [...], as in `token_cross_entropy`.
    """
    nll, tokens = token_cross_entropy(logits, labels, weights)
    correct = jnp.sum((jnp.argmax(logits, -1) == labels) * weights)
    return {"nll": nll, "correct": correct, "tokens": tokens}


def scores(totals: Mapping[str, Any]) -> dict:
    """``nll`` (nats per token), ``perplexity``, ``accuracy``, ``tokens``."""
    tokens = max(float(totals["tokens"]), 1.0)
    nll = float(totals["nll"]) / tokens
    return {
        "nll": nll,
        "perplexity": math.exp(min(nll, 700.0)),
        "accuracy": float(totals["correct"]) / tokens,
        "tokens": int(tokens),
    }
