import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tfm_jax.ops.products import einsum

CPUINFO = Path("/proc/cpuinfo")
FORMS = {  # what the models ask for, with odd sizes
    "ti,io->to": ((7, 5), (5, 3)),
    "td,vd->tv": ((91, 3), (87, 3)),  # a cotangent too large to be turned
    "bthk,bshk->bhts": ((2, 3, 4, 5), (2, 6, 4, 5)),
    "bhts,bshk->bthk": ((2, 4, 3, 6), (2, 6, 4, 5)),
}


def normal(seed, shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rounded(x):
    return np.asarray(jnp.asarray(x, jnp.bfloat16), np.float64)


@pytest.fixture(params=FORMS)
def form(request):
    shapes = FORMS[request.param]
    return request.param, *(normal(i, shape) for i, shape in enumerate(shapes))


def both_ways(subscripts, a, b, **options):
    """A cotangent, the product and its two gradients, by ``einsum``."""
    shape = jax.eval_shape(lambda a, b: einsum(subscripts, a, b, **options), a, b)
    g = normal(2, shape.shape).astype(shape.dtype)

    @jax.jit
    def run(a, b, g):
        y, back = jax.vjp(lambda a, b: einsum(subscripts, a, b, **options), a, b)
        return y, *back(g)

    return g, run(a, b, g)


def exactly(subscripts, a, b, g):
    """The product and its two gradients in float64."""
    operands, result = subscripts.split("->")
    left, right = operands.split(",")
    return (
        np.einsum(subscripts, a, b),
        np.einsum(f"{result},{right}->{left}", g, b),
        np.einsum(f"{left},{result}->{right}", a, g),
    )


def test_numbers_are_rounded_and_sums_are_not(form):
    """Nor are gradients of float32 operands; products of two bfloat16 are exact."""
    subscripts, a, b = form
    g, found = both_ways(subscripts, a, b, dtype=jnp.bfloat16, out=jnp.float32)
    wanted = exactly(subscripts, rounded(a), rounded(b), rounded(g))
    for x, y in zip(found, wanted, strict=True):
        assert x.dtype == jnp.float32
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def test_the_result_and_gradients_have_the_dtypes_they_should(form):
    subscripts, a, b = form
    a = jnp.asarray(a, jnp.bfloat16)
    g, found = both_ways(subscripts, a, b, dtype=jnp.bfloat16)
    wanted = exactly(subscripts, rounded(a), rounded(b), rounded(g))
    assert [x.dtype for x in found] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    for x, y in zip(found, wanted, strict=True):  # one rounding: half of 2**-7
        x = np.asarray(x, np.float64)
        np.testing.assert_allclose(x, y, rtol=2**-8 + 1e-5, atol=1e-5)


def test_in_float32_it_is_the_plain_product(form):
    subscripts, a, b = form
    g, found = both_ways(subscripts, a, b, dtype=jnp.float32)
    for x, y in zip(found, exactly(subscripts, a, b, g), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def test_products_of_many_seeds_at_once_are_those_of_each(form):
    subscripts, a, b = form
    a, b = np.stack([a, -2 * a]), np.stack([b, 3 * b])

    def gradients(a, b):
        y = einsum(subscripts, a, b, dtype=jnp.bfloat16, out=jnp.float32)
        return jnp.sum(jnp.sin(y))

    gradients = jax.grad(gradients, (0, 1))
    for i, found in enumerate(zip(*jax.jit(jax.vmap(gradients))(a, b), strict=True)):
        for x, y in zip(found, gradients(a[i], b[i]), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(
    jax.default_backend() != "cpu"
    or not (CPUINFO.exists() and "amx_bf16" in CPUINFO.read_text()),
    reason="this processor has no instructions for bfloat16 matrices (AMX)",
)
@pytest.mark.parametrize("subscripts", FORMS)
def test_nothing_is_widened_before_it_is_multiplied(subscripts):
    sizes = dict(t=512, i=32, o=64, d=32, v=512, b=2, h=2, k=32, s=64)
    left, right = subscripts.split("->")[0].split(",")
    a, b = (
        jax.ShapeDtypeStruct([sizes[i] for i in term], jnp.float32)
        for term in (left, right)
    )

    def total(a, b):
        y = einsum(subscripts, a, b, dtype=jnp.bfloat16, out=jnp.float32)
        return jnp.sum(jnp.sin(y))

    program = jax.jit(jax.grad(total, (0, 1))).lower(a, b).compile().as_text()
    types = dict(re.findall(r"%([\w.-]+) = (\w+)\[", program))
    types |= dict(re.findall(r"([\w.-]+): (\w+)\[", program))
    operands = re.findall(r" dot\(%([\w.-]+), %([\w.-]+)\)", program)
    assert len(operands) == 3
    assert {types[name] for pair in operands for name in pair} == {"bf16"}
