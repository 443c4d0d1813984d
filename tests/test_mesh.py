import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec

from tests.models.tiny import rows, sentences, tiny
from tests.test_platforms import experiment
from tfm_jax.layers.layout import abstract, to_scanned
from tfm_jax.mesh import (
    ALLREDUCES,
    PRECISIONS,
    RULES,
    Config,
    make_mesh,
    put_batch,
    row_multiple,
    shardings,
    using,
)
from tfm_jax.objectives import translation
from tfm_jax.ops.dropout import dropout
from tfm_jax.ops.products import einsum
from tfm_jax.train.aot import steps
from tfm_jax.train.state import init_state
from tfm_jax.train.step import make_gradients, make_train_step
from tfm_jax.workloads.evaluator import apply

BATCH = rows(sentences((3, 4) * 4, (4, 2) * 4), 4, 4)
OPTIMIZER = optax.adam(1e-2)
STEPS = 3


def sharded(cfg, devices, micro=1, **changes):
    """Losses, compiled program and last state of a few steps on a mesh."""
    _, params = tiny(decoder_depth=1)
    model, _ = tiny(decoder_depth=1, dropout=0.0, **changes)
    params = to_scanned(params) if changes else params
    state = init_state(params, OPTIMIZER, 0, ema=True)
    loss_sum = functools.partial(
        translation.loss_sum, functools.partial(apply, model), train=True
    )
    step = make_train_step(
        make_gradients(loss_sum, gradient_allreduce=cfg.gradient_allreduce),
        OPTIMIZER,
        lambda updates: 1e-2,
        ema_decay=0.5,
        skip_limit=1,
    )
    mesh = make_mesh(cfg, jax.devices()[:devices])
    with jax.set_mesh(mesh), nn.logical_axis_rules(RULES):
        specs = abstract(model, translation.example()).specs
        placed = shardings(mesh, state, specs)
        state = jax.device_put(state, placed)
        batch = jax.tree.map(lambda x: x.reshape(micro, -1, *x.shape[1:]), BATCH)
        batch = put_batch(mesh, batch, leading=1)
        lowered = jax.jit(step, out_shardings=(placed, None)).lower(state, batch)
        compiled, losses = lowered.compile(), []
        for _ in range(STEPS):
            state, metrics = compiled(state, batch)
            losses.append(float(metrics["loss"]))
    return losses, lowered.as_text(), state, compiled.as_text()


@pytest.fixture(scope="module")
def alone():
    return sharded(Config(), 1)[0]


MESHES = {
    "data": (Config(), {}),
    "all three": (Config(fsdp=2, tensor=2), dict(layout="scanned")),
}


@pytest.fixture(scope="module", params=MESHES)
def spread(request):
    cfg, changes = MESHES[request.param]
    return request.param, *sharded(cfg, 8, **changes)


def test_eight_devices_lose_what_one_loses(alone, spread):
    _, losses, *_ = spread
    np.testing.assert_allclose(losses, alone, rtol=1e-5)
    assert losses[-1] < 0.98 * losses[0]


@pytest.mark.parametrize(("devices", "micro"), [(8, 1), (4, 2)])
def test_gradients_travel_as_one_array(alone, devices, micro):
    """mesh.gradient_allreduce=fused: all devices lose what one does, and meet once."""
    losses, _, state, program = sharded(
        Config(gradient_allreduce="fused"), devices, micro
    )
    np.testing.assert_allclose(losses, alone, rtol=1e-5)
    exchanged = re.findall(r"= (\S+) all-reduce\(", program)
    size = sum(x.size for x in jax.tree.leaves(state.params))
    assert exchanged == [f"f32[{size + 2}]{{0}}"]  # with the loss and the weight


@pytest.mark.parametrize("fsdp", [1, 2])
def test_micro_batches_are_added_up_before_they_are_exchanged(alone, fsdp):
    """Shards of the rows meet once a step, those of fsdp in every micro-batch."""
    losses, _, state, program = sharded(Config(fsdp=fsdp), 4, micro=2)
    np.testing.assert_allclose(losses, alone, rtol=1e-5)
    loops, entry = program.split("\nENTRY ")
    of_fsdp = {"[2,2]<=[4]", "{{0,1},{2,3}}"} if fsdp == 2 else set()
    inside, outside = (
        re.findall(r"f32\[\d.* all-reduce\(.*replica_groups=(\S+),", part)
        for part in (loops, entry)
    )
    assert set(inside) <= of_fsdp
    assert len([groups for groups in outside if groups not in of_fsdp]) == 1
    placed = state.params["encoder"]["layer_0"]["ffn"]["up"]["kernel"].sharding
    assert placed.shard_shape((8, 12)) == (8 // fsdp, 12)


@pytest.mark.parametrize("name", ALLREDUCES)
def test_rows_are_dropped_alike_on_one_device_and_on_many(name):
    def sums(params, rng, batch, same):
        first = jax.lax.axis_index("data") if same else 0
        drawn = dropout(batch[0], 0.5, rng) + dropout(batch[1], 0.5, rng)
        return jnp.zeros((16, 3)).at[2 * first + jnp.arange(len(drawn))].set(drawn)

    rows, key = jnp.ones((2, 16, 3)), jax.random.key(0)
    alone = ALLREDUCES[name](sums)({}, key, rows, {})
    assert 0 < np.count_nonzero(alone) < alone.size
    with jax.set_mesh(make_mesh(Config())):
        apart = jax.jit(ALLREDUCES[name](sums))({}, key, rows, {"here": 1.0})
    np.testing.assert_array_equal(apart, alone)


@pytest.mark.parametrize("name", ALLREDUCES)
def test_without_a_mesh_there_is_nothing_to_reduce(name):
    def sums(params, rng, batch, same):
        return params["w"] * batch.sum(), same["factor"]

    found = ALLREDUCES[name](sums)({"w": 2.0}, None, np.ones((1, 3)), {"factor": 5})
    assert found == (6.0, 5)


def test_every_device_holds_its_part_of_parameters_and_optimizer(spread):
    name, _, _, state, _ = spread
    layers = "layer_0" if name == "data" else "layers"
    fsdp, tensor = {"data": (1, 1), "all three": (2, 2)}[name]
    for tree in (state.params, state.ema, state.opt_state[0].mu):
        block = tree["encoder"][layers]
        for leaf, parts in (
            (block["ffn"]["up"]["kernel"], (fsdp, tensor)),
            (block["ffn"]["down"]["kernel"], (tensor, fsdp)),
            (block["self_attention"]["query"]["kernel"], (fsdp, tensor, 1)),
            (block["self_attention"]["out"]["kernel"], (tensor, 1, fsdp)),
            (block["self_attention"]["key"]["bias"], (tensor, 1)),
            (tree["embedding"]["table"], (1, fsdp * tensor)),  # 11 rows have no half
        ):
            parts = (1,) * (leaf.ndim - len(parts)) + parts
            wanted = tuple(n // p for n, p in zip(leaf.shape, parts, strict=True))
            shapes = {shard.data.shape for shard in leaf.addressable_shards}
            assert shapes == {wanted}
    assert state.step.is_fully_replicated


def test_activations_are_tied_to_the_mesh(spread):
    """Under the deprecated ``with mesh:`` Linen would drop every one of them."""
    name, _, program, *_ = spread
    count = len(re.findall(r"sharding_constraint|@Sharding", program))
    # embeddings 2, queries 3, feed-forward 2 + 2, logits 1; and their gradients
    assert count >= 2 * 10, (name, count)


def test_no_device_has_all_logits_of_a_table_that_is_divided_by_its_width():
    """Of 151 rows, which two devices cannot have halves of."""
    one = experiment("gpt")._replace(mesh=Config(data=1, tensor=2))
    one = one._replace(model=dataclasses.replace(one.model, vocab=151))
    mesh = make_mesh(one.mesh, jax.devices()[:2])
    _, state = steps.train_step(one, mesh)
    assert state.params["embedding"]["table"].sharding.shard_shape((151, 16))[0] == 151
    program = steps.eval_step(one, mesh, state).compile().as_text()
    assert re.search(r"\[(\d+,)+76\]", program), "a half, and one more"
    assert not re.search(r"\[(\d+,)+15[12]\]", program)


def test_the_two_layouts_start_equal_on_a_mesh(alone):
    model, params = tiny(decoder_depth=1)
    scanned, again = tiny(decoder_depth=1, layout="scanned")
    assert jax.tree.map(np.shape, to_scanned(params)) == jax.tree.map(np.shape, again)
    specs = abstract(scanned, translation.example()).specs
    assert specs["encoder"]["layers"]["ffn"]["up"]["kernel"] == PartitionSpec(
        "layers", "embed", "mlp"
    )


@pytest.mark.parametrize("name", PRECISIONS)
def test_float32_products_are_as_exact_as_asked_forward_and_backward(name):
    """mesh.matmul_precision, which machines that round float32 obey."""
    x = np.ones((2, 2), np.float32)

    def total(a, b):
        return einsum("ab,bc->ac", a, b, dtype=jnp.float32).sum()

    cfg = Config(data=1, matmul_precision=name)
    with using(cfg, make_mesh(cfg)):
        program = jax.jit(jax.value_and_grad(total, (0, 1))).lower(x, x).as_text()
    precise = re.findall(r"dot_general .*precision = \[(\w+), (\w+)\]", program)
    assert len(precise) == 3
    assert set(precise) == {(name.upper(), name.upper())}


def test_the_rest_of_the_devices_goes_where_minus_one_stands():
    mesh = make_mesh(Config(data=2, fsdp=-1, tensor=2))
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert row_multiple(mesh) == 4
    assert dict(make_mesh(Config()).shape) == {"data": 8, "fsdp": 1, "tensor": 1}


@pytest.mark.parametrize(
    "fields", [dict(data=0), dict(data=-1, fsdp=-1), dict(cpu_devices=-1)]
)
def test_impossible_meshes_are_refused_by_name(fields):
    with pytest.raises(ValueError, match="mesh."):
        Config(**fields)
    with pytest.raises(
        ValueError, match="mesh.gradient_allreduce='fused' needs whole copies"
    ):
        Config(gradient_allreduce="fused", fsdp=2)
    with pytest.raises(ValueError, match="need a divisor of the 8 devices"):
        make_mesh(Config(data=3))
