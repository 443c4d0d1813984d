"""The kernel of TPUs, interpreted: it means what the plain implementation does."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from tests.elsewhere import lowered
from tfm_jax.mesh import Config, make_mesh
from tfm_jax.ops.attention import KERNELS, _run, attention
from tfm_jax.ops.kernels import splash
from tfm_jax.ops.masks import Mask


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def packed(length, *texts):
    """Segments of a row: 1, 2, ... of so many tokens, then padding."""
    numbers = np.repeat(np.arange(1, len(texts) + 1), texts)
    return np.pad(numbers, (0, length - len(numbers)))


ROWS = np.stack([packed(300, 130, 20, 100), packed(300, 299)])
TEXTS, IMAGES = np.stack([ROWS[0], 0 * ROWS[0]]), np.stack([packed(140, 70, 30)] * 2)


@pytest.mark.parametrize(
    ("mask", "queries", "keys"),
    [
        (Mask(causal=True), 128, 128),  # nothing is padded
        (Mask(causal=True, window=90, q_segments=ROWS, kv_segments=ROWS), 300, 300),
        (Mask(window=20, q_lengths=np.array([7, 300])), 300, 140),
        (Mask(q_segments=TEXTS, kv_segments=IMAGES), 300, 140),
    ],
)
def test_values_and_gradients_are_those_of_the_plain_one(mask, queries, keys):
    """Of heads of odd sizes and lengths; some queries see nothing."""
    shapes = ((queries, 5), (keys, 5), (keys, 3), (queries, 3))
    q, k, v, readout = (normal(i, 2, n, 2, size) for i, (n, size) in enumerate(shapes))

    def total(attend, *qkv):
        y = attend(*qkv, mask=mask)
        return jnp.sum(y * readout), y

    def found(attend):
        run = jax.grad(functools.partial(total, attend), (0, 1, 2), has_aux=True)
        return jax.jit(run)(q, k, v)

    gradients, y = found(functools.partial(splash.attention, interpret=True))
    exact, plain = found(functools.partial(attention, implementation="xla"))
    np.testing.assert_allclose(y, plain, atol=1e-5)
    for x, z in zip(gradients, exact, strict=True):
        np.testing.assert_allclose(x, z, atol=1e-4)
    visible = mask.visible(queries, keys)
    blind = ~np.broadcast_to(visible, (2, 1, queries, keys)).any(-1)[:, 0]
    assert blind.any() == (queries == 300)
    for x in (y, gradients[0]):
        np.testing.assert_array_equal(x[blind], 0.0)


def test_a_window_may_be_one_of_several_that_are_known():
    """As in a scan over layers; the widest is none."""
    q, readout = normal(0, 1, 128, 1, 4), normal(1, 1, 128, 1, 4)
    kernel = KERNELS["splash"]._replace(
        run=functools.partial(splash.attention, interpret=True)
    )

    def total(attend, q, window):
        mask = Mask(causal=True, window=window, windows=(30, 1 << 30))
        return jnp.sum(attend(q, q, q, mask) * readout)

    def plain(*qkv):
        return attention(*qkv[:3], mask=qkv[3], implementation="xla")

    def fused(*qkv):
        return _run(kernel, *qkv, None)

    run = jax.jit(jax.value_and_grad(total, 1), static_argnums=0)
    for window in (30, 1 << 30):
        wanted, found = run(plain, q, window), run(fused, q, window)
        np.testing.assert_allclose(found[0], wanted[0], atol=1e-4)
        np.testing.assert_allclose(found[1], wanted[1], atol=1e-4)


DIVIDED = PartitionSpec(("data", "fsdp"), None, "tensor", None)


@pytest.mark.parametrize("apart", [(), ("data",)])
def test_each_device_works_on_its_own_rows_and_heads(apart):
    """Also where rows are worked on apart already, as micro-batches are."""
    mesh = make_mesh(Config(data=2, fsdp=2, tensor=2))
    q = normal(0, 4, 128, 2, 8)
    attend = functools.partial(splash.attention, mask=Mask(causal=True), interpret=True)
    whole = jax.jit(attend)(q, q, q)
    with jax.set_mesh(mesh):
        run = functools.partial(attend, divided=DIVIDED)
        if apart:
            rows = PartitionSpec(apart)
            run = jax.shard_map(
                run, in_specs=rows, out_specs=rows, axis_names={*apart}, check_vma=False
            )
        x = jax.device_put(q, jax.NamedSharding(mesh, DIVIDED))
        program = jax.jit(run).lower(x, x, x).compile()
        np.testing.assert_allclose(program(x, x, x), whole, atol=1e-6)
    assert not re.search("all-gather|all-to-all|permute", program.as_text())


@pytest.mark.parametrize(
    ("length", "mask", "options", "fused"),
    [
        (300, Mask(causal=True, q_segments=ROWS, kv_segments=ROWS), {}, True),
        (130, Mask(window=3), {}, True),
        (127, Mask(), {}, False),
        (300, Mask(causal=True, prefix=np.array([3, 3])), {}, False),
        (300, Mask(q_segments=ROWS, kv_segments=ROWS, past_segments=True), {}, False),
        (300, Mask(), dict(transform=jnp.negative), False),
        (300, Mask(), dict(bias=np.zeros((1, 1, 300, 300))), False),
        (300, Mask(), dict(score="dot"), False),
        (300, Mask(), dict(mask_style="after"), False),
    ],
)
def test_a_tpu_gets_the_kernel_where_it_pays(length, mask, options, fused):
    x = jax.ShapeDtypeStruct((2, length, 2, 5), "float32")
    run = functools.partial(attention, mask=mask, **options)
    program = lowered(run, x, x, x, target="tpu")
    assert ("tpu_custom_call" in program) == fused
    assert (f"{length}x{length}" in program) == (not fused)
    if not fused and length > 127:  # which only does not pay
        asked = functools.partial(run, implementation="splash")
        with pytest.raises(ValueError, match="model.attention='splash' cannot do"):
            lowered(asked, x, x, x, target="tpu")
