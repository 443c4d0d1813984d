"""A class for an image."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tfm_jax.data.batch import ImageBatch
from tfm_jax.objectives import classify
from tfm_jax.ops.losses import token_cross_entropy

TOP = 5  # classes of which one must be right, for ``top5_accuracy``


def example() -> ImageBatch:
    """The smallest batch; models have the size of their images from their config."""
    image = np.zeros((1, 1, 1, 1), np.uint8)
    return ImageBatch(image, np.zeros(1, np.int32), np.ones(1, np.float32))


def loss_sum(
    apply: Callable,
    params: Mapping[str, Any],
    batch: ImageBatch,
    *,
    rng: jax.Array | None = None,
    smoothing: float = 0.0,
    train: bool,
) -> tuple[jax.Array, jax.Array]:
    """(loss sum in nats, number of images); of a mixture, by the shares of its labels.

    Source: Zhang et al. 2018, arXiv:1710.09412: the cross-entropy against a mixture of
    two labels is that mixture of their cross-entropies. Deviates: no.

    Args:
        apply: ``apply(params, batch, rng=..., train=...) -> logits [B, C]``.
        batch: ``ImageBatch``. rng: JAX key for dropout. smoothing: of classes.
    """
    logits, weights = apply(params, batch, rng=rng, train=train), batch.weights
    if batch.mixed_labels is None:
        return token_cross_entropy(logits, batch.labels, weights, smoothing)
    of_other = weights * batch.mixed_shares
    of_own = weights - of_other
    loss, _ = token_cross_entropy(logits, batch.labels, of_own, smoothing)
    loss += token_cross_entropy(logits, batch.mixed_labels, of_other, smoothing)[0]
    return loss, jnp.sum(weights)


def eval_sums(
    apply: Callable, params: Mapping[str, Any], batch: ImageBatch
) -> dict[str, jax.Array]:
    """Those of ``classify.class_sums``, and ``top5`` of more classes than that."""
    logits = apply(params, batch, rng=None, train=False)
    sums = classify.class_sums(logits, batch.labels, batch.weights)
    if logits.shape[-1] <= TOP:
        return sums
    _, best = jax.lax.top_k(logits, TOP)
    in_top5 = jnp.any(best == batch.labels[:, None], axis=-1)
    return sums | {"top5": jnp.sum(in_top5 * batch.weights)}


def scores(totals: Mapping[str, Any], report: Mapping[str, Any]) -> dict:
    """Those of ``classify.scores``, and ``top5_accuracy`` of more classes than that."""
    metrics = classify.scores(totals, report)
    if "top5" in totals:
        examples = max(float(totals["examples"]), 1.0)
        metrics["top5_accuracy"] = float(totals["top5"]) / examples
    return metrics
