"""Masked language modelling, with or without a judgement of sentence pairs."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from tfm_jax.data.batch import MaskedBatch
from tfm_jax.objectives import tokens
from tfm_jax.ops.losses import token_cross_entropy


def example() -> MaskedBatch:
    """The smallest batch, for shapes only."""
    ones, one = np.ones((1, 2), np.int32), np.ones((1, 1), np.int32)
    return MaskedBatch(
        ones,
        ones,
        types=ones,
        labels=one,
        weights=np.ones((1, 1), np.float32),
        target_positions=one,
        pair_labels=one[0],
    )


def auxiliary_scale(batch: MaskedBatch) -> ArrayLike:
    """Masked words per pair, of a whole batch of any leading axes."""
    if batch.pair_labels is None:
        return 0.0
    pairs = jnp.sum(_pair_weights(batch))
    return jnp.sum(batch.weights) / jnp.maximum(pairs, 1.0)


def loss_sum(
    apply: Callable,
    params: Mapping[str, Any],
    batch: MaskedBatch,
    *,
    rng: jax.Array | None = None,
    smoothing: float = 0.0,
    auxiliary: float = 1.0,
    auxiliary_scale: ArrayLike = 0.0,
    train: bool,
) -> tuple[jax.Array, jax.Array]:
    """(loss sum in nats, number of masked words).

    Divided by that number the loss is the mean over words plus ``auxiliary`` times the
    mean over pairs. Source: Devlin et al. 2019, arXiv:1810.04805, appendix A.2.

    Args:
        apply: ``apply(params, batch, rng=..., train=...)``, logits [B, M, V] or, where
            the batch has ``pair_labels``, those of ``words`` and of the ``pair``.
        batch: ``MaskedBatch``. rng: JAX key.
        smoothing: of the words' labels. auxiliary_scale: of the whole batch.
    """
    words, pair = _logits(apply(params, batch, rng=rng, train=train), batch)
    loss, weight = token_cross_entropy(words, batch.labels, batch.weights, smoothing)
    if pair is not None:
        of_pairs, _ = token_cross_entropy(pair, batch.pair_labels, _pair_weights(batch))
        loss += auxiliary * auxiliary_scale * of_pairs
    return loss, weight


def eval_sums(
    apply: Callable, params: Mapping[str, Any], batch: MaskedBatch
) -> dict[str, jax.Array]:
    """See `tokens.sums`, also for pairs, as ``pair_nll`` and so on."""
    words, pair = _logits(apply(params, batch, rng=None, train=False), batch)
    found = tokens.sums(words, batch.labels, batch.weights)
    if pair is not None:
        of_pairs = tokens.sums(pair, batch.pair_labels, _pair_weights(batch))
        found |= {f"pair_{name}": total for name, total in of_pairs.items()}
    return found


def scores(totals: Mapping[str, Any], report: Mapping[str, Any]) -> dict:
    """See `tokens.scores`; with pairs their ``pair_nll`` and ``pair_accuracy``."""
    del report
    found = tokens.scores(totals)
    pairs = {name: total for name, total in totals.items() if name.startswith("pair_")}
    if pairs:
        of_pairs = tokens.scores({k.removeprefix("pair_"): x for k, x in pairs.items()})
        found |= {f"pair_{name}": of_pairs[name] for name in ("nll", "accuracy")}
    return found


def _logits(found, batch):
    """(logits of words, logits of pairs or None)."""
    return (found, None) if batch.pair_labels is None else (found.lm_logits, found.pair)


def _pair_weights(batch):
    return (batch.segments[..., 0] > 0).astype(jnp.float32)
