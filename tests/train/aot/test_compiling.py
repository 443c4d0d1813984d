"""What a run is on devices that are not here, compiled for CPUs in their place."""

import dataclasses
import importlib.util
import json

import jax
import pytest

from tests.reliability import tiny
from tfm_jax import main
from tfm_jax.config import ConfigError
from tfm_jax.mesh import make_mesh
from tfm_jax.settings.configure import configure
from tfm_jax.settings.experiment import resolve
from tfm_jax.train import program
from tfm_jax.train.aot import compiling, mode, steps, topologies
from tfm_jax.train.aot.shapes import completed
from tfm_jax.train.aot.topologies import Chip
from tfm_jax.train.costs import flops, memory

CHIP = Chip(flops=1e9, memory=2**30, bandwidth=1e9, interconnect=1e8)
KNOBS = dict(tokenizer__vocab=50, train__accumulate_steps=1, train__batch_tokens=128)


def experiment(**mesh):
    made, _ = completed(resolve(tiny.get_config(**KNOBS)))
    return made._replace(mesh=dataclasses.replace(made.mesh, **mesh))


def bytes_of(tree):
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def on_two():
    """All steps of a run with two copies of the model."""
    chips = topologies.Topology(jax.devices()[:2], CHIP)
    parallel = experiment(data=2, gradient_allreduce="fused")
    return parallel, compiling.plan(parallel, chips)


def test_the_state_takes_what_its_shapes_say(on_two):
    parallel, plan = on_two
    state = program.build(parallel).shapes()
    assert plan["state_bytes"] == {
        "parameters": bytes_of(state.params),
        "optimizer": bytes_of(state.opt_state),
        "average": bytes_of(state.ema),
    }
    train = plan["steps"]["train"]
    assert train["peak"] > sum(plan["state_bytes"].values())
    assert plan["replicated"] == [], "no axis could divide them"


def test_copies_of_a_model_add_up_their_gradients_once(on_two):
    _, plan = on_two
    (only,) = plan["steps"]["train"]["collectives"].items()
    name, found = only
    scalars = 8  # loss and weight
    assert name == "all-reduce"
    assert found["bytes"] == plan["state_bytes"]["parameters"] + scalars


def test_flops_are_those_of_the_traced_step(on_two):
    parallel, plan = on_two
    mesh = make_mesh(parallel.mesh, jax.devices()[:2])
    step, state = steps.train_step(parallel, mesh)
    batch = step.arguments[1]
    counted = flops.count(program.build(parallel).train_step, state, batch)
    assert plan["steps"]["train"]["products"] == counted["products"]
    assert plan["steps"]["evaluation"]["products"] < counted["products"]


def test_products_of_float32_that_are_not_rounded_take_six_passes():
    """Of a chip whose memory is no limit, they are the whole step."""
    made, _ = completed(resolve(images()))
    chips = topologies.Topology(jax.devices()[:1], CHIP._replace(bandwidth=1e15))

    def estimate(precision):
        mesh = dataclasses.replace(made.mesh, matmul_precision=precision)
        one = made._replace(mesh=mesh)
        return compiling.plan(one, chips, train_only=True)["estimate"]

    rounded, exact = estimate("default"), estimate("highest")
    assert exact["memory"] == rounded["memory"] > 0
    assert exact["seconds"] == pytest.approx(6 * rounded["seconds"], rel=1e-6)
    assert 0 < rounded["mfu"] <= 1
    assert exact["mfu"] == pytest.approx(rounded["mfu"] / 6, rel=1e-6)


def test_a_divided_model_is_decoded_where_it_lies():
    made = experiment(data=1, fsdp=2)
    mesh = make_mesh(made.mesh, jax.devices()[:2])
    _, state = steps.train_step(made, mesh)
    step = steps.decode_step(made, mesh, state)
    assert step.devices == 2 and not step.copies
    assert memory.of_tree(step.arguments[0]) == memory.of_tree(state.params)
    cache = step.arguments[-1]
    assert memory.of_tree(cache) < 0.6 * bytes_of(cache), "each has its rows"


def test_a_sentence_is_decoded_by_one_device_that_has_all_parameters(on_two):
    _, plan = on_two
    decoding = plan["steps"]["decoding"]
    assert decoding["devices"] == 1 and decoding["collectives"] == {}
    copied = decoding["bytes"]["decoder's copy"]
    assert copied == plan["state_bytes"]["parameters"]
    assert decoding["peak"] > copied + sum(plan["state_bytes"].values())


def images():
    """A run that compiles fast."""
    vit = dict(depth=1, width=16, heads=2, ffn_width=16, labels=10)
    vit |= dict(patch_size=(4,), image_size=(8,), channels=1)
    train = dict(batch_tokens=16, total_steps=4)
    return configure("vit", "classify_images", model=vit, train=train)


def test_a_sweep_names_a_mesh_that_fits_and_is_fastest(monkeypatch, capsys):
    monkeypatch.setattr(topologies, "CPU", CHIP)
    found = mode.compile_run(images(), topology="cpu:2", sweep_mesh=True)
    said = capsys.readouterr().out.splitlines()
    meshes = found["meshes"]
    assert [one["mesh"] for one in meshes] == [
        {"data": 2, "fsdp": 1, "tensor": 1},
        {"data": 1, "fsdp": 2, "tensor": 1},
        {"data": 1, "fsdp": 1, "tensor": 2},
    ]
    seconds = [one["estimate"]["seconds"] for one in meshes]
    (best,) = (one for one in meshes if one["mesh"] == found["best"])
    assert best["fits"] and best["estimate"]["seconds"] == min(seconds)
    assert said[0].startswith("1/3  data=2") and len(said) == 4
    assert f"--config.mesh.data={best['mesh']['data']}" in said[-1]
    peaks = [one["steps"]["train"]["peak"] for one in meshes]
    monkeypatch.setattr(topologies, "CPU", CHIP._replace(memory=min(peaks) - 1))
    monkeypatch.setattr(compiling, "shapes", lambda run, count: [run])
    found = mode.compile_run(images(), topology="cpu:2", sweep_mesh=True)
    assert found["best"] is None
    few, verdict = capsys.readouterr().out.splitlines()
    assert few.endswith("does not fit") and verdict.startswith("none of them fits")


@pytest.mark.parametrize("axis", ["fsdp", "tensor"])
def test_shards_take_their_part_and_what_is_whole_is_named(axis):
    made = resolve(images())
    mesh = dataclasses.replace(made.mesh, **{"data": 1, axis: 2})
    placed = make_mesh(mesh, jax.devices()[:2])
    params = program.build(made).abstract(placed).params
    total, here = bytes_of(params), memory.of_tree(params)
    assert total / 2 <= here < total
    sizes = {one["name"]: one["bytes"] for one in compiling.replicated(params, placed)}
    assert all(size >= total / 100 for size in sizes.values())
    assert sum(sizes.values()) <= 2 * here - total
    alone = make_mesh(made.mesh, jax.devices()[:1])
    assert compiling.replicated(params, alone) == []


def test_sensible_meshes_divide_the_heads_and_keep_the_batch():
    meshes = [one.mesh for one in compiling.shapes(experiment(), 8)]
    assert {one.tensor for one in meshes} == {1, 2}, "of 2 heads"
    assert {one.fsdp for one in meshes} == {1, 2, 4, 8}
    assert all(one.data * one.fsdp * one.tensor == 8 for one in meshes)
    fused = experiment(gradient_allreduce="fused")
    (only,) = compiling.shapes(fused, 8)
    assert (only.mesh.data, only.mesh.fsdp, only.mesh.tensor) == (8, 1, 1)


def test_what_a_compiler_refuses_does_not_fit(monkeypatch, capsys):
    text = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for "
        "HLO temporaries (16.90G) exceeds available HBM (15.75G)."
    )

    def refuse(step):
        raise jax.errors.JaxRuntimeError(text)

    monkeypatch.setattr(steps.Step, "compile", refuse)
    found = mode.compile_run(images(), topology="cpu:1")
    assert found["fits"] is False and found["estimate"] == {}
    refused = found["steps"]["train"]["refused"]
    assert refused["wanted"] == 16.9 * 2**30
    assert refused["available"] == 15.75 * 2**30
    said = capsys.readouterr().out
    assert "it does not fit" in said and "16.90 GiB" in said


def test_the_command_prints_the_plan_as_json(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(main, "load_config", lambda *_: images())
    argv = ["--mode=compile", "--config=images", "--topology=cpu:1", "--format=json"]
    assert main.main(argv) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["mesh"] == {"data": 1, "fsdp": 1, "tensor": 1}
    assert [*plan["steps"]] == ["train", "evaluation"], "it writes nothing"
    assert plan["steps"]["train"]["collectives"] == {}
    assert plan["fits"] is None and plan["estimate"] == {}, "nothing is known of CPUs"
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "flags, complaint",
    {
        "": "--topology=KIND:SHAPE is missing",
        "--topology=v5e": "write KIND:SHAPE",
        "--topology=v5e:٨": "write KIND:SHAPE",
        "--topology=v5e:4x4x4": "at most 2 sizes, such as v5e:2x4",
        "--topology=h100:2x3x4": "at most 2 sizes",
        "--topology=v9:2x2": "choose from (v4, v5e, v5p, v6e, h100, a100, cpu)",
        "--topology=cpu:4096": "this process has",
        "--topology=cpu:1 --sweep_mesh": "no value; write --sweep_mesh=true",
        "--topology=cpu:1 --sweep_mesh=true --config.mesh.fsdp=2": "every mesh.fsdp;",
        "--topology=v5e:2x4": "pip install 'tfm_jax[tpu]'",
        "--topology=h100:8": "pip install 'tfm_jax[gpu]'",
    }.items(),
)
def test_a_topology_that_is_none_is_one_line(flags, complaint, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    argv = ["--mode=compile", f"--config={tiny.__file__}", *flags.split()]
    assert main.main(argv) == 78
    assert complaint in capsys.readouterr().err


def test_a_shape_that_no_tpu_has_is_refused_in_words(monkeypatch):
    """Which is not what the compiler says."""

    def refuse(**_):
        raise ValueError('Topology layout "v5e:3x5" is not divisible by "2x2x1"')

    monkeypatch.setattr(topologies.topologies, "get_topology_desc", refuse)
    monkeypatch.setattr(topologies, "_prepare", lambda *_: None)
    with pytest.raises(ConfigError, match="'v5e:3x5': hosts have 2x2 chips, so that"):
        topologies.describe_topology("v5e:3x5")


def test_a_mesh_without_a_place_there_is_refused():
    chips = topologies.Topology(jax.devices()[:2], CHIP)
    with pytest.raises(ConfigError, match=r"mesh\.fsdp=4.*the 2 devices"):
        compiling.plan(experiment(data=1, fsdp=4), chips)
