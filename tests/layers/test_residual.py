import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn

from tests.layers.weights import normal, random_params
from tfm_jax.layers.residual import (
    CONDITIONS,
    NORM_KINDS,
    NORM_PLACEMENTS,
    Residual,
)

D = 6
X = normal(0, 2, 3, D)


def twice(y):
    return 2 * y + 1, "rest"


def layernorm(x):
    x = np.asarray(x, np.float64)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


# figure 1 of each paper
FORMULAS = {
    "post": lambda x: layernorm(x + twice(x)[0]),
    "pre": lambda x: x + twice(layernorm(x))[0],
    "sandwich": lambda x: x + layernorm(twice(layernorm(x))[0]),
    "none": lambda x: x + twice(x)[0],
}


def residual(placement="post", kind="layernorm", dropout=0.0, add=True):
    return Residual(placement, kind, 1e-6, dropout, add)


def initial(module):
    """Parameters of norms as they start: scale 1, bias 0."""
    params = random_params(module, X, twice, train=False)
    return {
        slot: {name: jnp.full(D, float(name == "scale")) for name in tree}
        for slot, tree in params.items()
    }


def test_there_is_a_formula_for_every_placement():
    assert set(FORMULAS) == set(NORM_PLACEMENTS)


@pytest.mark.parametrize("placement", NORM_PLACEMENTS)
def test_every_placement_equals_the_formula_of_its_paper(placement):
    module = residual(placement)
    y, rest = module.apply({"params": initial(module)}, X, twice, train=False)
    np.testing.assert_allclose(y, FORMULAS[placement](X), atol=1e-5)
    assert rest == "rest"


def test_without_the_connection_only_the_sublayer_is_left():
    module = residual("post", add=False)
    y, _ = module.apply({"params": initial(module)}, X, twice, train=False)
    np.testing.assert_allclose(y, layernorm(twice(X)[0]), atol=1e-5)
    y, _ = residual("none", add=False).apply({}, X, twice, train=False)
    np.testing.assert_array_equal(y, twice(X)[0])


REFERENCES = {
    "layernorm": lambda: torch.nn.LayerNorm(D, eps=1e-3),
    "layernorm_no_bias": lambda: torch.nn.LayerNorm(D, eps=1e-3, bias=False),
    "layernorm_no_affine": lambda: torch.nn.LayerNorm(
        D, 1e-3, elementwise_affine=False
    ),
    "rmsnorm": lambda: torch.nn.RMSNorm(D, eps=1e-3),
    "none": torch.nn.Identity,
}


@pytest.mark.parametrize("kind", NORM_KINDS)
def test_every_norm_equals_torch(kind):
    norm = NORM_KINDS[kind](epsilon=1e-3, dtype=jnp.float32, name=None)
    params, reference = random_params(norm, X), REFERENCES[kind]()
    names = {"scale": "weight", "bias": "bias"}
    reference.load_state_dict(
        {names[name]: torch.tensor(np.asarray(x)) for name, x in params.items()}
    )
    wanted = reference(torch.tensor(X)).detach()
    np.testing.assert_allclose(norm.apply({"params": params}, X), wanted, atol=1e-5)


def test_layernorm_survives_a_large_mean():
    """E[x^2] - E[x]^2 would lose every digit here."""
    norm = NORM_KINDS["layernorm"](epsilon=1e-6, dtype=jnp.float32, name=None)
    params = {"scale": jnp.ones(D), "bias": jnp.zeros(D)}
    y = norm.apply({"params": params}, X + np.float32(2e3))
    np.testing.assert_allclose(y, layernorm(X + np.float32(2e3)), atol=1e-3)


def test_norm_statistics_are_float32_in_bfloat16_models():
    large = jnp.asarray(300.0 * X, jnp.bfloat16)
    for kind, reference in (("layernorm", layernorm), ("rmsnorm", None)):
        norm = NORM_KINDS[kind](epsilon=1e-6, dtype=jnp.bfloat16, name=None)
        params = {"scale": jnp.ones(D), "bias": jnp.zeros(D)}
        y = norm.apply({"params": params}, large)
        assert y.dtype == jnp.bfloat16
        x = np.asarray(large, np.float64)
        wanted = reference(x) if reference else x / np.sqrt((x * x).mean(-1))[..., None]
        np.testing.assert_allclose(np.asarray(y, np.float64), wanted, rtol=2**-7)


def test_dropout_acts_on_the_sublayer_and_not_on_the_connection():
    """Vaswani et al. 2017, section 5.4: before it is added."""
    y, _ = residual("none", dropout=0.5).apply(
        {}, X, twice, train=True, rngs={"dropout": jax.random.key(0)}
    )
    kept = X + 2 * twice(X)[0]
    assert np.all(np.isclose(y, X) | np.isclose(y, kept, rtol=1e-5))
    assert 0 < np.isclose(y, X).mean() < 1


@pytest.mark.parametrize("placement", ["pre", "post", "sandwich"])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_shifts_and_scales_the_input_and_gates_the_output(
    condition, placement
):
    """Peebles and Xie 2023, figure 3, written out; also behind a tanh gate."""
    module = Residual(
        placement, "layernorm_no_affine", 1e-6, 0.0, gate="tanh", condition=condition
    )
    given = normal(1, 2, 5)
    params = random_params(module, X, twice, given, train=False)
    y, _ = module.apply({"params": params}, X, twice, given, train=False)
    terms = dict(shift=0.0, scale=0.0, gate=1.0)
    if condition != "none":
        regress = params["modulation"]["map"]
        z = np.einsum("bc,ctd->tbd", given / (1 + np.exp(-given)), regress["kernel"])
        z = z[:, :, None] + np.asarray(regress["bias"])[:, None, None]
        terms |= zip(("shift", "scale", "gate"), z, strict=False)
    place = NORM_PLACEMENTS[placement]
    norms = [layernorm if here else lambda x: x for here in place[:3]]
    before, inside, after = norms
    z = inside(twice(before(X) * (1 + terms["scale"]) + terms["shift"])[0])
    wanted = after(X + np.tanh(params["alpha"]) * terms["gate"] * z)
    np.testing.assert_allclose(y, wanted, atol=1e-5)


@pytest.mark.parametrize(
    "options", [dict(gate="tanh"), dict(condition="adaln_zero")], ids=str
)
def test_closed_gates_make_the_identity_at_the_start(options):
    module = Residual("pre", "layernorm_no_affine", 1e-6, 0.0, **options)
    inputs = (X, twice, normal(1, 2, 5))
    params = module.init(jax.random.key(0), *inputs, train=False)
    y, _ = module.apply(nn.unbox(params), *inputs, train=False)
    np.testing.assert_array_equal(y, X)
