import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from tfm_jax.ops.activations import ACTIVATIONS

X = np.linspace(-6, 6, 101, dtype=np.float32)


def tanh_gelu(x):
    return functional.gelu(x, approximate="tanh")


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("relu", functional.relu),
        ("gelu", functional.gelu),
        ("gelu_tanh", tanh_gelu),
        ("silu", functional.silu),
        ("squared_relu", lambda x: functional.relu(x) ** 2),
        ("reglu", functional.relu),
        ("geglu", functional.gelu),
        ("swiglu", functional.silu),
    ],
)
def test_activations_equal_torch(name, reference):
    found = ACTIVATIONS[name].function(X)
    np.testing.assert_allclose(found, reference(torch.tensor(X)), atol=2e-6)
    assert ACTIVATIONS[name].gated == name.endswith("glu")


def test_exact_and_tanh_gelu_are_two_functions():
    exact, tanh = (ACTIVATIONS[name].function(X) for name in ("gelu", "gelu_tanh"))
    assert 1e-4 < np.abs(exact - tanh).max() < 1e-3


SMOOTH = [name for name in ACTIVATIONS if name not in ("relu", "reglu")]


@pytest.mark.parametrize("name", SMOOTH)
def test_in_bfloat16_only_the_result_is_rounded(name):
    function = ACTIVATIONS[name].function
    x = jnp.asarray(X, jnp.bfloat16)
    y, back = jax.vjp(function, x)
    exact, exact_back = jax.vjp(function, x.astype(jnp.float32))
    (gradient,), (wanted,) = back(jnp.ones_like(y)), exact_back(jnp.ones_like(exact))
    np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))
    np.testing.assert_array_equal(gradient, wanted.astype(jnp.bfloat16))


@pytest.mark.parametrize("name", SMOOTH)
def test_what_is_kept_for_the_gradient_is_as_small_as_the_input(name):
    x = jnp.asarray(X, jnp.bfloat16)
    _, back = jax.vjp(ACTIVATIONS[name].function, x)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(back)) <= x.nbytes
