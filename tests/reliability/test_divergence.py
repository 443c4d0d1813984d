"""Updates that are not finite: skipped; the end of the run if they stay so."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.reliability import tiny
from tfm_jax import main, mesh
from tfm_jax.config import ConfigError
from tfm_jax.runs import resume
from tfm_jax.runs.log import read_history
from tfm_jax.runs.process import exits
from tfm_jax.runs.storage import arrays, checkpoint, manifest
from tfm_jax.train import modes
from tfm_jax.train.state import init_state
from tfm_jax.train.step import make_gradients, make_train_step

pytestmark = pytest.mark.usefixtures("compiled_once")


def square(params, batch, *, rng):
    """A loss without model: (sum of squares of what the batch scales, rows)."""
    del rng
    return jnp.sum((params["w"] * batch) ** 2), jnp.float32(batch.shape[0])


def infinite_slope(params, batch, *, rng):
    """Finite where a row is 0, its gradient is not."""
    loss, weight = square(params, batch, rng=rng)
    return loss + jnp.sum(jnp.sqrt(params["w"] * batch)), weight


def small_step(loss_sum):
    optimizer = optax.adam(0.1)
    step = make_train_step(
        make_gradients(loss_sum),
        optimizer,
        lambda count: 0.1,
        ema_decay=0.5,
        skip_limit=3,
    )
    params = {"w": jnp.ones(3)}
    return jax.jit(step), init_state(params, optimizer, seed=0, ema=True)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_gradient_that_is_not_finite_is_skipped_though_the_loss_is():
    step, state = small_step(infinite_slope)
    after, metrics = step(state, jnp.zeros((1, 4, 3)))
    assert np.isfinite(metrics["loss"]) and not np.isfinite(metrics["grad_norm"])
    same((after.params, after.opt_state, after.ema), state[1:4])
    assert after.skipped == 1


def test_a_skipped_step_is_as_if_its_batch_had_not_been():
    step, state = small_step(square)
    good, bad = jnp.ones((1, 4, 3)), jnp.full((1, 4, 3), jnp.nan)
    with_bad = without = state
    for batch in (good, bad, good, good):
        with_bad, _ = step(with_bad, batch)
    for batch in (good, good, good):
        without, _ = step(without, batch)
    same(with_bad[1:4], without[1:4])


@pytest.fixture(scope="module")
def diverged(tmp_path_factory):
    """The workdir, exit code and last words of a run that blows up after its start."""
    folder = tmp_path_factory.mktemp("diverged")
    argv = [f"--config={tiny.__file__}", f"--workdir={folder}"]
    knobs = dict(warmup_steps=0, peak_lr=1e9)
    argv += [f"--config.optim.{name}={value}" for name, value in knobs.items()]
    argv += ["--config.train.skip_limit=4", "--config.train.accumulate_steps=1"]
    return folder, main.main(argv), argv


def first_bad(workdir):
    last = read_history(workdir)[-1]
    return last["step"] - last["streak"] + 1


def test_a_run_whose_updates_stay_not_finite_ends_with_79(diverged):
    workdir, code, _ = diverged
    assert code == exits.DIVERGED
    history = read_history(workdir)
    train = [record for record in history if record["kind"] == "train"]
    assert train[-1]["streak"] >= 4 and not np.isfinite(train[-1]["loss"])
    assert train[-1]["step"] <= 9  # the first log record that can know
    assert [*map(int, os.listdir(workdir / "diverged"))] == [first_bad(workdir) - 1]


def test_the_dump_holds_the_state_before_the_first_bad_update(diverged):
    workdir, _, _ = diverged
    path = resume.diverged(workdir)
    assert checkpoint.verify(path) == []
    names = manifest.read(path)["tree"]
    for name, leaf in arrays.read(path / "state", names).items():
        assert np.isfinite(leaf).all(), name
        if name in ("step", "skipped", "streak"):
            assert leaf == (first_bad(workdir) - 1) * (name == "step")
    with np.load(path / "batch.npz") as batch:
        assert batch["batch/source"].shape == (1, 16, 32)


@pytest.mark.parametrize("fewer", [False, True])
def test_replay_shows_the_bad_update_again(fewer, diverged, monkeypatch, capsys):
    """On a machine with fewer devices than the run had, too: on one of them."""
    workdir, _, _ = diverged

    def make_mesh(cfg, devices=None):
        if fewer and devices is None:
            raise ConfigError("of the 2 devices there are")
        return mesh.make_mesh(cfg, devices)

    monkeypatch.setattr(modes, "make_mesh", make_mesh)
    assert main.main([f"--workdir={workdir}", "--mode=replay"]) == exits.OK
    result = json.loads(capsys.readouterr().out)
    assert not np.isfinite(float(result["loss"]))
    assert (result["skipped"], result["streak"]) == ("1", "1")
    assert result["step"] == first_bad(workdir)
    assert result["not_finite"]
    for name, count in result["not_finite"].items():
        assert name.startswith(("encoder", "decoder", "embed", "source", "target"))
        assert count > 0


def test_a_diverged_run_that_is_started_again_ends_with_79_again(diverged):
    _, _, argv = diverged
    assert main.main(argv) == exits.DIVERGED


def test_a_run_that_has_not_diverged_cannot_be_replayed(diverged, tmp_path, capsys):
    workdir, _, _ = diverged
    (tmp_path / "config.json").write_text((workdir / "config.json").read_text())
    argv = [f"--workdir={tmp_path}", "--mode=replay"]
    assert main.main(argv) == exits.BAD_CONFIG
    assert "has diverged" in capsys.readouterr().err
