"""Runs of a recurrent model: stopped, on several devices, together, in bfloat16.

With dropout, and with tokens of its own read in half of the places.
"""

import functools
import json

import numpy as np
import pytest

from tests.reliability import tiny
from tfm_jax.config import section
from tfm_jax.models import rnn_seq2seq
from tfm_jax.runs.log import read_history
from tfm_jax.runs.process.exits import Preempted
from tfm_jax.runs.storage import arrays, manifest
from tfm_jax.train import finish, loop, population

SIZES = dict(width=8, embedding_width=6, dropout=0.2, teacher_forcing=0.5)
UNSCORED = dict(eval__every_steps=100)


def config(**changes):
    model = section(rnn_seq2seq.Config, **SIZES | changes.pop("model", {}))
    shared = dict(
        **dict(train__total_steps=7, eval__every_steps=4, checkpoint__every_steps=2),
        **dict(train__log_every_steps=1, train__skip_limit=3),
    )
    return tiny.get_config(model_name="rnn_seq2seq", model=model, **shared | changes)


@pytest.fixture(scope="module", autouse=True)
def quick():
    with tiny.quick(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "finish", leave)
        yield


def leave(run, log):
    (run.workdir / "results.json").write_text(json.dumps({"step": run.step}))
    return {}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "unbroken"
    assert tiny.run(workdir, config())
    return workdir


@pytest.fixture(scope="module")
def wanted(unbroken):
    return tiny.digests(unbroken)


def newest(workdir):
    folder = max(workdir.glob("checkpoints/" + "[0-9]" * 6))
    return arrays.read(folder / "state", manifest.read(folder)["tree"])


def assert_close(workdir, other):
    """The same up to the order of sums."""
    actual, expected = newest(workdir), newest(other)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(
            actual[name], value, rtol=1e-3, atol=1e-4, err_msg=name
        )


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5, 6])
def test_a_run_stopped_anywhere_goes_on_bit_for_bit(wanted, tmp_path, cut):
    assert not tiny.run(tmp_path, config(), stop=(cut,))
    assert tiny.run(tmp_path, config())
    assert tiny.digests(tmp_path) == wanted


@pytest.mark.parametrize("devices", [2, 8])
def test_devices_draw_the_coins_and_the_dropout_that_one_draws(
    unbroken, tmp_path, devices
):
    spread = config(mesh__data=devices, mesh__cpu_devices=devices, **UNSCORED)
    assert tiny.run(tmp_path, spread)
    assert_close(tmp_path, unbroken)


def test_members_of_a_population_are_the_runs_they_would_be_alone(unbroken, tmp_path):
    folders = [tmp_path / name for name in "abc"]
    configs = [config(seed=seed) for seed in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        step = functools.lru_cache(population.make_step)
        patch.setattr(population, "make_step", step)
        with patch.context() as stopped:
            stopped.setattr(loop, "Preemption", lambda: tiny.StopAt((3,)))
            with pytest.raises(Preempted):
                population.train(configs, folders)
        population.train(configs, folders)
    assert_close(folders[0], unbroken)
    losses = [
        [r["loss"] for r in read_history(f) if r["kind"] == "train"] for f in folders
    ]
    assert len({tuple(each) for each in losses}) == 3


def test_in_bfloat16_a_run_learns_and_goes_on_bit_for_bit(tmp_path):
    rough = dict(model=dict(dtype="bfloat16", cell="lstm"))
    folders = [tmp_path / name for name in "ab"]
    assert tiny.run(folders[0], config(**rough))
    assert not tiny.run(folders[1], config(**rough), stop=(3,))
    assert tiny.run(folders[1], config(**rough))
    assert tiny.digests(folders[0]) == tiny.digests(folders[1])
    losses = [r["loss"] for r in read_history(folders[0]) if r["kind"] == "train"]
    assert losses[-1] < losses[0]
