import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.layers.weights import normal
from tfm_jax.layers.embed import PositionEmbedding, TokenEmbedding
from tfm_jax.layers.positions import POSITIONS

V, D = 11, 16
TABLE = normal(0, V, D)
TOKENS = np.array([[3, 0, 10]])


@pytest.mark.parametrize("scale", [True, False])
def test_the_scale_acts_on_the_way_in_and_not_on_the_way_out(scale):
    """Vaswani et al. 2017, section 3.4."""
    module = TokenEmbedding(V, D, "glorot", scale)
    x = module.apply({"params": {"table": TABLE}}, TOKENS)
    factor = np.sqrt(D) if scale else 1.0
    np.testing.assert_allclose(x, factor * TABLE[TOKENS], rtol=1e-6)
    states = normal(1, 1, 3, D)
    logits = module.apply({"params": {"table": TABLE}}, states, method="attend")
    np.testing.assert_allclose(logits, states @ TABLE.T, atol=1e-5)


def test_logits_are_float32_sums_of_bfloat16_products():
    module = TokenEmbedding(V, D, "glorot", True, jnp.bfloat16)
    states = jnp.asarray(normal(1, 1, 3, D), jnp.bfloat16)
    logits = module.apply({"params": {"table": TABLE}}, states, method="attend")
    exact = (
        np.asarray(states, np.float64)
        @ np.asarray(jnp.asarray(TABLE, jnp.bfloat16), np.float64).T
    )
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, exact, atol=1e-5)


@pytest.mark.parametrize("name", POSITIONS)
def test_only_schemes_with_vectors_change_the_embedding(name):
    module = PositionEmbedding(name, 5, "glorot")
    x, positions = normal(2, 1, 3, D), np.array([[0, 1, 0]])
    if POSITIONS[name].axes == 2:
        positions = positions[..., None].repeat(2, axis=-1)
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), x, positions))
    table = {"table": normal(3, 5, D)} if variables else {}
    y = module.apply({"params": table}, x, positions)
    scheme = POSITIONS[name]
    assert bool(table) == scheme.learned
    if scheme.learned:
        np.testing.assert_allclose(y, x + table["table"][positions], atol=1e-6)
    elif scheme.vectors:
        np.testing.assert_allclose((y - x)[0, 0], (y - x)[0, 2], atol=1e-6)
        assert np.abs((y - x)[0, 0] - (y - x)[0, 1]).max() > 0.1
    else:
        assert y is x


def test_the_gradient_of_a_position_sums_in_float32():
    """However many rows there are, of cotangents in bfloat16."""
    module = PositionEmbedding("learned", 5, "glorot")
    x, positions = jnp.zeros((256, 3, D), jnp.bfloat16), np.arange(3)[None]
    readout = jnp.asarray(normal(4, 256, 3, D), jnp.bfloat16)

    def total(table):
        y = module.apply({"params": {"table": table}}, x, positions)
        return jnp.sum(y.astype(jnp.float32) * readout.astype(jnp.float32))

    found = jax.grad(total)(normal(3, 5, D))
    wanted = np.asarray(readout, np.float64).sum(0)
    np.testing.assert_allclose(found[:3], wanted, atol=1e-4)
