"""Spikes: losses and gradient norms far above those of the last steps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

WINDOW = 128  # steps


class Recent(NamedTuple):
    """What the last WINDOW steps had, at the place step % WINDOW; NaN: nothing.

    Attributes:
        loss, grad_norm: [WINDOW] float32. spikes: [] int32, of the whole run.
    """

    loss: jax.Array
    grad_norm: jax.Array
    spikes: jax.Array


def start() -> Recent:
    """Before the first step."""
    nothing = jnp.full((WINDOW,), jnp.nan, jnp.float32)
    return Recent(nothing, nothing, jnp.zeros((), jnp.int32))


def watch(
    recent: Recent, step: jax.Array, loss: jax.Array, grad_norm: jax.Array, sigma: float
) -> tuple[jax.Array, Recent]:
    """(whether this step is a spike, ``Recent`` with it).

    One is whose loss or gradient norm lies more than ``sigma`` standard deviations
    above the mean of the last steps, skipped ones included, so that what lasts becomes
    what is usual; none is before WINDOW / 2 steps.

    Source: OLMo 2, arXiv:2501.00656, the released SkipStepOptimizer (128 steps, 6
    sigma), also in MaxText. Deviates: steps that are not finite are no part of it.
    """
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    spike = jnp.zeros((), bool)
    for name, value in (("loss", loss), ("grad_norm", grad_norm)):
        past = getattr(recent, name)
        enough = jnp.sum(jnp.isfinite(past)) >= WINDOW // 2
        above = value - jnp.nanmean(past) > sigma * jnp.nanstd(past, ddof=1)
        spike |= finite & enough & above
        now = jnp.where(finite, value, jnp.nan)
        recent = recent._replace(**{name: past.at[step % WINDOW].set(now)})
    return spike, recent._replace(spikes=recent.spikes + spike)
