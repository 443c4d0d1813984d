"""A profile is of the steps that were asked for."""

import functools
import gzip
import json

import jax
import pytest

from tests.reliability import tiny
from tfm_jax import main
from tfm_jax.config import ConfigError
from tfm_jax.train import loop
from tfm_jax.train.costs.profile import Profile


@pytest.mark.parametrize("asked", ["5", "a,b", "-1,3", "0,3", "3,0", "39,3", "1,2,3"])
def test_steps_that_are_none_of_the_run_are_refused(asked, tmp_path):
    with pytest.raises(ConfigError, match=f"--profile={asked}"):
        Profile(asked, 40, tmp_path)


@pytest.fixture
def without_programs(monkeypatch):
    """Profiles leave out what this process has compiled for other tests."""
    options = jax.profiler.ProfileOptions()
    options.enable_hlo_proto = False
    start = functools.partial(jax.profiler.start_trace, profiler_options=options)
    monkeypatch.setattr(jax.profiler, "start_trace", start)


def test_a_profile_has_the_steps_and_opens_in_tensorboard_and_perfetto(
    tmp_path, without_programs
):
    with tiny.quick():
        loop.train(tiny.get_config(train__total_steps=5), tmp_path, profile="3,2")
    (folder,) = (tmp_path / "profile" / "plugins" / "profile").iterdir()
    assert list(folder.glob("*.xplane.pb")), "which TensorBoard reads"
    with gzip.open(folder / "perfetto_trace.json.gz") as file:
        events = json.load(file)["traceEvents"]
    steps = [e["args"]["step_num"] for e in events if "step_num" in e.get("args", {})]
    assert sorted(set(map(int, steps))) == [3, 4]


def test_several_runs_in_one_program_have_no_profile(capsys):
    argv = ["--config=configs/transformer_numerals.py", "--workdir=a,b"]
    assert main.main([*argv, "--each.seed=0,1", "--profile=1,1"]) == 78
    assert "--profile is for one run" in capsys.readouterr().err
