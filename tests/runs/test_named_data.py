"""A workdir from somebody else does not have files of this machine read unasked."""

import pytest

from tests.reliability.tiny import get_config
from tfm_jax import api, main
from tfm_jax.config import ConfigError, to_json
from tfm_jax.runs import named_data
from tfm_jax.settings.configure import configure
from tfm_jax.settings.experiment import resolve


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def workdir(tmp_path):
    return tmp_path / "run"


def foreign(name="/etc/secrets.tsv"):
    return resolve(get_config(data__source="parallel", data__train_files=(name,)))


def test_files_that_only_the_run_names_are_not_read(workdir):
    with pytest.raises(
        ConfigError, match="data.train_files=.*secrets.*trust_data=true"
    ):
        named_data.check(foreign(), (), workdir)
    named_data.check(foreign(), ("data.train_files",), workdir)
    named_data.check(resolve(get_config()), (), workdir)  # it names nothing


def test_files_that_the_user_has_trained_on_are_read(workdir):
    named_data.remember(foreign("mine.tsv"))
    named_data.check(foreign("mine.tsv"), (), workdir)
    with pytest.raises(ConfigError, match="secrets"):
        named_data.check(foreign(), (), workdir)


def test_what_a_run_starts_from_is_named_until_it_has_begun(workdir):
    """Its checkpoints have the parameters and the tokenizer."""
    starts = resolve(get_config(init_from="/home/me/model"))
    with pytest.raises(ConfigError, match="init_from='/home/me/model' is named by"):
        named_data.check(starts, (), workdir)
    (workdir / "checkpoints" / "000001").mkdir(parents=True)
    named_data.check(starts, (), workdir)
    with pytest.raises(ConfigError, match="secrets"):
        named_data.check(foreign(), (), workdir)


def test_a_judge_is_read_whenever_a_run_goes_on(workdir):
    (workdir / "checkpoints" / "000001").mkdir(parents=True)
    evaluation = {"judge": "/home/me/judge"}
    drawn = resolve(configure("dit", "denoise", eval=evaluation))
    with pytest.raises(ConfigError, match="eval.judge='/home/me/judge' is named by"):
        named_data.check(drawn, (), workdir)
    named_data.check(drawn, ("eval.judge",), workdir)


def test_a_cache_that_others_write_to_vouches_for_nothing(tmp_path, workdir):
    named_data.remember(foreign())
    (tmp_path / "cache" / "tfm_jax" / "named_data").chmod(0o777)
    with pytest.raises(ConfigError, match="secrets"):
        named_data.check(foreign(), (), workdir)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_command_asks_and_opens_nothing(mode, workdir, capsys):
    workdir.mkdir()
    (workdir / "config.json").write_text(to_json(foreign().as_dict()))
    assert main.main([f"--workdir={workdir}", f"--mode={mode}"]) == 78
    error = capsys.readouterr().err
    assert "--trust_data=true" in error and error.count("\n") == 1
    assert [path.name for path in workdir.iterdir()] == ["config.json"]


@pytest.mark.parametrize("flags", [(), ("--each.seed=0,1",)])
def test_what_is_forked_may_be_of_somebody_else_too(flags, workdir, tmp_path, capsys):
    """Neither a run like it, nor a study, has the files read that it names."""
    workdir.mkdir()
    (workdir / "config.json").write_text(to_json(foreign().as_dict()))
    new = ",".join(f"{tmp_path}/{n}" for n in range(1 + bool(flags)))
    command = [f"--config={workdir}", f"--workdir={new}", *flags]
    assert main.main(command) == 78
    error = capsys.readouterr().err
    assert "--trust_data=true" in error and error.count("\n") == 1
    assert not (tmp_path / "0").exists()
    if not flags:
        with pytest.raises(ConfigError, match="secrets"):
            api.read_command(command)
        named = "--config.data.train_files=mine.tsv"
        made = api.read_command([*command, named]).experiment
        assert made.data.train_files == ("mine.tsv",)


def test_a_file_of_ones_own_is_scored_without_a_question(workdir, capsys):
    workdir.mkdir()
    (workdir / "config.json").write_text(to_json(foreign().as_dict()))
    flags = [f"--workdir={workdir}", "--mode=eval", "--input=a", "--reference=b"]
    assert main.main(flags) != 0  # nothing was trained
    assert "--trust_data" not in capsys.readouterr().err
