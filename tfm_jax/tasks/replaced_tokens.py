"""Replaced-token detection: a generator fills in words, a discriminator finds them.

Source: Clark et al. 2020, arXiv:2003.10555, section 2.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tfm_jax.data.batch import TextBatch
from tfm_jax.ops.losses import token_cross_entropy
from tfm_jax.tasks import tokens


def example() -> TextBatch:
    """The smallest batch, for shapes only."""
    ones, one = np.ones((1, 2), np.int32), np.ones((1, 1), np.int32)
    return TextBatch(
        ones, ones, types=ones, labels=one, weights=np.ones((1, 1), np.float32),
        places=one,
    )  # fmt: skip


def balance(batch: TextBatch):
    """Words asked for per token judged, of a whole batch of any leading axes."""
    return jnp.sum(batch.weights) / jnp.maximum(jnp.sum(_real(batch)), 1.0)


def loss_sum(
    apply, params, batch: TextBatch, *, rng=None, smoothing=0.0, auxiliary=50.0,
    balance, train: bool,
):  # fmt: skip
    """(loss sum in nats, number of words asked for).

    Divided by that number the loss is the generator's mean over words plus
    ``auxiliary`` times the discriminator's mean over all tokens but padding.

    Args:
        apply: ``apply(params, batch, rng=..., train=...)``, with ``words`` [B, M, V],
            ``scores`` [B, T] and ``replaced`` [B, T], see ``models.electra.Sampled``.
        batch: ``TextBatch``, labels and weights [B, M] at places. rng: JAX key, of the
            samples too. smoothing: of the words' labels. balance: of the whole batch.
    """
    found = apply(params, batch, rng=rng, train=train)
    loss, weight = token_cross_entropy(
        found.words, batch.labels, batch.weights, smoothing
    )
    of_tokens = jnp.sum(_cross_entropy(found) * _real(batch))
    return loss + auxiliary * balance * of_tokens, weight


def eval_sums(apply, params, batch: TextBatch):
    """See `tokens.sums` for the generator; for the discriminator as in `scores`."""
    found = apply(params, batch, rng=None, train=False)
    real, said = _real(batch), found.scores > 0
    return tokens.sums(found.words, batch.labels, batch.weights) | {
        "judged_nll": jnp.sum(_cross_entropy(found) * real),
        "judged_right": jnp.sum((said == found.replaced) * real),
        "judged": jnp.sum(real),
        "replaced": jnp.sum(found.replaced * real),
        "said": jnp.sum(said * real),
        "found": jnp.sum((said & found.replaced) * real),
    }


def scores(totals, report) -> dict:
    """See `tokens.scores`, of the generator, and of the discriminator its loss.

    ``judged_nll`` (nats per token), ``judged_accuracy``, and ``precision`` and
    ``recall`` of the tokens that it calls replaced; ``replaced`` is their true share.
    """
    del report
    judged = max(float(totals["judged"]), 1.0)
    found = float(totals["found"])
    return tokens.scores(totals) | {
        "judged_nll": float(totals["judged_nll"]) / judged,
        "judged_accuracy": float(totals["judged_right"]) / judged,
        "precision": found / max(float(totals["said"]), 1.0),
        "recall": found / max(float(totals["replaced"]), 1.0),
        "replaced": float(totals["replaced"]) / judged,
    }


def _cross_entropy(found):
    labels = jax.lax.stop_gradient(found.replaced).astype(jnp.float32)
    return optax.losses.sigmoid_binary_cross_entropy(found.scores, labels)


def _real(batch):
    return (batch.segments > 0).astype(jnp.float32)
