"""One optimizer update as a pure function of (state, batch)."""

import jax
import jax.numpy as jnp
import optax

from tfm_jax.train.state import TrainState


def make_train_step(loss_sum, optimizer, schedule, *, ema_decay: float = 0.0):
    """Builds ``train_step(state, batch) -> (state, metrics)``, not yet jitted.

    The objective is (sum of losses) / (sum of weights) over all micro-batches, so that
    neither accumulation nor padding nor the number of devices changes it. An update
    whose loss or gradient is not finite is skipped and counted.

    Args:
        loss_sum: ``loss_sum(params, batch, rng=...) -> (loss sum, weight sum)``, nats.
        optimizer: optax transformation. schedule: its learning rate, for the log.
        ema_decay: of the moving average of parameters, used if the state keeps one.
    Every array of the batch has a leading axis of micro-batches, [A, B, ...].
    """
    grad_of_sum = jax.value_and_grad(loss_sum, has_aux=True)

    def accumulated(params, batch, rng):
        def one(carry, indexed):
            index, micro = indexed
            (loss, weight), grads = grad_of_sum(
                params, micro, rng=jax.random.fold_in(rng, index)
            )
            return jax.tree.map(jnp.add, carry, (loss, weight, grads)), None

        count = jax.tree.leaves(batch)[0].shape[0]
        first = jax.tree.map(lambda x: x[0], batch)
        (loss, weight), grads = grad_of_sum(
            params, first, rng=jax.random.fold_in(rng, 0)
        )
        sums = (loss, weight, grads)
        if count > 1:
            rest = jax.tree.map(lambda x: x[1:], batch)
            sums, _ = jax.lax.scan(one, sums, (jnp.arange(1, count), rest))
        return sums

    def train_step(state: TrainState, batch):
        root = jax.random.wrap_key_data(state.rng)
        rng = jax.random.fold_in(root, state.step)  # resume-safe: no rng to carry
        loss, weight, grads = accumulated(state.params, batch, rng)
        scale = 1.0 / jnp.maximum(weight, 1.0)
        loss, grads = loss * scale, jax.tree.map(lambda g: g * scale, grads)
        grad_norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            ema = optax.incremental_update(params, ema, 1.0 - ema_decay)

        def keep(new, old):
            return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)

        bad = jnp.logical_not(finite).astype(jnp.int32)
        metrics = {
            "loss": loss,
            "tokens": weight,
            "grad_norm": grad_norm,
            "learning_rate": schedule(state.step - state.skipped),
            "skipped": state.skipped + bad,
            "streak": (state.streak + 1) * bad,
        }
        state = TrainState(
            step=state.step + 1,
            params=keep(params, state.params),
            opt_state=keep(opt_state, state.opt_state),
            ema=keep(ema, state.ema),
            rng=state.rng,
            skipped=metrics["skipped"],
            streak=metrics["streak"],
        )
        return state, metrics

    return train_step
