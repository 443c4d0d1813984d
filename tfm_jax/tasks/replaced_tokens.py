"""Replaced-token detection: a generator fills in words, a discriminator finds them.

Source: Clark et al. 2020, arXiv:2003.10555, section 2, and table 5 for other choices of
what is judged.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tfm_jax.data.batch import TextBatch
from tfm_jax.ops.losses import token_cross_entropy
from tfm_jax.tasks import tokens


def _all(batch):
    return (batch.segments > 0).astype(jnp.float32)


def _asked(batch):
    rows = jnp.arange(len(batch.tokens))[:, None]
    columns = jnp.where(batch.weights > 0, batch.places, batch.tokens.shape[1])
    return jnp.zeros(batch.tokens.shape).at[rows, columns].set(1.0, mode="drop")


class Detection(NamedTuple):
    """The task, of which ``judged(batch)`` tokens [B, T] the discriminator judges."""

    judged: Callable

    def example(self) -> TextBatch:
        """The smallest batch, for shapes only."""
        ones, one = np.ones((1, 2), np.int32), np.ones((1, 1), np.int32)
        return TextBatch(
            ones, ones, types=ones, labels=one, weights=np.ones((1, 1), np.float32),
            places=one,
        )  # fmt: skip

    def balance(self, batch: TextBatch):
        """Words asked for per token judged, of micro-batches [A, B, ...]."""
        judged = jnp.sum(jax.vmap(self.judged)(batch))
        return jnp.sum(batch.weights) / jnp.maximum(judged, 1.0)

    def loss_sum(
        self, apply, params, batch: TextBatch, *, rng=None, smoothing=0.0,
        auxiliary=50.0, balance, train: bool,
    ):  # fmt: skip
        """(loss sum in nats, number of words asked for).

        Divided by that number the loss is the generator's mean over words plus
        ``auxiliary`` times the discriminator's mean over the tokens it judges.

        Args:
            apply: ``apply(params, batch, rng=..., train=...)``, with ``words``
                [B, M, V], ``scores`` [B, T] and ``replaced`` [B, T], see
                ``models.electra.Sampled``.
            batch: ``TextBatch``, labels and weights [B, M] at places.
            rng: JAX key, of the samples too. smoothing: of the words' labels.
            balance: of all micro-batches.
        """
        found = apply(params, batch, rng=rng, train=train)
        loss, weight = token_cross_entropy(
            found.words, batch.labels, batch.weights, smoothing
        )
        of_tokens = jnp.sum(_cross_entropy(found) * self.judged(batch))
        return loss + auxiliary * balance * of_tokens, weight

    def eval_sums(self, apply, params, batch: TextBatch):
        """See `tokens.sums` for the generator; the discriminator's as in `scores`."""
        found = apply(params, batch, rng=None, train=False)
        judged, said = self.judged(batch), found.scores > 0
        return tokens.sums(found.words, batch.labels, batch.weights) | {
            "judged_nll": jnp.sum(_cross_entropy(found) * judged),
            "judged_right": jnp.sum((said == found.replaced) * judged),
            "judged": jnp.sum(judged),
            "replaced": jnp.sum(found.replaced * judged),
            "said": jnp.sum(said * judged),
            "found": jnp.sum((said & found.replaced) * judged),
        }

    def scores(self, totals, report) -> dict:
        """See `tokens.scores`, of the generator, and of the discriminator its loss.

        ``judged_nll`` (nats per token), ``judged_accuracy``, and ``precision`` and
        ``recall`` of the tokens it calls replaced; ``replaced`` is their true share.
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


ALL = Detection(_all)  # all tokens but padding
ASKED = Detection(_asked)  # those that the generator was asked for: "ELECTRA 15 %"


def _cross_entropy(found):
    labels = jax.lax.stop_gradient(found.replaced).astype(jnp.float32)
    return optax.losses.sigmoid_binary_cross_entropy(found.scores, labels)
