"""Mistakes in a study and around it: one line, before anything runs."""

import functools
import json
import os
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import run, study_file
from experiments.costs import sizes
from experiments.engines import batch, submit
from experiments.plan import Plan
from experiments.statistics import verdicts
from experiments.study import on
from tests.experiments import tiny_study
from tests.reliability.tiny import get_config
from tfm_jax import interop
from tfm_jax.api import ConfigError
from tfm_jax.runs.sources import Source
from tfm_jax.settings.experiment import resolve

TINY = str(Path(__file__).with_name("tiny_study.py"))


@pytest.fixture(scope="module", autouse=True)
def at_root(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.config.rootpath)
        yield


BROKEN = {
    "syntax": ("def get_study(:", "line 3: invalid syntax"),
    "import": ("import no_such_module", "line 3: ModuleNotFoundError"),
    "no function": ("x = 1", "defines no get_study(scale)"),
    "name": ("def get_study(scale):\n    return nothing", "line 4: NameError"),
    "key": ("def get_study(scale):\n    return {}['x']", "line 4: KeyError: 'x'"),
    "no study": ("def get_study(scale): return 5", "returned no Study"),
    "fields": (
        "from experiments.study import Study\ndef get_study(scale): return Study(1)",
        "TypeError: Study.__init__() missing",
    ),
    "field": (
        "from experiments.study import Study\nget_study = lambda s: Study(seosi=s)",
        "line 4: TypeError: Study.__init__() got an unexpected keyword argument 'seosi'"
        "; did you mean 'sesoi'?",
    ),
    "no field": (
        "from experiments.study import Study\nget_study = lambda s: Study(overrides=s)",
        "keyword argument 'overrides'; it has config, arms, baseline, seeds, metric",
    ),
    "zero": ("1 / 0", "ZeroDivisionError"),
}


@pytest.mark.parametrize("body, words", BROKEN.values(), ids=BROKEN)
def test_a_broken_study_file_is_one_line(tmp_path, body, words, capsys):
    path = tmp_path / "my: study.py"
    path.write_text(f'"""Is it?\n"""\n{body}\n')
    for argv in ([str(path)], [f"{path}:cpu", "plan"]):
        assert run.main([*argv, f"--out={tmp_path / 'out'}"]) == 78
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def changed(folder, **changes):
    """The path of a study file: the tiny one with some fields changed."""
    folder.mkdir(exist_ok=True)
    path = folder / "changed.py"
    path.write_text(
        '"""Is it?\n\nNobody 2026."""\n'
        "from experiments.study import *\n"
        "from tests.experiments.tiny_study import _study\n"
        f"def get_study(scale):\n    return _study(**{changes!r})\n"
    )
    return str(path)


@pytest.mark.parametrize("command", ["plan", "run", "retry"])
def test_a_metric_that_no_run_will_have_is_refused_first(tmp_path, command, capsys):
    study = changed(tmp_path, metric="valid/nlll")
    assert run.main([study, command, f"--out={tmp_path}"]) == 78
    said = capsys.readouterr().err
    assert "metric='valid/nlll'; choose from" in said
    assert "did you mean 'valid/nll'?" in said and "test/nll" in said
    assert not list(tmp_path.rglob("attempts"))


def test_what_an_expectation_measures_is_checked_too(tmp_path, capsys):
    expect = (on("valid/perplexityy", tiny_study._study().expect[0]),)
    study = changed(tmp_path, expect=expect)
    assert run.main([study, "plan", f"--out={tmp_path}"]) == 78
    assert "did you mean 'valid/perplexity'" in capsys.readouterr().err


def test_published_findings_need_a_source_and_others_show_none(tmp_path):
    path = Path(changed(tmp_path))
    path.write_text(path.read_text().replace("Nobody 2026", "Nobody"))
    with pytest.raises(ConfigError, match="names no source and its year"):
        study_file.read(str(path))
    for expect in ("()", "(check(better('fast', 'slow', 'faster')),)"):
        ours = f"**{{'expect': {expect}}}"
        path.write_text(re.sub(r"\*\*\{.*\}", ours, path.read_text()))
        assert study_file.read(str(path)).source == ""


def test_what_an_arm_sets_of_a_first_run_it_must_have_one_for(tmp_path, capsys):
    arms = {"fast": {"first.model.width": 8}, "slow": {}}
    assert run.main([changed(tmp_path, arms=arms), "plan", f"--out={tmp_path}"]) == 78
    assert "first.model.width=8, but first=''" in capsys.readouterr().err


def test_what_is_set_of_a_first_run_is_refused_without_one(tmp_path, capsys):
    setting = "--set=config.first.model.dept=9"
    assert run.main([TINY, "plan", setting, f"--out={tmp_path}"]) == 78
    assert "first.model.dept='9', but first=''" in capsys.readouterr().err


def test_arms_whose_settings_come_to_the_same_are_told(tmp_path, capsys):
    """Also where they differ in what changes no number, as how much is kept."""
    arms = {"fast": {}, "slow": {"model.norm": "post"}, "kept": {"checkpoint.keep": 5}}
    study = changed(tmp_path, arms=arms)
    assert run.main([study, "plan", f"--out={tmp_path}"]) == 0
    words = "Arms fast, slow and kept have identical runs."
    assert words in capsys.readouterr().out
    assert words in verdicts.analyse(Plan.load(study, tmp_path))["caveat"]


def test_all_arms_may_stop_early_or_none(tmp_path, capsys):
    arms = {"fast": {"train.stop_patience": 3}, "slow": {"optim.peak_lr": 1e-5}}
    assert run.main([changed(tmp_path, arms=arms), "plan", f"--out={tmp_path}"]) == 78
    said = capsys.readouterr().err
    assert "train.stop_patience=3: arm 'fast' may stop early, arm 'slow'" in said


@pytest.mark.parametrize(
    "settings, code, words",
    [
        (
            {"data.train_files": ("absent.tsv",), "data.source": "parallel"},
            65,
            "absent",
        ),
        ({"init_from": "absent"}, 78, "init_from='absent'"),
    ],
)
def test_missing_files_are_one_line(tmp_path, settings, code, words, capsys):
    study = changed(tmp_path, settings={**tiny_study.SMALL, **settings})
    assert run.main([study, "plan", f"--out={tmp_path}"]) == code
    said = capsys.readouterr().err
    assert words in said and "arm 'fast'" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "argv, code, words",
    [
        (["--engine=slurm", "--out={}/a b"], 78, "must match"),
        (["--engine=slurm", "--out={}"], 69, "no sbatch here"),
        (["--engine=slurm", "--engine-option=x", "--out={}"], 78, "NAME=VALUE"),
        (["--engine=kubernetes", "--jobs=-1", "--out={}", *(
            "--engine-option=image=a", "--engine-option=claim=b"
        )], 78, "jobs=-1"),
        (["--out={}/file"], 69, "Not a directory"),
        (["one", "--index=7", "--out={}"], 65, "no plan.json"),
    ],
)  # fmt: skip
def test_what_cannot_be_submitted_or_written_is_one_line(
    tmp_path, monkeypatch, argv, code, words, capsys
):
    monkeypatch.setattr(sizes, "measure", lambda _: tiny_study.SIZE)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "file").touch()
    argv = [word.format(tmp_path) for word in argv]
    assert run.main([TINY, *argv]) == code
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_to_be_stopped_while_it_plans_is_one_line(number, monkeypatch, capfd):
    """Before and after the runs; ``os._exit`` is in place of the end."""
    monkeypatch.setattr(run, "main", lambda _: signal.raise_signal(number))
    monkeypatch.setattr(run, "install", lambda: None)
    monkeypatch.setattr(os, "_exit", sys.exit)
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(SystemExit) as ended:
            run.program()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert ended.value.code == 75
    assert capfd.readouterr().err == "experiments: stopped; the same command goes on\n"


def test_a_plan_describes_devices_before_jax_has_its_own(tmp_path, monkeypatch):
    """A backend that is up keeps its devices: ``cpu:2`` would be refused."""
    monkeypatch.setattr(run.Plan, "load", lambda *_, **__: pytest.fail("too early"))
    with pytest.raises(ConfigError, match="cpu:4096"):
        run.main.__wrapped__([TINY, "plan", "--topology=cpu:4096"])


def test_a_run_that_the_plan_does_not_list_is_refused(tmp_path, capsys):
    root = tmp_path / "tiny_study-cpu"
    root.mkdir()
    listed = {"cells": [{"id": "0" * 12, "directory": "x"}]}
    (root / "plan.json").write_text(json.dumps(listed))
    for index, words in ((1, "lists 0 to 0"), (0, "no run of the study any more")):
        assert run.main([TINY, "one", f"--index={index}", f"--out={tmp_path}"]) == 78
        assert words in capsys.readouterr().err


@given(
    st.lists(st.text(), max_size=3),
    st.lists(st.integers(0, 2**31 - 1), max_size=3),
    st.text().filter(lambda text: "\0" not in text),
)
def test_a_scheduler_is_told_the_study_as_it_was_given(settings, seeds, out):
    """Through the shell of a batch script, and that of a pod."""
    given = [f"--set={text}" for text in settings]
    given += [f"--seeds={''.join(f'{seed},' for seed in seeds)}"] * bool(seeds)
    options = run.parse(["positions:cpu", *given])
    argv = submit.again(options, None, out)
    script = shlex.join(argv)
    assert shlex.split(script) == argv
    read = run.parse(argv)
    assert read.command == "one" and str(read.out) == str(Path(out))
    for name in ("study", "settings", "seeds"):
        assert getattr(read, name) == getattr(options, name)


def test_a_study_of_ones_own_is_found_from_any_folder(tmp_path, monkeypatch):
    path = changed(tmp_path / "a b")
    monkeypatch.chdir(tmp_path)
    options = run.parse(["a b/changed.py:cpu"])
    found = study_file.read(options.study)
    assert submit.again(options, found, "x")[0] == f"{path}:cpu"


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "content",
    [
        *(b"[" * 100_000, b'{"study": 3, "x": []}', b"\0"),
        *(b'{"study": {"looks": [3, 6]}}', b'{"study": {"seeds": 3, "looks": 5}}'),
    ],
)
def test_damaged_files_of_a_study_are_set_aside(
    tmp_path, content, recwarn, monkeypatch
):
    monkeypatch.setattr(sizes, "measure", lambda _: tiny_study.SIZE)
    plan = Plan.load(TINY, tmp_path)
    plan.root.mkdir()
    for name in ("study.json", "plan.json", "sizes.json"):
        (plan.root / name).write_bytes(content)
    [lost] = plan.register()
    assert "what had been registered is not known" in lost
    assert batch.write_plan(plan) == [c.id for c in plan.cells()]
    assert plan.sizes["fast"]["parameters"] > 0
    assert plan.register() == [lost], "and nothing more"
    for name in ("study.json", "plan.json"):
        assert (plan.root / f"{name}.damaged").read_bytes() == content
    assert len({str(w.message) for w in recwarn}) in (2, 3)


def test_a_start_of_another_architecture_is_refused_by_the_plan(
    tmp_path, monkeypatch, capsys
):
    """A run would take it over; a plan counts the costs of the configuration."""
    settings = {**tiny_study.SMALL, "init_from": str(tmp_path)}
    study = changed(tmp_path, settings=settings)
    there = resolve(get_config()).model
    read = functools.partial(Source, model_name="transformer", model=there, params={})
    monkeypatch.setattr(interop, "read_initial", lambda path: read(path, tokenizer=0))
    assert run.main([study, "plan", f"--out={tmp_path}"]) == 78
    error = capsys.readouterr().err
    assert f"arm 'fast': init_from='{tmp_path}' is another model: model." in error
    assert "model.ffn_width=16, there 32" in error and error.count("\n") == 1


def test_a_scale_apart_from_its_study_is_told_where_it_belongs(capsys):
    assert run.main(["heads", "relations"]) == 78
    assert "a scale is written heads:relations" in capsys.readouterr().err
