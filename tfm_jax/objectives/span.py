"""Where in a text the answer to a question begins and ends."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tfm_jax.data.batch import SpanBatch
from tfm_jax.objectives import tokens
from tfm_jax.objectives.causal_lm import loss_sum

__all__ = ["eval_sums", "example", "loss_sum", "scores"]  # two columns, not T words


def example() -> SpanBatch:
    """The smallest batch, for shapes only."""
    ones = np.ones((1, 2), np.int32)
    return SpanBatch(ones, ones, None, ones, ones, np.ones((1, 2), np.float32))


def eval_sums(
    apply: Callable, params: Mapping[str, Any], batch: SpanBatch
) -> dict[str, jax.Array]:
    """See `tokens.sums`, of columns, and how often both ends are right: ``exact``."""
    logits = apply(params, batch, rng=None, train=False)  # [B, 2, T]
    right = jnp.all(jnp.argmax(logits, -1) == batch.labels, axis=-1)
    exact = {"exact": jnp.sum(right * batch.weights[:, 0])}
    return tokens.sums(logits, batch.labels, batch.weights) | exact


def scores(totals: Mapping[str, Any], report: Mapping[str, Any]) -> dict:
    """``nll`` (nats per end), ``accuracy`` of ends, ``exact`` of rows, ``rows``."""
    del report
    found = tokens.scores(totals)
    rows = max(found.pop("tokens") / 2, 1.0)
    del found["perplexity"]
    return found | {"exact": float(totals["exact"]) / rows, "rows": int(rows)}
