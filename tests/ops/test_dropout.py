import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from tfm_jax.ops.dropout import dropout

ONES = jnp.ones((64, 32, 48))
RUN = jax.jit(dropout)
LIMIT = 1e-6  # probability that a right implementation fails one comparison


def kept(rate, seed, x=ONES):
    return np.asarray(RUN(x, rate, jax.random.key(seed))) > 0


def likely(successes, n, p):
    return scipy.stats.binomtest(int(successes), int(n), p).pvalue > LIMIT


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_the_rate_is_within_binomial_bounds(rate):
    for seed in range(3):
        keep = kept(rate, seed)
        assert likely(keep.sum(), keep.size, 1 - rate)


def test_every_slice_along_every_axis_keeps_the_rate():
    keep = kept(0.3, 0)
    for axis in range(3):
        counts = keep.sum(tuple(other for other in range(3) if other != axis))
        n = keep.size // len(counts)
        spread = np.sum((counts - 0.7 * n) ** 2 / (n * 0.7 * 0.3))
        assert LIMIT < scipy.stats.chi2.sf(spread, len(counts)) < 1 - LIMIT


def test_elements_and_keys_are_independent():
    """Two elements are kept together as often as two coins show heads together."""
    first, second = kept(0.3, 0), kept(0.3, 1)
    pairs = [(first, second)]
    for axis in range(3):
        for lag in (1, 2, 16):
            ahead = np.moveaxis(first, axis, 0)
            pairs.append((ahead[lag:], ahead[:-lag]))
    for a, b in pairs:
        assert likely((a & b).sum(), a.size, 0.49)


def test_neighbouring_folds_of_one_key_are_independent():
    """Layers and steps draw from ``fold_in`` of small numbers."""
    masks = [
        np.asarray(RUN(ONES[0], 0.5, jax.random.fold_in(jax.random.key(0), i))) > 0
        for i in range(8)
    ]
    for i in range(8):
        for j in range(i):
            assert likely((masks[i] & masks[j]).sum(), masks[i].size, 0.25)


def test_the_expectation_is_the_input():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8,)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 4000)
    mean = jax.jit(jax.vmap(lambda key: dropout(x, 0.3, key)))(keys).mean(0)
    error = np.abs(x) * np.sqrt(0.3 / 0.7 / 4000)
    assert (np.abs(mean - x) < 5 * error).all()


def test_a_population_may_vary_the_rate():
    rates, key = jnp.array([0.0, 0.2, 0.7]), jax.random.key(3)
    found = jax.jit(jax.vmap(lambda rate: dropout(ONES, rate, key)))(rates)
    for rate, values in zip(rates, found, strict=True):
        np.testing.assert_allclose(values, RUN(ONES, rate, key), rtol=1e-6)
    np.testing.assert_array_equal(found[0], ONES)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
def test_the_gradient_is_dropped_where_the_value_is(wrap):
    x = jnp.asarray(np.random.default_rng(1).normal(size=(7, 5)), jnp.float32)
    run = wrap(lambda x: dropout(x, 0.4, jax.random.key(4)))
    grad = jax.grad(lambda x: run(x).sum())(x)
    np.testing.assert_allclose(grad, np.where(run(x) != 0, 1 / 0.6, 0), rtol=1e-6)


def test_the_dtype_and_shape_stay():
    for shape in ((), (3,), (2, 1, 3, 1)):
        y = jax.eval_shape(
            dropout, jnp.ones(shape, jnp.bfloat16), 0.5, jax.random.key(0)
        )
        assert (y.shape, y.dtype) == (shape, jnp.bfloat16)
