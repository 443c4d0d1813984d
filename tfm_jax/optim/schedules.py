"""Learning-rate schedules: linear warm-up, then one of a table of decays."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


class Schedule(NamedTuple):
    """``decay(step, warmup, total)`` -> factor in [0, 1], of update ``step`` from 1.

    Attributes:
        ends: it has decayed when ``total`` updates are made, so that a run with more
            of them follows another schedule from its first step on.
    """

    decay: Callable
    ends: bool = False


def _inverse_sqrt(step, warmup, total):
    start = jnp.maximum(warmup, 1.0)
    return jnp.sqrt(start / jnp.maximum(step, start))


def _cosine(step, warmup, total):
    return 0.5 * (1.0 + jnp.cos(jnp.pi * _progress(step, warmup, total)))


def _linear(step, warmup, total):
    return 1.0 - _progress(step, warmup, total)


def _linear_from_start(step, warmup, total):
    return 1.0 - _progress(step, 0.0, total)


def _constant(step, warmup, total):
    return jnp.ones_like(step)


def _progress(step, warmup, total):
    """Share of the decay that lies behind: by the updates made, ``step`` - 1.

    So the last update still has a rate, as in the released code of BERT and ELECTRA
    (``tf.train.polynomial_decay`` of a ``global_step`` from 0), GPT-1 and optax.
    """
    return jnp.clip((step - 1.0 - warmup) / jnp.maximum(total - warmup, 1.0), 0.0, 1.0)


SCHEDULES = {
    "inverse_sqrt": Schedule(_inverse_sqrt),  # Vaswani et al. 2017, equation 3
    # Loshchilov and Hutter 2017, arXiv:1608.03983, one cycle
    "cosine": Schedule(_cosine, ends=True),
    "linear": Schedule(_linear, ends=True),
    # decays while it warms up, as ELECTRA's released code (Clark et al. 2020)
    "linear_from_start": Schedule(_linear_from_start, ends=True),
    "constant": Schedule(_constant),
}


def learning_rate(
    name: str, *, peak: ArrayLike, warmup: int, total: int, final_fraction: float = 0.0
) -> Callable[[ArrayLike], jax.Array]:
    """``schedule(count)`` for optax, with ``count`` updates already made.

    Source: Vaswani et al. 2017, equation 3: with "inverse_sqrt" and a peak of
    (width * warmup)^-0.5 this is the paper's schedule. Deviates: the peak is a
    parameter of its own, so that width and warm-up can be varied without it.

    Args:
        name: a key of SCHEDULES.
        peak: largest rate, reached at update ``warmup``. warmup: updates; 0 for none.
        total: updates of the run. final_fraction: of the peak, where the decay ends:
            once ``total`` updates are made.
    """

    def schedule(count):
        step = jnp.asarray(count, jnp.float32) + 1.0
        warm = jnp.minimum(1.0, step / max(warmup, 1))
        decay = SCHEDULES[name].decay(step, float(warmup), float(total))
        return peak * warm * (final_fraction + (1.0 - final_fraction) * decay)

    return schedule
