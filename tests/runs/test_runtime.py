"""Where compiled programs are kept between runs, and where they are not."""

import importlib
import os

import jax
import pytest
from jax._src import xla_bridge

import tfm_jax
from tests.reliability import tiny
from tfm_jax import main
from tfm_jax.runs.process import libtpu, runtime

KEPT = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user without a cache yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = {name: getattr(jax.config, name) for name in KEPT}
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)


def test_compiled_programs_are_kept_for_the_user_alone(home, caplog):
    runtime.prepare()
    assert jax.config.jax_compilation_cache_dir == str(home / "tfm_jax" / "xla")
    assert (home / "tfm_jax" / "xla").stat().st_mode & 0o777 == 0o700
    assert not caplog.records


def test_a_cache_that_others_may_write_to_is_not_used_with_a_word(home, caplog):
    (home / "tfm_jax" / "xla").mkdir(parents=True)
    (home / "tfm_jax" / "xla").chmod(0o777)
    runtime.prepare()
    assert jax.config.jax_compilation_cache_dir is None
    assert "others may write to" in caplog.text


def test_without_a_cache_runs_start_all_the_same(home, caplog):
    (home / "tfm_jax").write_text("no folder")
    runtime.prepare()
    assert jax.config.jax_compilation_cache_dir is None
    assert "compiled programs are not kept" in caplog.text


@pytest.mark.parametrize("there", [False, True])
def test_the_compiler_for_tpus_is_told_where_there_is_none(there, monkeypatch):
    """Else it complains in every process; on a machine with TPUs it asks that."""
    monkeypatch.setattr(os, "environ", {"TPU_MIN_LOG_LEVEL": "0"})
    monkeypatch.setattr(libtpu.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(libtpu, "has_tpu", lambda: there)
    importlib.reload(tfm_jax)  # as any program that uses it does
    assert ("TPU_WORKER_HOSTNAMES" in os.environ) == (not there)
    assert os.environ["TPU_MIN_LOG_LEVEL"] == "0", "what somebody has said stays"


class Prepared(Exception):
    """The process has been prepared."""


@pytest.mark.parametrize(
    "flags",
    [
        "--workdir={}/a",
        "--workdir={0}/a,{0}/b --each.seed=0,1",
        "--workdir={0}/a,{0}/b --each.seed=0,1 --config.mesh.cpu_devices=2",
        "--mode=dry_run",
        "--mode=compile --topology=cpu:2",
    ],
)
def test_no_device_is_asked_for_before_it_is_said_which_there_are(
    flags, tmp_path, monkeypatch
):
    """A backend that is up keeps its devices, whatever ``mesh`` says."""

    def prepare(*_):
        raise Prepared

    monkeypatch.setattr(runtime, "prepare", prepare)
    monkeypatch.setattr(xla_bridge, "get_backend", lambda *_: pytest.fail("too early"))
    argv = [f"--config={tiny.__file__}", *flags.format(tmp_path).split()]
    with pytest.raises(Prepared):
        main.run(*main.parse(argv))


@pytest.mark.parametrize(
    "flags, words",
    {
        "--each.seed=0,1 --config.mesh.processes=2": "mesh.processes=2: a population",
        "--each.optim.peak_lr=0.1,0.2x": "--each.optim.peak_lr=0.2x; expected",
        "--each.optim.warmup_steps=1,2": "choose from (seed, optim.peak_lr)",
    }.items(),
)
def test_what_no_population_can_be_is_one_line(flags, words, tmp_path, capsys):
    argv = [f"--config={tiny.__file__}", f"--workdir={tmp_path}/a,{tmp_path}/b"]
    assert main.main([*argv, *flags.split()]) == 78
    assert words in capsys.readouterr().err
