import numpy as np
import pytest

from tests.layers.weights import normal, random_params
from tfm_jax.layers.feedforward import FeedForward
from tfm_jax.ops.activations import ACTIVATIONS

X = normal(0, 2, 3, 4)


def affine(x, params):
    return x @ np.asarray(params["kernel"]) + np.asarray(params["bias"])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_block_equals_its_formula(name):
    """Vaswani et al. 2017, equation 2; Shazeer 2020, equation 6."""
    module, act = FeedForward(5, name, "glorot"), ACTIVATIONS[name]
    params = random_params(module, X, train=False)
    hidden = affine(X, params["up"])
    if act.gated:
        hidden = act.function(affine(X, params["gate"])) * hidden
    else:
        hidden = act.function(hidden)
    y = module.apply({"params": params}, X, train=False)
    np.testing.assert_allclose(y, affine(hidden, params["down"]), atol=1e-5)
    assert set(params) == {"up", "down"} | ({"gate"} if act.gated else set())
