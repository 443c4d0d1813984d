"""TrainState: everything a resumed run needs, except where it stands in the data."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tfm_jax.optim import layerwise, plateau
from tfm_jax.train import spikes

INITIAL = 0.05  # of the moving average: where that share is worth a note


class TrainState(NamedTuple):
    """A pytree of arrays.

    Attributes:
        step: [] int32, train steps made; batch ``step`` is the next one.
        params: nested dict of float32 arrays.
        opt_state: of optax.
        ema: moving average of ``params``, or None if none is kept; of parameters that
            are frozen it has None.
        rng: [2] uint32, data of the root key; step s uses fold_in(root, s).
        skipped: [] int32, updates skipped for a loss or gradient that was not finite
            or were spikes.
        streak: [] int32, how many that were not finite were the last ones, without
            interruption.
        recent: ``spikes.Recent``, or None if nobody looks for spikes.
        plateau: ``plateau.Plateau``, or None if no evaluation cuts the rate.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    ema: Any
    rng: jax.Array
    skipped: jax.Array
    streak: jax.Array
    recent: Any = None
    plateau: Any = None


def init_state(
    params: Any,
    optimizer: optax.GradientTransformation,
    seed: int | jax.Array,
    *,
    ema: bool,
    freeze: str = "",
    watched: bool = False,
    annealed: bool = False,
) -> TrainState:
    """State before the first step; dropout's root key is independent of ``params``.

    Args: freeze: regular expression of the parameters of which no average is kept.
    """
    root = jax.random.fold_in(jax.random.key(seed), 1)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        ema=average_of(params, layerwise.frozen(freeze, params)) if ema else None,
        rng=jax.random.key_data(root),
        skipped=jnp.zeros((), jnp.int32),
        streak=jnp.zeros((), jnp.int32),
        recent=spikes.start() if watched else None,
        plateau=plateau.start() if annealed else None,
    )


def lag(cfg: Any) -> list[str]:
    """A note if the moving average of a whole run holds much of its initial values.

    Args: cfg: the ``train`` section.
    """
    share = cfg.ema_decay**cfg.total_steps
    if not cfg.ema_decay or share < INITIAL:
        return []
    return [f"{share:.0%} of what is scored are initial values (train.ema_decay)"]


def averaged(state: TrainState) -> Any:
    """The parameters to evaluate: the moving average where one is kept."""
    if state.ema is None:
        return state.params
    if not any(map(_is_none, jax.tree.leaves(state.ema, is_leaf=_is_none))):
        return state.ema
    return jax.tree.map(
        lambda mean, x: x if mean is None else mean,
        state.ema,
        state.params,
        is_leaf=_is_none,
    )


def average_of(params: Any, frozen: Any) -> Any:
    """A moving average that starts from ``params``: copies, None of what is frozen."""
    return jax.tree.map(lambda x, f: None if f else jnp.copy(x), params, frozen)


def moving(params: Any, ema: Any) -> Any:
    """``params``, None of those that ``ema`` keeps no average of."""
    return jax.tree.map(
        lambda mean, x: mean if mean is None else x,
        ema,
        params,
        is_leaf=_is_none,
    )


def _is_none(x):
    return x is None
