import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tfm_jax.ops.pooling import POOLS

REAL = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]], bool)
# of each row, the columns whose mean is the state
COLUMNS = {
    "first": ([0], [0], [0]),
    "last": ([2], [0], [3]),
    "mean": ([0, 1, 2], [0], [0, 1, 2, 3]),
}


@pytest.mark.parametrize("name", POOLS)
def test_a_state_is_that_of_the_real_tokens(name):
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    x[~REAL] = np.nan  # padding is never looked at
    wanted = [row[list(c)].mean(0) for row, c in zip(x, COLUMNS[name], strict=True)]
    np.testing.assert_allclose(POOLS[name](x, REAL), wanted, rtol=1e-6)


@pytest.mark.parametrize("name", POOLS)
def test_a_row_of_padding_has_a_finite_state_and_gradient(name):
    x = jnp.ones((1, 4, 5))
    state, grad = jax.value_and_grad(lambda x: POOLS[name](x, REAL[:1] & False).sum())(
        x
    )
    assert np.isfinite(state) and np.isfinite(grad).all()


def test_a_mean_is_summed_in_float32():
    x = jnp.ones((1, 1_000, 2), jnp.bfloat16)
    mean = POOLS["mean"](x, np.ones((1, 1_000), bool))
    assert mean.dtype == jnp.bfloat16
    np.testing.assert_array_equal(mean.astype(np.float32), 1.0)
