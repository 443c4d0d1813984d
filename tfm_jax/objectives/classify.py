"""A class, or a number, for a text or a pair of texts."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from tfm_jax.data.batch import LabelledBatch
from tfm_jax.ops.losses import token_cross_entropy


def example() -> LabelledBatch:
    """The smallest batch, for shapes only."""
    ones = np.ones((1, 2), np.int32)
    return LabelledBatch(ones, ones, None, ones, ones[0, :1], np.ones(1, np.float32))


def auxiliary_scale(batch: LabelledBatch) -> ArrayLike:
    """Examples per token to predict, of a whole batch of any leading axes."""
    _, weights = _next_tokens(batch)
    return jnp.sum(batch.weights) / jnp.maximum(jnp.sum(weights), 1.0)


def loss_sum(
    apply: Callable,
    params: Mapping[str, Any],
    batch: LabelledBatch,
    *,
    rng: jax.Array | None = None,
    smoothing: float = 0.0,
    auxiliary: float = 0.5,
    auxiliary_scale: ArrayLike,
    train: bool,
) -> tuple[jax.Array, jax.Array]:
    """(loss sum, number of examples): cross-entropy in nats, or squared error.

    A model that also returns logits of words has ``auxiliary`` times the mean loss of a
    language model added. Source: Radford et al. 2018, section 3.2, lambda 0.5.

    Args:
        apply: ``apply(params, batch, rng=..., train=...)``, logits [B, C], or those of
            ``labels`` and of ``words`` [B, T, V].
        batch: ``LabelledBatch``, labels [B] int32, or float32 for numbers, whose model
            has C = 1. rng: JAX key. smoothing: of classes.
        auxiliary_scale: of the whole batch.
    """
    logits, words = _logits(apply(params, batch, rng=rng, train=train))
    loss = jnp.sum(_losses(logits, batch, smoothing))
    if words is not None:
        labels, weights = _next_tokens(batch)
        of_words, _ = token_cross_entropy(words, labels, weights)
        loss += auxiliary * auxiliary_scale * of_words
    return loss, jnp.sum(batch.weights)


def eval_sums(
    apply: Callable, params: Mapping[str, Any], batch: LabelledBatch
) -> dict[str, jax.Array]:
    """``loss``, and ``confusion`` [C, C], true by predicted; or moments of numbers."""
    logits, _ = _logits(apply(params, batch, rng=None, train=False))
    if not _are_numbers(batch):
        return class_sums(logits, batch.labels, batch.weights)
    weights = batch.weights
    sums = {"loss": jnp.sum(_losses(logits, batch)), "examples": jnp.sum(weights)}
    sides = jnp.stack([batch.labels, logits[:, 0], jnp.ones_like(weights)])
    return sums | {"moments": (sides * weights) @ sides.T}


def class_sums(
    logits: jax.Array, labels: jax.Array, weights: jax.Array
) -> dict[str, jax.Array]:
    """``loss``, ``examples`` and ``confusion`` [C, C], true by predicted.

    Args: logits: [B, C] float32. labels: [B] int. weights: [B] float32.
    """
    loss, examples = token_cross_entropy(logits, labels, weights)
    hot = jnp.arange(logits.shape[-1])
    true = (labels[:, None] == hot) * weights[:, None]
    predicted = jnp.argmax(logits, -1)[:, None] == hot
    confusion = true.T @ predicted.astype(jnp.float32)
    return {"loss": loss, "examples": examples, "confusion": confusion}


def scores(totals: Mapping[str, Any], report: Mapping[str, Any]) -> dict:
    """What is reported of ``examples``.

    Classes: ``nll`` (nats), ``accuracy``, ``f1`` (of class 1 if there are two, else the
    mean over classes) and ``matthews`` (Gorodkin 2004 for more than two). Numbers:
    ``nll``, the mean squared error, and ``pearson``.
    """
    del report
    examples = max(float(totals["examples"]), 1.0)
    found = {"nll": float(totals["loss"]) / examples, "examples": int(examples)}
    if "moments" in totals:
        return found | {"pearson": _pearson(np.asarray(totals["moments"], float))}
    confusion = np.asarray(totals["confusion"], float)
    right, true, said = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    f1 = 2 * right / np.maximum(true + said, 1.0)
    covariance = examples * right.sum() - true @ said
    spread = (examples**2 - true @ true) * (examples**2 - said @ said)
    return found | {
        "accuracy": float(right.sum() / examples),
        "f1": float(f1[1] if len(f1) == 2 else f1.mean()),
        "matthews": float(covariance / np.sqrt(spread)) if spread > 0 else 0.0,
    }


def _logits(found):
    """(logits of classes, logits of words or None)."""
    return (
        (found.labels, found.lm_logits)
        if hasattr(found, "lm_logits")
        else (found, None)
    )


def _losses(logits, batch, smoothing=0.0):
    if _are_numbers(batch):
        return jnp.square(logits[:, 0] - batch.labels) * batch.weights
    return token_cross_entropy(logits, batch.labels, batch.weights, smoothing)[0]


def _are_numbers(batch):
    return jnp.issubdtype(batch.labels.dtype, jnp.floating)


def _next_tokens(batch):
    """(labels [..., T], weights) of the word behind each; the last has none."""
    real = (batch.segments > 0).astype(jnp.float32)
    return _shifted(batch.tokens), _shifted(real)


def _shifted(x):
    """One to the left, with 0 at the end."""
    return jnp.pad(x[..., 1:], [*[(0, 0)] * (x.ndim - 1), (0, 1)])


def _pearson(moments):
    """From sums of products of (label, prediction, 1)."""
    mean = moments[:2, 2] / max(moments[2, 2], 1.0)
    products = moments[:2, :2] / max(moments[2, 2], 1.0) - np.outer(mean, mean)
    spread = products[0, 0] * products[1, 1]
    return float(products[0, 1] / np.sqrt(spread)) if spread > 0 else 0.0
