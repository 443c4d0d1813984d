"""The training loop whatever the machine is: devices, batches, compilations."""

import copy
import dataclasses

import jax
import numpy as np
import pytest

from tests.reliability import tiny
from tfm_jax import mesh
from tfm_jax.data.prepared import prepare
from tfm_jax.data.rows.pairs import KIND
from tfm_jax.mesh import make_mesh
from tfm_jax.runs.log import read_history
from tfm_jax.runs.storage import arrays, manifest
from tfm_jax.settings.experiment import resolve
from tfm_jax.train import assemble, loop
from tfm_jax.train.program import build

pytestmark = pytest.mark.slow  # what they share takes long
EIGHT = dict(mesh__data=4, mesh__fsdp=2, mesh__cpu_devices=8)
SHORT = dict(train__total_steps=20, train__log_every_steps=1, model__biases="all")


@pytest.fixture(scope="module", autouse=True)
def quick():
    with tiny.quick():
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run on one device and on eight; (workdir, Training) of both."""
    finish, made, folder = loop.Training.finish, {}, tmp_path_factory.mktemp("runs")

    def keep(run, log):
        made[run.mesh.size] = run.workdir, run
        return finish(run, log)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Training, "finish", keep)
        tiny.run(folder / "one", tiny.get_config(**SHORT))
        tiny.run(folder / "eight", tiny.get_config(**SHORT, **EIGHT))
    return made


def losses(workdir):
    history = read_history(workdir)
    return {r["step"]: r["loss"] for r in history if r["kind"] == "train"}


def test_a_run_that_ends_within_its_warm_up_says_so(runs):
    _, run = runs[1]
    assert "warm-up" not in assemble.headline(run, run.mesh)
    short = copy.copy(run)
    train = dataclasses.replace(run.experiment.train, total_steps=10)
    short.experiment = run.experiment._replace(train=train)
    assert "all steps are warm-up (optim.warmup_steps=10)" in assemble.headline(
        short, run.mesh
    )


def test_a_run_whose_moving_average_is_of_initial_values_says_so(runs):
    _, run = runs[1]
    short = copy.copy(run)
    for decay, said in ((0.999, True), (0.5, False)):
        train = dataclasses.replace(run.experiment.train, total_steps=10)
        train = dataclasses.replace(train, ema_decay=decay)
        short.experiment = run.experiment._replace(train=train)
        assert (
            "99% of what is scored are initial values"
            in assemble.headline(short, run.mesh)
        ) == said


def test_the_loss_does_not_depend_on_the_number_of_devices(runs):
    one, eight = (losses(runs[size][0]) for size in (1, 8))
    assert list(one) == list(range(1, 21))
    np.testing.assert_allclose(list(one.values()), list(eight.values()), rtol=1e-5)


def test_the_batches_do_not_depend_on_the_number_of_devices(runs):
    one, eight = (
        assemble.batches_from(run.experiment, run.data, run.mesh, 0)
        for _, run in (runs[1], runs[8])
    )
    assert one.get_state() == eight.get_state()
    for a, b in zip(one, eight, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_state_lies_on_all_devices_of_the_mesh(runs):
    """Else the comparisons above would say nothing."""
    _, run = runs[8]
    kernels = [p for p in jax.tree.leaves(run.state.params) if p.ndim > 1]
    divided = [p for p in kernels if not p.is_fully_replicated]
    assert len(divided) >= len(kernels) // 2
    for leaf in jax.tree.leaves(run.state):
        assert len(leaf.sharding.device_set) == 8


@pytest.mark.parametrize("size", [1, 8])
def test_a_run_compiles_one_train_step_and_one_evaluation(runs, size):
    _, run = runs[size]
    assert run.compiled.train_step._cache_size() == 1
    assert run.evaluator.eval_step._cache_size() == 1


@pytest.mark.parametrize("size", [1, 8])
def test_the_log_says_how_long_the_start_took_and_on_what(runs, size):
    start, *others = (r for r in read_history(runs[size][0]) if r["kind"] == "start")
    assert others == []
    assert set(start) == {"step", "kind", "seconds", "environment"}
    assert start["step"] == 1 and 0 < start["seconds"] < 600
    assert start["environment"]["jax"] == jax.__version__
    assert start["environment"]["devices"] == f"{size} cpu"


def test_a_checkpoint_of_eight_devices_goes_on_on_one(runs, tmp_path):
    """Restored bit for bit; from there the loss is that of a run that stayed."""
    stop = tmp_path / "run"
    assert not tiny.run(stop, tiny.get_config(**SHORT, **EIGHT), stop=(7,))
    folder = stop / "checkpoints" / "000007"
    saved = arrays.read(folder / "state", manifest.read(folder)["tree"])
    restored = []
    restore = loop.Checkpointer.restore

    def keep(self, step, target):
        state = restore(self, step, target)
        restored.append(jax.device_get(arrays.leaves(state)))
        for leaf in jax.tree.leaves(state):
            assert len(leaf.sharding.device_set) == 1
        return state

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Checkpointer, "restore", keep)
        assert tiny.run(stop, tiny.get_config(**SHORT))
    jax.tree.map(np.testing.assert_array_equal, restored, [saved])
    one, moved = losses(runs[1][0]), losses(stop)
    np.testing.assert_allclose(list(moved.values()), list(one.values()), rtol=1e-5)


def test_a_resumed_run_compiles_one_train_step(runs, tmp_path, monkeypatch):
    made, update = [], loop.Training.update

    def keep(run):
        made.append(run)
        return update(run)

    assert not tiny.run(tmp_path, tiny.get_config(**SHORT), stop=(3,))
    # a function of its own: the cache of the first run's must not help
    monkeypatch.setattr(assemble.program, "build", build)
    monkeypatch.setattr(loop.Training, "update", keep)
    assert tiny.run(tmp_path, tiny.get_config(**SHORT))
    assert made[-1].compiled.train_step._cache_size() == 1


def test_the_evaluation_does_not_depend_on_its_batches():
    """Packed rows; every sentence and token counts once, whatever fills a batch."""
    config = tiny.get_config(data__batching="pack", data__numerals_heldout=20)
    experiment = resolve(config)
    data = prepare(KIND, experiment.data, experiment.tokenizer)
    experiment = experiment.complete(data.tokenizer)
    params = jax.jit(build(experiment).init)(experiment.seed).params
    scores = []
    for tokens, devices in ((1, 1), (128, 1), (8192, 1), (8192, 8)):
        resized = resolve(tiny.get_config(eval__batch_tokens=tokens)).eval
        devices = make_mesh(mesh.Config(data=devices), jax.devices()[:devices])
        other = experiment._replace(eval=resized)
        evaluator = other.workload.make_evaluator(other, data, devices)
        with jax.set_mesh(devices):
            scores.append(evaluator.loss(params, "valid"))
    expected = sum(
        len(ids)
        for ids in data.tokenizer.encode(data.examples["valid"].target, "target")
    )
    for score in scores:
        assert score["tokens"] == expected
        np.testing.assert_allclose(score["nll"], scores[0]["nll"], rtol=1e-6)
        assert score["accuracy"] == scores[0]["accuracy"]
