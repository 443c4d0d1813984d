"""One optimizer update as a pure function of (state, batch)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tfm_jax.mesh import ALLREDUCES
from tfm_jax.train import spikes
from tfm_jax.train.state import TrainState, moving


def make_gradients(
    loss_sum: Callable,
    auxiliary_scale: Callable | None = None,
    gradient_allreduce: str = "per_array",
) -> Callable:
    """Builds ``gradients(state, batch) -> (loss, weight, gradients)``.

    The objective is (sum of losses) / (sum of weights) over all micro-batches, so that
    neither accumulation nor padding nor the number of devices changes it.

    Args:
        loss_sum: ``loss_sum(params, batch, rng=...) -> (loss sum, weight sum)``, nats.
        auxiliary_scale: what a second loss is multiplied with so that it too is divided
            once over all micro-batches, of the whole batch; ``loss_sum`` takes it then.
        gradient_allreduce: a key of ``mesh.ALLREDUCES``.
    Every array of the batch has a leading axis of micro-batches, [A, B, ...].
    """
    grad_of_sum = jax.value_and_grad(loss_sum, has_aux=True)

    def sums(params, rng, batch, whole):
        def of_micro(index, micro):
            key = jax.random.fold_in(rng, index)
            (loss, weight), grads = grad_of_sum(params, micro, rng=key, **whole)
            return loss, weight, grads

        def add(sums, indexed):
            return jax.tree.map(jnp.add, sums, of_micro(*indexed)), None

        count = jax.tree.leaves(batch)[0].shape[0]
        if count == 1:
            return of_micro(0, jax.tree.map(lambda x: x[0], batch))
        # one copy of the model in the program, however many micro-batches
        nothing = jnp.float32(0), jnp.float32(0), jax.tree.map(jnp.zeros_like, params)
        return jax.lax.scan(add, nothing, (jnp.arange(count), batch))[0]

    of_all_devices = ALLREDUCES[gradient_allreduce](sums)

    def gradients(state: TrainState, batch: Any) -> tuple:
        root = jax.random.wrap_key_data(state.rng)
        rng = jax.random.fold_in(root, state.step)  # resume-safe: no rng to carry
        whole = {}
        if auxiliary_scale is not None:
            whole["auxiliary_scale"] = auxiliary_scale(batch)
        loss, weight, grads = of_all_devices(state.params, rng, batch, whole)
        scale = 1.0 / jnp.maximum(weight, 1.0)
        return loss * scale, weight, jax.tree.map(lambda g: g * scale, grads)

    return gradients


def make_train_step(
    gradients: Callable,
    optimizer: optax.GradientTransformation,
    schedule: Callable,
    *,
    ema_decay: float = 0.0,
    skip_limit: int,
    skip_sigma: float = 0.0,
) -> Callable:
    """Builds ``train_step(state, batch) -> (state, metrics)``, not yet jitted.

    An update whose loss or gradient is not finite is skipped and counted; once
    ``skip_limit`` were skipped in a row all are, until somebody looks. So is a spike of
    more than ``skip_sigma`` standard deviations, if the state looks for spikes.

    Args:
        gradients: of `make_gradients`.
        optimizer: optax transformation, told ``grad_norm`` if it asks for it.
        schedule: its learning rate, for the log; the state may have a factor of it.
        ema_decay: of the moving average of parameters, used if the state keeps one.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def train_step(state: TrainState, batch: Any) -> tuple[TrainState, dict]:
        loss, weight, grads = gradients(state, batch)
        grad_norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        sound, recent = finite & (state.streak < skip_limit), state.recent
        good = sound
        if recent is not None:
            spike, recent = spikes.watch(
                recent, state.step, loss, grad_norm, skip_sigma
            )
            good &= ~spike

        def update(params, opt_state, ema):
            updates, opt_state = optimizer.update(
                grads, opt_state, params, grad_norm=grad_norm
            )
            if state.plateau is not None:  # updates are proportional to the rate
                updates = optax.tree.scale(state.plateau.factor, updates)
            params = optax.apply_updates(params, updates)
            if ema is not None:
                now = moving(params, ema)
                ema = optax.incremental_update(now, ema, 1.0 - ema_decay)
            return params, opt_state, ema

        # not by jnp.where: XLA on CPUs would copy the moments it selects from
        old = state.params, state.opt_state, state.ema
        params, opt_state, ema = jax.lax.cond(good, update, lambda *old: old, *old)
        metrics = {
            "loss": loss,
            "tokens": weight,
            "grad_norm": grad_norm,
            "learning_rate": schedule(state.step - state.skipped),
            "skipped": state.skipped + ~good,
            "streak": (state.streak + 1) * ~sound,
        }
        if recent is not None:
            metrics["spikes"] = recent.spikes
        if state.plateau is not None:
            metrics["learning_rate"] *= state.plateau.factor
        state = TrainState(
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            ema=ema,
            rng=state.rng,
            skipped=metrics["skipped"],
            streak=metrics["streak"],
            recent=recent,
            plateau=state.plateau,
        )
        return state, metrics

    return train_step
