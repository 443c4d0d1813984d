from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import linen as nn
from flax.errors import ScopeParamShapeError

from tests.layers.weights import normal, random_params
from tfm_jax.layers.linear import INITS, Linear, constrain, parameter

# TensorFlow's truncated_normal(0.02) too is cut at two deviations and not rescaled
TRUNCATED = 0.02 * scipy.stats.truncnorm(-2, 2).std()


def test_several_axes_go_in_and_out():
    x = normal(0, 2, 3, 4, 5)
    module = Linear((6, 7), ("heads", "kv", "a", "b"), "glorot", inputs=2)
    params = random_params(module, x)
    y = module.apply({"params": params}, x)
    wanted = np.einsum("bthk,hkde->btde", x, params["kernel"]) + params["bias"]
    np.testing.assert_allclose(y, wanted, atol=1e-5)


def kernel(initializer, features=(8, 50), inputs=(300,)):
    module = Linear(features, ("embed", "heads", "kv"), initializer)
    variables = module.init(jax.random.key(0), jnp.ones((1, *inputs)))
    params = nn.unbox(variables)["params"]
    np.testing.assert_array_equal(params["bias"], 0.0)
    return np.asarray(params["kernel"]).reshape(-1)


def test_glorot_takes_heads_for_one_matrix():
    """Range sqrt(6 / (fan in + fan out)) of the whole map, not of one head."""
    limit = np.sqrt(6 / (300 + 400))
    uniform = scipy.stats.uniform(-limit, 2 * limit)
    assert scipy.stats.kstest(kernel("glorot"), uniform.cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("lecun", 300**-0.5),
        ("normal_fan_in", 300**-0.5),
        ("normal_0.02", 0.02),
        ("truncated_0.02", TRUNCATED),
    ],
)
def test_other_inits_have_the_deviation_they_name(name, deviation):
    values = kernel(name)
    assert values.mean() == pytest.approx(0, abs=5 * deviation / len(values) ** 0.5)
    assert values.std() == pytest.approx(deviation, rel=0.02)
    if name == "truncated_0.02":
        assert np.abs(values).max() <= 0.04


@pytest.mark.parametrize("name", INITS)
def test_token_vectors_have_variance_one_over_width_or_the_named_one(name):
    table = INITS[name].embedding(100)(jax.random.key(0), (500, 100))
    named = {"normal_0.02": 0.02, "truncated_0.02": TRUNCATED, "vit": 0.02, "dit": 0.02}
    named |= {"normal_0.01": 0.01}
    named |= {f"uniform_{limit}": limit / 3**0.5 for limit in (0.08, 0.1)}
    wanted = named.get(name, 0.1)
    assert np.std(table) == pytest.approx(wanted, rel=0.02)


def test_constraints_do_nothing_without_a_mesh():
    x = jnp.ones((2, 3))
    assert constrain(x, "batch", "embed") is x


class Scaled(nn.Module):
    """``x`` times a parameter as wide, which ``draws`` makes."""

    draws: Callable

    @nn.compact
    def __call__(self, x):
        return x * parameter(self, "scale", self.draws, x.shape[-1:], ("embed",))


def test_a_parameter_is_drawn_once_and_read_in_its_shape_only():
    drawn = []

    def init(key, shape, dtype):
        drawn.append(shape)
        return jnp.full(shape, 2.0, dtype)

    module, x = Scaled(init), jnp.ones((2, 3))
    variables = module.init(jax.random.key(0), x)
    (spec,) = jax.tree.leaves(nn.get_partition_spec(variables))
    assert tuple(spec) == ("embed",)
    for apply in (module.apply, jax.jit(module.apply)):
        np.testing.assert_array_equal(apply(nn.unbox(variables), x), 2 * x)
    assert drawn == [(3,)]
    with pytest.raises(ScopeParamShapeError, match="scale"):
        module.apply(variables, jnp.ones((2, 4)))
