"""Save and restore: exact, strict, asynchronous; retention; parameters alone."""

import json
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tests.reliability.states import OPTIMIZER, make_state
from tfm_jax.config import ConfigError, build, section
from tfm_jax.runs.process.exits import (
    CheckpointMismatch,
    CorruptCheckpoint,
    InfrastructureError,
)
from tfm_jax.runs.storage import arrays
from tfm_jax.runs.storage.checkpoint import (
    Checkpointer,
    Config,
    average,
    find,
    load_params,
    verify,
)


def assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, got), want in zip(
        jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    ):
        name = jax.tree_util.keystr(path)
        assert got.dtype == want.dtype, name
        assert got.shape == want.shape, name
        assert np.asarray(got).tobytes() == np.asarray(want).tobytes(), name


@pytest.fixture
def checkpointer(tmp_path):
    with Checkpointer(tmp_path / "checkpoints", Config()) as checkpointer:
        yield checkpointer


@pytest.mark.parametrize("ema", [True, False])
def test_a_restored_state_equals_the_saved_one_bit_for_bit(checkpointer, ema):
    checkpointer.save(7, make_state(7, ema=ema))
    assert checkpointer.latest_good() == 7
    restored = checkpointer.restore(7, make_state(0, ema=ema))
    assert_same(restored, make_state(7, ema=ema))


def test_shapes_without_values_are_target_enough(checkpointer):
    checkpointer.save(7, make_state(7), wait=True)
    target = jax.eval_shape(lambda: make_state(0))
    assert_same(checkpointer.restore(7, target), make_state(7))


DTYPES = ["bool", "int4", "int8", "uint32", "float8_e4m3fn", "bfloat16", "float16"]


@pytest.mark.parametrize("dtype", [*DTYPES, "int64", "float64", "complex64"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_every_dtype_and_shape_survives(checkpointer, dtype, shape):
    values = np.resize([1, 0, 3, 7, 2, 5], shape).astype(jnp.dtype(dtype))
    state = {"x": values, "other": np.ones(1)}
    checkpointer.save(1, state, wait=True)
    target = jax.tree.map(np.zeros_like, state)
    assert_same(checkpointer.restore(1, target), state)


def test_special_floats_keep_their_bits(checkpointer):
    bits = np.array([0x7FC00001, 0xFFC00000, 0x80000000, 1, 0xFF800000], np.uint32)
    state = {"x": bits.view(np.float32)}
    checkpointer.save(1, state, wait=True)
    assert_same(checkpointer.restore(1, state), state)


@pytest.mark.parametrize(("before", "after"), [(1, 8), (8, 1), (8, 4), (4, 8)])
def test_values_are_the_same_on_other_device_counts(checkpointer, before, after):
    def sharded(state, devices):
        mesh = jax.make_mesh((devices,), ("fsdp",), devices=jax.devices()[:devices])

        def put(leaf):
            spec = P("fsdp") if leaf.ndim and leaf.shape[0] % 8 == 0 else P()
            return jax.device_put(leaf, NamedSharding(mesh, spec))

        return jax.tree.map(put, state)

    checkpointer.save(5, sharded(make_state(5, width=8), before))
    target = sharded(make_state(0, width=8), after)
    restored = checkpointer.restore(5, target)
    assert_same(restored, make_state(5, width=8))
    for got, like in zip(
        jax.tree.leaves(restored), jax.tree.leaves(target), strict=True
    ):
        assert got.sharding == like.sharding


def test_buffers_may_be_donated_as_soon_as_save_returns(checkpointer, monkeypatch):
    """The writer is held back until the donated buffers have been overwritten."""
    overwritten = threading.Event()
    write = arrays.write

    def write_late(directory, host):
        assert overwritten.wait(10)
        write(directory, host)

    monkeypatch.setattr(arrays, "write", write_late)
    state = {"x": jnp.arange(1000.0), "host": np.arange(1000.0)}
    expected = jax.tree.map(np.array, state)
    clear = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    checkpointer.save(1, state)
    cleared = clear(state["x"]).block_until_ready()
    state["host"][:] = -1
    overwritten.set()
    restored = checkpointer.restore(1, {"x": cleared, "host": state["host"]})
    assert_same(restored, expected)


def test_save_blocks_less_than_a_tenth_of_a_second(checkpointer, monkeypatch):
    write = arrays.write

    def slow(directory, host):
        time.sleep(1.0)
        write(directory, host)

    monkeypatch.setattr(arrays, "write", slow)
    state = jax.block_until_ready(make_state(1))
    started = time.monotonic()
    checkpointer.save(1, state)
    assert time.monotonic() - started < 0.1
    assert checkpointer.steps() == []  # not visible before it is complete
    checkpointer.wait()
    assert checkpointer.steps() == [1]


def test_a_synchronous_checkpointer_returns_after_the_commit(tmp_path):
    with Checkpointer(tmp_path, Config(asynchronous=False)) as checkpointer:
        checkpointer.save(1, make_state(1))
        assert checkpointer.steps() == [1]


def test_leaving_the_context_commits_the_last_save(tmp_path):
    with Checkpointer(tmp_path, Config()) as checkpointer:
        checkpointer.save(1, make_state(1))
    assert verify(tmp_path / "000001") == []


@pytest.mark.parametrize("surface", ["save", "wait", "close", "latest_good", "restore"])
def test_a_failed_background_write_surfaces_once(tmp_path, monkeypatch, surface):
    checkpointer = Checkpointer(tmp_path, Config())
    checkpointer.save(1, make_state(1), wait=True)

    def fail(directory, host):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(arrays, "write", fail)
        checkpointer.save(2, make_state(2))
        call = {
            "save": lambda: checkpointer.save(3, make_state(3)),
            "restore": lambda: checkpointer.restore(1, make_state(0)),
        }.get(surface) or getattr(checkpointer, surface)
        with pytest.raises(InfrastructureError, match="000002 was not saved: .*No spa"):
            call()
    checkpointer.close()
    assert checkpointer.latest_good() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["000001"]


@pytest.mark.parametrize("step", [10, 9])
def test_a_step_that_is_there_or_lower_is_refused(checkpointer, step):
    checkpointer.save(10, make_state(10), wait=True)
    with pytest.raises(ValueError, match=f"refusing to save step {step}: .* at 10"):
        checkpointer.save(step, make_state(step))
    with (
        Checkpointer(checkpointer.directory, Config()) as reopened,
        pytest.raises(ValueError, match="refusing"),
    ):
        reopened.save(step, make_state(step))


def test_the_directory_is_named_after_the_updates_it_holds(checkpointer):
    with pytest.raises(ValueError, match=r"save step 100: state\.step=101"):
        checkpointer.save(100, make_state(101))
    assert checkpointer.steps() == []


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"a": {"b": 3}}, "a/b: int is not an array"),
        ({"a": np.array([None])}, "a: dtype object"),
        ({"a/b": np.zeros(2)}, "a/b: ambiguous"),
        ({"key": jax.random.key(0)}, "key: .*key_data"),
    ],
)
def test_leaves_are_checked_before_anything_is_written(checkpointer, state, reason):
    with pytest.raises((TypeError, ValueError), match=reason):
        checkpointer.save(1, state)
    checkpointer.save(1, make_state(1), wait=True)  # still usable
    assert checkpointer.steps() == [1]


def test_a_donated_state_is_refused(checkpointer):
    x = jnp.arange(4.0)
    x.delete()
    with pytest.raises(TypeError, match="x: already donated"):
        checkpointer.save(1, {"x": x})


def drop(state):
    return state._replace(params={"encoder": state.params["encoder"]})


def widen(state):
    return make_state(0, width=6)


def cast(state):
    return state._replace(params=jax.tree.map(jnp.float16, state.params))


def deepen(state):
    return state._replace(params={**state.params, "block_1": {"scale": jnp.ones(3)}})


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (drop, ["params/head/kernel: unexpected, only in the checkpoint", "model.*"]),
        (deepen, ["params/block_1/scale: missing in the checkpoint", "model.*"]),
        (widen, ["params/encoder/kernel: shape [4, 8] in the checkpoint, [6, 8] here"]),
        (cast, ["encoder/scale: dtype float32 in the checkpoint, float16 here"]),
        (lambda s: s._replace(ema=None), ["ema/head/kernel", "train.ema_decay"]),
        (
            lambda s: s._replace(opt_state=OPTIMIZER.init({"encoder": 1.0, "head": 1})),
            ["opt_state/1/inner_state/0/mu/encoder", "optim.*"],
        ),
    ],
)
def test_every_difference_from_the_target_is_named(checkpointer, change, reasons):
    checkpointer.save(1, make_state(1), wait=True)
    with pytest.raises(CheckpointMismatch) as error:
        checkpointer.restore(1, jax.eval_shape(lambda: change(make_state(0))))
    for reason in reasons:
        assert reason in str(error.value)


def test_a_long_list_of_differences_is_cut_but_keeps_the_hint(checkpointer):
    checkpointer.save(1, {"params": {str(i): np.zeros(1) for i in range(99)}})
    with pytest.raises(CheckpointMismatch, match=r"\(99 differences\)") as error:
        checkpointer.restore(1, {})
    lines = str(error.value).splitlines()
    assert len(lines) == 22
    assert "model.*" in lines[-1]


def test_extras_and_metrics_come_back(checkpointer):
    extras = {"config.json": {"seed": 3}, "data.json": '{"epoch": 1}', "x.bin": b"\0\n"}
    checkpointer.save(
        1, make_state(1), extras=extras, metrics={"loss": float("nan"), "bleu": 3}
    )
    assert checkpointer.latest_good() == 1
    expected = {"config.json": {"seed": 3}, "data.json": {"epoch": 1}, "x.bin": b"\0\n"}
    assert checkpointer.extras(1) == expected
    metrics = checkpointer.metrics(1)
    assert np.isnan(metrics["loss"])
    assert metrics["bleu"] == 3.0


@pytest.mark.parametrize("name", ["../x", "a/b", "manifest.json", "state", "", ".x"])
def test_an_extra_cannot_leave_the_checkpoint_or_hide_a_file(checkpointer, name):
    with pytest.raises(ValueError, match="cannot be the name of a file"):
        checkpointer.save(1, make_state(1), extras={name: b""})


LOSSES = {1: 3.0, 2: 1.0, 3: 5.0, 4: float("nan"), 5: 2.0, 6: 4.0, 7: 6.0}


@pytest.mark.parametrize(
    ("metric", "keep", "keep_best", "kept"),
    [
        ("loss", 2, 0, [6, 7]),
        ("loss", 2, 1, [2, 6, 7]),
        ("loss", 1, 2, [2, 5, 7]),
        ("bleu", 2, 1, [6, 7]),
        ("bleu", 1, 3, [3, 6, 7]),
        ("nll", 1, 3, [7]),  # never measured
    ],
)
def test_the_newest_and_the_best_are_kept(tmp_path, metric, keep, keep_best, kept):
    cfg = Config(metric=metric, keep=keep, keep_best=keep_best)
    scores = {"loss": min, "bleu": max}
    with Checkpointer(tmp_path, cfg, scores) as checkpointer:
        for step, value in LOSSES.items():
            metrics = {"loss": value, "bleu": value}
            checkpointer.save(step, {"x": np.zeros(1)}, metrics=metrics)
        assert checkpointer.latest_good() == 7
        assert checkpointer.steps() == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{step:06d}" for step in kept
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [("keep", 0), ("keep_best", -1), ("every_steps", 0)],
)
def test_an_impossible_setting_names_its_knob(field, value):
    wrong = section(Config)
    wrong[field] = value
    with pytest.raises(ConfigError, match=rf"checkpoint\.{field}={value!r}"):
        build(Config, wrong, "checkpoint")


def test_an_unverified_restore_is_a_choice(tmp_path):
    with Checkpointer(tmp_path, Config()) as checkpointer:
        checkpointer.save(1, make_state(1), extras={"note.json": [1]}, wait=True)
    (tmp_path / "000001" / "note.json").write_text("[\n 2\n]")
    with Checkpointer(tmp_path, Config()) as strict, pytest.raises(CorruptCheckpoint):
        strict.restore(1, make_state(0))
    with Checkpointer(tmp_path, Config(verify=False)) as trusting:
        assert_same(
            trusting.restore(trusting.latest_good(), make_state(0)), make_state(1)
        )


def test_parameters_load_from_a_workdir_a_directory_or_one_checkpoint(tmp_path):
    directory = tmp_path / "checkpoints"
    with Checkpointer(directory, Config()) as checkpointer:
        checkpointer.save(1, make_state(1))
        checkpointer.save(2, make_state(2)._replace(ema=make_state(9).params))
    for path, step in [(tmp_path, 2), (directory, 2), (directory / "000001", 1)]:
        params = load_params(path)
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(params))
        del params["encoder"]["scale"]  # plain dicts, not frozen ones
        np.testing.assert_array_equal(
            params["head"]["kernel"], make_state(step).params["head"]["kernel"]
        )
    kernel = load_params(tmp_path, ema=True)["encoder"]["kernel"]
    np.testing.assert_array_equal(kernel, make_state(9).params["encoder"]["kernel"])


def test_loading_parameters_skips_a_bad_checkpoint_and_changes_nothing(tmp_path):
    with Checkpointer(tmp_path, Config()) as checkpointer:
        checkpointer.save(1, make_state(1, ema=False))
        checkpointer.save(2, make_state(2))
    (tmp_path / "000002" / "metrics.json").write_text("{ }")
    assert find(tmp_path) == tmp_path / "000001"
    assert (tmp_path / "000002").exists()
    with pytest.raises(CorruptCheckpoint, match="metrics.json"):
        load_params(tmp_path / "000002")
    with pytest.raises(KeyError, match="train.ema_decay"):
        load_params(tmp_path, ema=True)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_params(tmp_path / "000001" / "state")


def test_the_average_is_the_float64_mean_in_the_dtype_of_the_parameters(tmp_path):
    steps = range(1, 6)
    with Checkpointer(tmp_path, Config(keep=5)) as checkpointer:
        for step in steps:
            checkpointer.save(step, make_state(step))
    params = average([tmp_path / f"{step:06d}" for step in steps])
    for part in ("encoder", "head"):
        kernels = [make_state(step).params[part]["kernel"] for step in steps]
        mean = np.mean([np.asarray(kernel, np.float64) for kernel in kernels], axis=0)
        assert params[part]["kernel"].dtype == kernels[0].dtype
        np.testing.assert_array_equal(
            params[part]["kernel"], mean.astype(kernels[0].dtype)
        )


def test_checkpoints_of_different_models_are_not_averaged(tmp_path):
    with Checkpointer(tmp_path, Config()) as checkpointer:
        checkpointer.save(1, make_state(1))
        checkpointer.save(2, make_state(2, width=6))
    with pytest.raises(ValueError, match="encoder/kernel: shape"):
        average([tmp_path / "000001", tmp_path / "000002"])


def test_the_manifest_says_what_is_inside(checkpointer):
    checkpointer.save(3, make_state(3), wait=True)
    manifest = json.loads((checkpointer.path(3) / "manifest.json").read_text())
    assert manifest["step"] == 3
    assert manifest["versions"]["jax"] == jax.__version__
    kernel = manifest["tree"]["params/head/kernel"]
    assert kernel == {"shape": [8, 4], "dtype": "bfloat16"}
