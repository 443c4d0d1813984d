"""Scans: their gradients are those of ``lax.scan``, summed in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tfm_jax.ops.recurrence import CELLS, scan

T, B, H = 400, 2, 8


def body(product, constants, states, x):
    bias, shift = constants
    gates = x + shift.astype(x.dtype)
    y = product("recurrent", states[0]).astype(jnp.float32)
    states = CELLS["gru"].step(gates.astype(jnp.float32), y, bias, states)
    return states, states[0]


def inputs():
    keys = jax.random.split(jax.random.key(0), 4)
    draw = jax.random.normal
    kernel, bias = 0.3 * draw(keys[0], (H, 3 * H)), draw(keys[1], (H,))
    return kernel, bias, draw(keys[2], (B, 3 * H)), draw(keys[3], (T, B, 3 * H))


def loss(run, kernel, bias, shift, xs):
    first = (jnp.zeros((B, H)),)
    _, ys = run(body, {"recurrent": kernel}, (bias, shift), first, xs)
    return jnp.sum(jnp.sin(ys * jnp.arange(1, T + 1)[:, None, None]))


def ours(body, kernels, constants, carry, xs):
    return scan(body, kernels, constants, carry, xs, jnp.float32)


def plain(body, kernels, constants, carry, xs):
    def step(carry, x):
        return body(lambda name, y: y @ kernels[name], constants, carry, x)

    return jax.lax.scan(step, carry, xs)


@pytest.mark.parametrize("argument", range(4), ids=("kernel", "bias", "shift", "xs"))
def test_gradients_are_those_of_a_plain_scan(argument):
    gradient, wanted = (
        jax.grad(loss, 1 + argument)(run, *inputs()) for run in (ours, plain)
    )
    np.testing.assert_allclose(
        gradient, wanted, rtol=1e-3, atol=1e-3 * abs(wanted).max()
    )


def test_gradients_of_many_steps_are_not_lost_in_bfloat16():
    """Of something that is added in each of T steps: T, where 1 + 256 is 256."""

    def count(shift):
        def add(product, constants, carry, x):
            return carry, constants.astype(jnp.float32) + x

        xs = jnp.zeros((1_000, 1))
        return jnp.sum(scan(add, {}, shift, (), xs, jnp.bfloat16)[1])

    assert jax.grad(count)(jnp.ones(1, jnp.bfloat16)) == 1_000


def test_gradients_of_a_table_are_those_of_all_that_is_looked_up():
    """Also beyond its ends, where the first and the last row are taken."""

    def look_up(product, constants, carry, x):
        carry = jnp.sin(carry + product("table", x))
        return carry, carry

    def loss(table, run):
        xs = jnp.arange(30).reshape(10, 3) % 8 - 1
        return jnp.sum(run(look_up, {"table": table}, (), jnp.zeros((3, H)), xs)[1])

    def taken(body, kernels, constants, carry, xs):
        rows = kernels["table"][jnp.clip(xs, 0, 4)]
        return jax.lax.scan(
            lambda carry, x: body(lambda *_: x, constants, carry, x), carry, rows
        )

    table = jax.random.normal(jax.random.key(0), (5, H))
    gradient, wanted = (jax.grad(loss)(table, run) for run in (ours, taken))
    np.testing.assert_allclose(gradient, wanted, rtol=1e-5)
