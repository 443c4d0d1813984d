"""Joint training: a generator fills in words, a discriminator judges what it wrote.

Source: Clark et al. 2020, arXiv:2003.10555, section 2; table 5 for what is judged.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from tfm_jax.data.batch import MaskedBatch
from tfm_jax.objectives import tokens
from tfm_jax.ops.losses import token_cross_entropy


class Joint(NamedTuple):
    """A task, by what the discriminator is asked.

    Attributes:
        judged: ``judged(batch)`` -> weights of what it judges, [B, T] or [B, M].
        losses: ``losses(found)`` -> nats, of that shape; found: output of the model.
        sums: ``sums(found, judged)`` -> sums to evaluate it by.
        means: ``means(totals)`` -> scores of it.
    """

    judged: Callable
    losses: Callable
    sums: Callable
    means: Callable

    def example(self) -> MaskedBatch:
        """The smallest batch, for shapes only."""
        ones, one = np.ones((1, 2), np.int32), np.ones((1, 1), np.int32)
        return MaskedBatch(
            ones,
            ones,
            types=ones,
            labels=one,
            weights=np.ones((1, 1), np.float32),
            target_positions=one,
        )

    def auxiliary_scale(self, batch: MaskedBatch) -> ArrayLike:
        """Masked words per token judged, of micro-batches [A, B, ...]."""
        judged = jnp.sum(jax.vmap(self.judged)(batch))
        return jnp.sum(batch.weights) / jnp.maximum(judged, 1.0)

    def loss_sum(
        self,
        apply: Callable,
        params: Mapping[str, Any],
        batch: MaskedBatch,
        *,
        rng: jax.Array | None = None,
        smoothing: float = 0.0,
        auxiliary: float = 50.0,
        auxiliary_scale: ArrayLike,
        train: bool,
    ) -> tuple[jax.Array, jax.Array]:
        """(loss sum in nats, number of masked words).

        Divided by that number the loss is the generator's mean over words plus
        ``auxiliary`` times the discriminator's mean over the tokens it judges.

        Args:
            apply: ``apply(params, batch, rng=..., train=...)``, with ``words``
                [B, M, V] and what ``losses`` takes.
            batch: ``MaskedBatch``.
            rng: JAX key, of the samples too. smoothing: of the words' labels.
            auxiliary_scale: of all micro-batches.
        """
        found = apply(params, batch, rng=rng, train=train)
        loss, weight = token_cross_entropy(
            found.lm_logits, batch.labels, batch.weights, smoothing
        )
        of_tokens = jnp.sum(self.losses(found) * self.judged(batch))
        return loss + auxiliary * auxiliary_scale * of_tokens, weight

    def eval_sums(
        self, apply: Callable, params: Mapping[str, Any], batch: MaskedBatch
    ) -> dict[str, jax.Array]:
        """See `tokens.sums` for the generator; ``sums`` for the discriminator."""
        found = apply(params, batch, rng=None, train=False)
        words = tokens.sums(found.lm_logits, batch.labels, batch.weights)
        return words | self.sums(found, self.judged(batch))

    def scores(self, totals: Mapping[str, Any], report: Mapping[str, Any]) -> dict:
        """See `tokens.scores`, of the generator; and ``means`` of the discriminator."""
        del report
        return tokens.scores(totals) | self.means(totals)


def every_token(batch: MaskedBatch) -> jax.Array:
    """All tokens but padding, [B, T]."""
    return (batch.segments > 0).astype(jnp.float32)
