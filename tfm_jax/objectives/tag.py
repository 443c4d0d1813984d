"""A tag for every word of a text."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfm_jax.data.batch import TaggedBatch
from tfm_jax.objectives import tokens
from tfm_jax.objectives.causal_lm import eval_sums, loss_sum

__all__ = ["eval_sums", "example", "loss_sum", "scores"]  # labels instead of words


def example() -> TaggedBatch:
    """The smallest batch, for shapes only."""
    ones = np.ones((1, 2), np.int32)
    return TaggedBatch(ones, ones, None, ones, ones, np.ones((1, 2), np.float32))


def scores(totals: Mapping[str, Any], report: Mapping[str, Any]) -> dict:
    """See `tokens.scores`; ``tokens`` are the words that have a tag."""
    del report
    return tokens.scores(totals)
