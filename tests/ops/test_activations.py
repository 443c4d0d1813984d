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
