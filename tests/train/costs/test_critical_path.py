"""Longest chains: what is known of recurrences, attention and branches."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from tfm_jax.train.costs.critical_path import longest_chain
from tfm_jax.train.costs.flops import Uncountable

W = jnp.ones((4, 4))


def recurrence(w, x):
    def step(h, x):
        h = jnp.tanh(h @ w + x)
        return h, h

    return lax.scan(step, jnp.ones(4), x @ w)[1]


def attention(w, x):
    return jax.nn.softmax((x @ w) @ x.T) @ x


def each_row(w, x):
    return lax.map(lambda row: row @ w @ w, x)


@pytest.mark.parametrize("n", [4, 9])
@pytest.mark.parametrize(
    "function, expected",
    [
        (recurrence, lambda n: n),  # products of the inputs are made meanwhile
        (attention, lambda n: 3),  # keys, logits, values
        (each_row, lambda n: 2),  # a loop whose steps do not wait
    ],
)
def test_only_a_recurrence_waits_for_every_position(function, expected, n):
    assert longest_chain(jax.jit(function), W, jnp.ones((n, 4))) == expected(n)


def test_gradients_go_back_the_same_way():
    def loss(w, x):
        return recurrence(w, x).sum()

    chains = [longest_chain(jax.grad(loss), W, jnp.ones((n, 4))) for n in (8, 16)]
    assert chains[1] - chains[0] == 16  # 8 steps more, there and back


def test_products_of_the_same_thing_do_not_wait():
    assert longest_chain(lambda x: (x @ W) @ (W @ x), W) == 2


def test_the_longest_branch_counts():
    def either(x):
        return lax.cond(x[0, 0] > 0, lambda x: x @ W, lambda x: x @ W @ W @ W, x)

    assert longest_chain(either, W) == 3


def test_a_loop_of_unknown_length_is_refused():
    def grow(x):
        return lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ W, x)

    with pytest.raises(Uncountable, match="while"):
        longest_chain(grow, W)
