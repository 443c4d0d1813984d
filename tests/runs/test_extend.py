"""A finished run goes on for more steps, once, as asked; its record says so."""

import pytest

from tests.reliability import tiny
from tfm_jax import main
from tfm_jax.config import ConfigError, load_run
from tfm_jax.runs.extend import extended, finished
from tfm_jax.runs.log import MetricsLog, read_history
from tfm_jax.runs.workdir import replace
from tfm_jax.settings.experiment import resolve


@pytest.fixture(scope="module", autouse=True)
def quick():
    with tiny.quick():
        yield


def end(workdir, step):
    """What the last evaluation leaves, which ``quick`` leaves out."""
    with MetricsLog(workdir, step=step, trackers=()) as log:
        log.write(step, "final_valid", {"nll": 1.0})
    replace(workdir / "results.json", {"step": step})


def begun(workdir):
    short = dict(train__total_steps=10, optim__schedule="cosine")
    assert tiny.run(workdir, tiny.get_config(**short, optim__warmup_steps=2))
    end(workdir, 10)


def extend(workdir, stop=()):
    return tiny.run(workdir, extended(load_run(workdir), workdir, 5), stop=stop)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Workdir of a run of 10 steps, and 5 more without a break."""
    workdir = tmp_path_factory.mktemp("whole")
    begun(workdir)
    assert extend(workdir)
    return workdir


def test_the_record_shows_the_extension_and_what_the_rate_does(whole):
    train = resolve(load_run(whole)).train
    assert (train.total_steps, train.extended_at) == (15, 10)
    (record,) = [r for r in read_history(whole) if r["kind"] == "extended"]
    assert (record["step"], record["schedule"]) == (10, "cosine")
    assert (record["total_steps_before"], record["total_steps"]) == (10, 15)
    assert record["learning_rate_before"] == 0.0 < record["learning_rate"]
    finals = [r["step"] for r in read_history(whole) if r["kind"] == "final_valid"]
    assert finals == [10], "the scores of the former end stay"


def test_the_same_command_after_a_stop_extends_no_second_time(whole, tmp_path, capsys):
    begun(tmp_path)
    assert not extend(tmp_path, stop=[12])
    said = "train.total_steps=15, 10 before: with optim.schedule='cosine' the learning"
    (line,) = [x for x in capsys.readouterr().out.splitlines() if said in x]
    assert "jumps at step 10 from 0.0e+00 to " in line
    with pytest.raises(ConfigError, match="has made 12 of 15 steps; it goes on with"):
        extended(load_run(tmp_path), tmp_path, 6)
    assert extend(tmp_path)
    assert said not in capsys.readouterr().out, "once"
    assert tiny.digests(tmp_path) == tiny.digests(whole)


def test_a_kill_before_the_first_new_checkpoint_is_no_end_either(whole, tmp_path):
    """The configuration is written first: it says how long the run shall be."""
    begun(tmp_path)
    config = extended(load_run(tmp_path), tmp_path, 5)
    replace(tmp_path / "config.json", config.to_dict())
    assert extended(load_run(tmp_path), tmp_path, 5) == config
    assert tiny.run(tmp_path, load_run(tmp_path)), "without the flag, too"
    assert tiny.digests(tmp_path) == tiny.digests(whole)
    assert extended(load_run(tmp_path), tmp_path, 5) == config, "not yet scored"
    end(tmp_path, 15)
    again = extended(load_run(tmp_path), tmp_path, 7).train
    assert (again.total_steps, again.extended_at) == (22, 15)


def test_what_has_not_finished_is_not_extended(whole, tmp_path):
    config = tiny.get_config()
    for step in (None, 10):  # no results, and those of another length
        assert not finished(tmp_path, 40)
        with pytest.raises(ConfigError, match="--extend=5.*has made 0 of 40 steps"):
            extended(config, tmp_path, 5)
        if step is None:
            replace(tmp_path / "results.json", {"step": 10})
    replace(tmp_path / "results.json", {"step": 40})  # its checkpoints are gone
    with pytest.raises(ConfigError, match="has made 0 of 40 steps"):
        extended(config, tmp_path, 5)


@pytest.mark.parametrize(
    "flag", ["--config=x.py", "--config.train.total_steps=9", "--each.seed=1,2"]
)
def test_what_says_otherwise_how_the_run_goes_on_is_refused(flag, capsys):
    assert main.main(["--workdir=w,v", "--extend=5", flag]) == 78
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "take --config" in error or "--each needs --config" in error
