import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.layers.weights import normal
from tests.models.tiny import V, rows, sentences
from tfm_jax.objectives import translation
from tfm_jax.ops.dropout import dropout
from tfm_jax.runs.storage import arrays, checkpoint
from tfm_jax.runs.storage.checkpoint import Checkpointer
from tfm_jax.train import spikes
from tfm_jax.train.state import TrainState, averaged, init_state
from tfm_jax.train.step import make_gradients, make_train_step

# sentences of very different lengths: a mean of means would not do
BATCH = rows(sentences((2,) * 4, (1, 6, 2, 5)), 2, 6)
OPTIMIZER = optax.adam(1e-2)
PARAMS = {"table": normal(0, V, V)}


def apply(params, batch, *, rng, train):
    """A bigram model of the target with dropout on its logits."""
    logits = jnp.asarray(params["table"])[batch.target_inputs]
    return logits if rng is None else dropout(logits, 0.5, rng)


def loss_sum(params, batch, *, rng, drops=False, shift=0.0):
    rng = rng if drops else None
    total, weight = translation.loss_sum(
        apply, params, batch, rng=rng, smoothing=0.1, train=True
    )
    return total + shift * jnp.sum(params["table"]), weight


def divided(batch, micro):
    """[A, B / A, ...] micro-batches."""
    return jax.tree.map(lambda x: x.reshape(micro, -1, *x.shape[1:]), batch)


def stepper(loss=loss_sum, optimizer=OPTIMIZER, ema_decay=0.0, **options):
    return make_train_step(
        make_gradients(functools.partial(loss, **options)),
        optimizer,
        lambda updates: 0.1 * updates,
        ema_decay=ema_decay,
        skip_limit=3,
    )


def start(ema=False):
    return init_state(PARAMS, OPTIMIZER, 0, ema=ema)


def close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


@pytest.fixture(scope="module")
def step():
    return jax.jit(stepper())


@pytest.mark.parametrize("micro", [2, 4])
def test_micro_batches_give_the_update_of_the_whole_batch(step, micro):
    """The objective is a mean over tokens, wherever the batch is cut."""
    state, metrics = step(start(), divided(BATCH, 1))
    again, found = step(start(), divided(BATCH, micro))
    close(again, state, atol=1e-6)
    close(found, metrics, rtol=1e-5)
    assert metrics["tokens"] == 14


def test_rows_of_padding_change_nothing(step):
    padded = jax.tree.map(lambda x: np.concatenate([x, 0 * x]), BATCH)
    close(
        step(start(), divided(padded, 1)), step(start(), divided(BATCH, 1)), atol=1e-6
    )


def test_loss_and_gradient_norm_are_those_of_the_mean(step):
    _, metrics = step(start(), divided(BATCH, 1))

    def mean(params):
        total, weight = loss_sum(params, BATCH, rng=None)
        return total / weight

    loss, grad = jax.value_and_grad(mean)(PARAMS)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
    np.testing.assert_allclose(metrics["grad_norm"], optax.tree.norm(grad), rtol=1e-5)
    assert metrics["learning_rate"] == 0.0  # of the first update


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_update_that_is_not_finite_is_skipped_and_counted(bad):
    """Parameters, optimizer and average keep every bit; the next batch is taken."""

    def poisoned(params, batch, *, rng):
        shift = jnp.where(batch.source[0, 0] == 9, bad, 0)
        return loss_sum(params, batch, rng=rng, shift=shift)

    def with_first(token):
        source = BATCH.source.copy()
        source[0, 0] = token
        return divided(BATCH._replace(source=source), 1)

    step = jax.jit(stepper(poisoned, ema_decay=0.9))
    good, _ = step(start(ema=True), with_first(4))
    state, metrics = step(good, with_first(9))
    kept = TrainState._fields[1:5]
    for name in kept:
        jax.tree.map(
            np.testing.assert_array_equal, getattr(state, name), getattr(good, name)
        )
    assert (state.step, state.skipped, state.streak) == (2, 1, 1)
    assert (metrics["skipped"], metrics["streak"]) == (1, 1)
    state, _ = step(state, with_first(9))
    assert (state.skipped, state.streak) == (2, 2)
    state, metrics = step(state, with_first(4))
    assert (state.step, state.skipped, state.streak) == (4, 2, 0)
    assert metrics["learning_rate"] == np.float32(0.1)  # updates made, not steps
    assert np.abs(state.params["table"] - good.params["table"]).max() > 0


def test_after_too_many_skips_in_a_row_nothing_moves_any_more(step):
    """So the state from before the divergence can be looked at."""
    batch = divided(BATCH, 1)
    state, metrics = step(start()._replace(streak=jnp.int32(3)), batch)
    jax.tree.map(np.testing.assert_array_equal, state.params, start().params)
    assert (state.streak, metrics["streak"], state.step) == (4, 4, 1)
    state, _ = step(start()._replace(streak=jnp.int32(2)), batch)
    assert state.streak == 0


def test_a_spike_is_skipped_counted_and_leaves_the_state_alone():
    """train.skip_sigma: of loss or gradient norm, above the mean of the last steps."""
    noise = 1 + 0.1 * normal(3, 300)

    def gradients(state, batch):  # of a loss whose numbers are the batch
        loss, norm = batch
        return loss, jnp.float32(1), {"table": jnp.zeros((V, V)).at[0, 0].set(norm)}

    options = dict(skip_limit=3, skip_sigma=6.0)
    step = jax.jit(make_train_step(gradients, OPTIMIZER, jnp.float32, **options))
    state, kept = init_state(PARAMS, OPTIMIZER, 0, ema=False, watched=True), 0
    state, _ = step(state, (1.0, 100.0))  # nothing is known yet
    for i in range(150):
        state, metrics = step(state, (noise[i], noise[-i]))
        kept += 1
    assert (metrics["spikes"], state.skipped) == (0, 0)
    for count, bad in enumerate(((100.0, 1.0), (1.0, 100.0)), 1):
        after, metrics = step(state, bad)
        for name in TrainState._fields[1:5]:
            jax.tree.map(
                np.testing.assert_array_equal,
                getattr(after, name),
                getattr(state, name),
            )
        assert (metrics["spikes"], metrics["skipped"]) == (count, count)
        assert metrics["streak"] == 0 and after.step == state.step + 1
        state, _ = step(after, (1.0, 1.0))
        assert state.skipped == count
    down, metrics = step(state, (-100.0, 0.0))  # what falls is no spike
    assert metrics["spikes"] == 2
    worse, metrics = step(state, (np.nan, 1.0))
    assert (metrics["spikes"], metrics["streak"], metrics["skipped"]) == (2, 1, 3)
    for _ in range(8):  # what lasts becomes what is usual
        state, metrics = step(state, (100.0, 1.0))
    assert metrics["spikes"] < 8 and metrics["streak"] == 0


def test_a_state_that_looks_for_no_spikes_has_no_place_for_them():
    """So that checkpoints from before fit it."""
    watched = arrays.leaves(init_state(PARAMS, OPTIMIZER, 0, ema=False, watched=True))
    names = {name for name in watched if not name.startswith("recent/")}
    assert arrays.leaves(start()).keys() == names < watched.keys()


def test_what_the_last_steps_had_is_saved_and_restored(tmp_path):
    state = init_state(PARAMS, OPTIMIZER, 0, ema=False, watched=True)
    _, recent = spikes.watch(state.recent, state.step, 2.0, 3.0, 6.0)
    state = state._replace(recent=recent)
    with Checkpointer(tmp_path, checkpoint.Config()) as checkpoints:
        checkpoints.save(0, state, wait=True)
        again = checkpoints.restore(0, jax.eval_shape(lambda: state))
    jax.tree.map(np.testing.assert_array_equal, again, state)
    assert (again.recent.loss[0], again.recent.grad_norm[0]) == (2.0, 3.0)


def test_the_moving_average_follows_its_formula():
    step, batch = jax.jit(stepper(ema_decay=0.75)), divided(BATCH, 1)
    state, wanted = start(ema=True), PARAMS["table"]
    for _ in range(3):
        state, _ = step(state, batch)
        wanted = 0.75 * wanted + 0.25 * np.asarray(state.params["table"])
    np.testing.assert_allclose(state.ema["table"], wanted, rtol=1e-5)
    assert averaged(state) is state.ema
    assert averaged(start()) is not None
    assert start().ema is None


def test_dropout_depends_on_seed_step_and_micro_batch_alone():
    """So a resumed run draws what the uninterrupted one would have drawn."""
    step, batch = jax.jit(stepper(drops=True)), divided(BATCH, 2)
    state, first = step(start(), batch)
    again, metrics = step(start(), batch)
    jax.tree.map(np.testing.assert_array_equal, (again, metrics), (state, first))
    _, later = step(start()._replace(step=jnp.int32(1)), batch)
    assert later["loss"] != first["loss"]
    other = init_state(PARAMS, OPTIMIZER, 1, ema=False)
    assert step(other, batch)[1]["loss"] != first["loss"]
    halves = jax.tree.map(lambda x: np.repeat(x[:1], 2, 0), batch)
    alone = jax.tree.map(lambda x: x[:1], batch)
    assert step(start(), halves)[1]["loss"] != step(start(), alone)[1]["loss"]


def test_a_population_of_seeds_and_learning_rates_trains_in_one_program():
    """``vmap`` over states, with the rate in the optimizer's state."""
    optimizer = optax.inject_hyperparams(optax.sgd)(0.1)
    step = stepper(optimizer=optimizer)
    states = []
    for seed, rate in enumerate((0.1, 1.0)):
        state = init_state(PARAMS, optimizer, seed, ema=False)
        state.opt_state.hyperparams["learning_rate"] = jnp.float32(rate)
        states.append(state)
    batch = divided(BATCH, 1)
    population = jax.tree.map(lambda *x: jnp.stack(x), *states)
    together, _ = jax.jit(jax.vmap(step, (0, None)))(population, batch)
    for i, state in enumerate(states):
        alone, _ = step(state, batch)
        close(
            jax.tree.map(lambda x, i=i: x[i], together).params, alone.params, atol=1e-6
        )
