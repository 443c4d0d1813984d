"""Plateau: the learning rate is cut when the validation loss gets no lower."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Plateau(NamedTuple):
    """What the evaluations so far say; a part of the training state.

    Attributes:
        step: [] int32, of the newest evaluation. best: [] float32, the lowest loss.
        stalled: [] int32, evaluations in a row, since the last cut, that were not
            lower than the best. factor: [] float32, of the learning rate.
    """

    step: jax.Array
    best: jax.Array
    stalled: jax.Array
    factor: jax.Array


def start() -> Plateau:
    """Before the first evaluation."""
    count = jnp.zeros((), jnp.int32)
    return Plateau(count, jnp.float32(jnp.inf), jnp.copy(count), jnp.float32(1))


def observe(cfg: Any, before: Plateau, step: Any, loss: Any) -> Plateau:
    """With the evaluation after ``step``; one that is seen already changes nothing.

    Source: Gehring et al. 2017, arXiv:1705.03122, section 4.2: once the validation
        perplexity stops improving, the rate is divided by 10. Deviates: there it is
        divided again after every epoch from then on, until it is below 1e-4, where
        training ends; here, as by fairseq's ``reduce_lr_on_plateau`` and torch's
        ``ReduceLROnPlateau`` (patience: ``cut_patience`` - 1, threshold: 0), whenever
        the loss stalls again, and training ends by ``train.stop_patience``.
    Args: cfg: of the optimizer. loss: nats; one that is not a number is not lower.
    """
    lower = loss < before.best
    stalled = jnp.where(lower, 0, before.stalled + 1)
    cut = stalled >= cfg.cut_patience
    after = Plateau(
        step,
        jnp.where(lower, loss, before.best),
        jnp.where(cut, 0, stalled),
        jnp.where(cut, cfg.cut_factor * before.factor, before.factor),
    )
    new = step > before.step
    return jax.tree.map(lambda now, then: jnp.where(new, now, then), after, before)
