"""Learning-rate schedules: linear warm-up, then one of a table of decays."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


class Schedule(NamedTuple):
    """``decay(step, course)`` -> factor in [0, 1], of update ``step`` from 1.

    Attributes:
        ends: it has decayed when ``total`` updates are made, so that a run with more
            of them follows another schedule from its first step on.
        reads: fields of the section that have an effect, of those that only some
            schedules read.
        watches: the rate is cut when the validation loss stalls too, see ``plateau``.
    """

    decay: Callable
    ends: bool = False
    reads: tuple[str, ...] = ("final_lr_fraction",)
    watches: bool = False


class Course(NamedTuple):
    """Lengths of a run's schedule in updates, and the factor of each cut."""

    warmup: float
    total: float
    cut_factor: float = 0.5
    cut_after: int = 50_000
    cut_every: int = 10_000


def _inverse_sqrt(step, course):
    start = jnp.maximum(course.warmup, 1.0)
    return jnp.sqrt(start / jnp.maximum(step, start))


def _cosine(step, course):
    progress = _progress(step, course.warmup, course.total)
    return 0.5 * (1.0 + jnp.cos(jnp.pi * progress))


def _linear(step, course):
    return 1.0 - _progress(step, course.warmup, course.total)


def _linear_from_start(step, course):
    return 1.0 - _progress(step, 0.0, course.total)


def _step_decay(step, course):
    since = step - 1.0 - course.cut_after
    cuts = jnp.maximum(jnp.floor(since / course.cut_every) + 1.0, 0.0)
    return course.cut_factor**cuts


def _constant(step, course):
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
    "constant": Schedule(_constant, reads=()),
    # Luong et al. 2015, arXiv:1508.04025, section 4.1: halved every epoch after 5
    "step_decay": Schedule(
        _step_decay, reads=("cut_factor", "cut_after_steps", "cut_every_steps")
    ),
    # Gehring et al. 2017, arXiv:1705.03122, section 4.2
    "plateau": Schedule(_constant, reads=("cut_factor", "cut_patience"), watches=True),
}


def learning_rate(
    name: str,
    *,
    peak: ArrayLike,
    warmup: int,
    total: int,
    final_fraction: float = 0.0,
    **cuts: Any,
) -> Callable[[ArrayLike], jax.Array]:
    """``schedule(count)`` for optax, with ``count`` updates already made.

    Source: Vaswani et al. 2017, equation 3: with "inverse_sqrt" and a peak of
    (width * warmup)^-0.5 this is the paper's schedule. Deviates: the peak is a
    parameter of its own, so that width and warm-up can be varied without it.

    Args:
        name: a key of SCHEDULES.
        peak: largest rate, reached at update ``warmup``. warmup: updates; 0 for none.
        total: updates of the run. final_fraction: of the peak, where the decay ends:
            once ``total`` updates are made. cuts: fields of ``Course``.
    """
    row, course = SCHEDULES[name], Course(float(warmup), float(total), **cuts)
    final = final_fraction if "final_lr_fraction" in row.reads else 0.0

    def schedule(count):
        step = jnp.asarray(count, jnp.float32) + 1.0
        warm = jnp.minimum(1.0, step / max(warmup, 1))
        return peak * warm * (final + (1.0 - final) * row.decay(step, course))

    return schedule


def unreached(cfg: Any, *, total: int, every: int) -> list[str]:
    """What of its schedule a run of ``total`` updates never comes to, a note each.

    Args: cfg: of the optimizer. every: updates from one evaluation to the next.
    """
    row, notes = SCHEDULES[cfg.schedule], []
    if cfg.warmup_steps >= total:
        notes.append(f"all steps are warm-up (optim.warmup_steps={cfg.warmup_steps})")
    if "cut_after_steps" in row.reads and cfg.cut_after_steps >= total:
        notes.append(
            f"the rate is never cut (optim.cut_after_steps={cfg.cut_after_steps})"
        )
    # the first evaluation is lower than none; after the last one nothing is learnt
    if row.watches and (cfg.cut_patience + 1) * every >= total:
        notes.append(
            f"the rate is never cut (optim.cut_patience={cfg.cut_patience}, "
            f"eval.every_steps={every})"
        )
    return notes
