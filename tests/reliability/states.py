"""A small training state with everything that makes a round trip hard."""

import jax.numpy as jnp
import numpy as np
import optax

from tfm_jax.train.state import TrainState, init_state

OPTIMIZER = optax.chain(
    optax.clip_by_global_norm(1.0),  # EmptyState
    optax.masked(optax.adamw(1e-3), {"encoder": True, "head": False}),  # MaskedNode
    optax.scale_by_schedule(lambda step: 0.1),
)


def make_state(step: int = 0, *, width: int = 4, ema: bool = True) -> TrainState:
    """Every number depends on ``step``, so a mix of two checkpoints is noticed."""
    values = np.random.default_rng(step).normal(size=(width, 8)).astype(np.float32)
    params = {
        "encoder": {"kernel": jnp.asarray(values), "scale": jnp.asarray(values[0])},
        "head": {"kernel": jnp.asarray(values.T, jnp.bfloat16), "none": {}},
    }
    state = init_state(params, OPTIMIZER, seed=step, ema=ema)
    return state._replace(step=jnp.int32(step), skipped=jnp.int32(3 * step))
