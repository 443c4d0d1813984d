"""Where compiled programs are kept between runs, and where they are not."""

import os

import jax
import pytest

from tfm_jax.runs.process import runtime

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
    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(runtime, "has_tpu", lambda: there)
    runtime.prepare()
    assert ("TPU_WORKER_HOSTNAMES" in os.environ) == (not there)
    assert os.environ["TPU_MIN_LOG_LEVEL"] == "0", "what somebody has said stays"
