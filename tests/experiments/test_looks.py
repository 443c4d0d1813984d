"""Group-sequential studies: batches of seeds until all is decided; nothing trains."""

import dataclasses
import json

import pytest

from experiments import load_study, looks, plan, run, study_file
from experiments.costs import sizes
from experiments.engines import local
from experiments.plan import Plan
from experiments.report import page
from experiments.study import better
from tests.experiments import tiny_study
from tests.experiments.test_plan import (  # at_root is a fixture
    TINY,
    at_root,  # noqa: F401
    content_of,
    write,
)
from tests.experiments.test_study import study
from tfm_jax.api import ConfigError

PLAIN = ["--seeds=3", "--until-decided=9"]


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "measure", lambda _: tiny_study.SIZE)
    monkeypatch.setattr(plan, "score_names", lambda _: ["valid/nll"])
    return tmp_path


@pytest.fixture
def analyses(monkeypatch):
    """Those of which a report would be written, whose figures take their time."""
    written = []
    monkeypatch.setattr(page, "write", lambda report, _: written.append(report))
    return written


def scored(effects):
    """A stand-in for ``local.run``: the seeds' difference instead of training."""

    def train(todo, *_):
        for cell in todo:
            write(cell, cell.seed / 7 - (cell.arm == "fast") * effects[cell.seed])
        return True

    return train


def test_looks_are_as_many_seeds_apart_as_the_study_has():
    five = study(seeds=tuple(range(5)))
    assert looks.until_decided(five, 20).looks == (5, 10, 15, 20)
    assert looks.until_decided(five, 16).looks == (5, 10, 16), "no batch below three"
    assert looks.until_decided(five, 8).looks == (5, 8)
    many = looks.until_decided(five, 200).looks
    assert many[0] == 5 and many[-1] == 200 and len(many) <= looks.MOST


def test_a_batch_takes_seeds_that_nothing_else_has():
    tuned = study(
        tune={"optim.peak_lr": (1, 2)}, tune_seeds=(4,), fixed_rate="", other_seeds=(5,)
    )
    assert looks.batch(looks.until_decided(tuned, 6)) == (3, 6, 7)
    assert looks.batch(tuned) == ()


@pytest.mark.parametrize("most", [-1, 0, 3, 5, 1001])
def test_two_looks_are_the_least(most):
    with pytest.raises(ConfigError, match=f"--until-decided={most} must be from 6 to"):
        looks.until_decided(study(), most)
    with pytest.raises(ConfigError, match="too few; give --seeds 3 or more"):
        looks.until_decided(study(seeds=(0, 1)), 10)


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(looks=(3, 5)), r"looks=\(3, 5\): 3 seeds more at each"),
        (dict(looks=(4, 8)), "none has 3 seeds"),
    ],
)
def test_a_file_may_say_its_looks(changes, words):
    assert study(looks=(3, 6, 9)).looks == (3, 6, 9)
    with pytest.raises(ValueError, match=words):
        study(**changes)


def test_a_study_ends_with_the_look_that_decides(out, monkeypatch, capsys):
    effects = [0.2, 0.9, 0.5, 0.45, 0.4, 0.5, 0.5, 0.6, 0.5]
    monkeypatch.setattr(local, "run", scored(effects))
    assert run.main([TINY, *PLAIN, f"--out={out}"]) == 0
    assert "not decided by 3 seeds; on to 6" in capsys.readouterr().out
    folder = out / "tiny_study-cpu"
    kept = content_of(folder / "study.json")
    assert kept["study"]["looks"] == [3, 6, 9] and kept["study"]["seeds"] == [0, 1, 2]
    report = json.loads((folder / "report.json").read_text())
    taken = report["looks"]["taken"]
    assert report["seeds"] == list(range(3 * taken)) and taken == 2
    assert report["looks"]["decided"] and report["verdict"] == "REPRODUCED"
    assert report["exploratory"] == []
    assert report["looks"]["spent"] == pytest.approx(0.0121, abs=1e-4)
    d = next(a for a in report["arms"] if a["name"] == "fast")["difference"]
    assert d["low"] == d["low_holm"] and d["n"] == 6
    for name in ("report.md", "report.html"):
        text = (folder / name).read_text()
        assert "repeated confidence" in text and "3, after 3, 6, 9 seeds" in text
    argv = [TINY, "--seeds=3", f"--out={out}"]  # no flag again
    for command in ("plan", "status"):
        assert run.main([*argv, command]) == 0
        shown = capsys.readouterr().out
        assert "fast-s5-" in shown and "fast-s6-" not in shown
    planned = Plan.load(TINY, out, seeds=(0, 1, 2))
    assert planned.todo() == [] and planned.register() == []
    assert len(load_study(TINY, out).study.seeds) == 6, "nor the seeds"


def test_a_study_that_stays_open_ends_with_its_last_look(out, monkeypatch, analyses):
    monkeypatch.setattr(local, "run", scored([0.2, 0.9, -0.5, 0.3, -0.1, 0.4] * 2))
    assert run.main([TINY, *PLAIN, f"--out={out}"]) == 0
    report = analyses[-1]
    assert report["seeds"] == list(range(9)) and report["verdict"] == "UNDERPOWERED"
    assert report["looks"] | {"nominal": 0} == {
        **dict(planned=[3, 6, 9], taken=3, nominal=0, decided=False),
        "spent": pytest.approx(0.05),
    }
    assert "smallest detectable effect" in report["answer"]


def test_a_study_that_was_stopped_goes_on(out, monkeypatch, analyses):
    train, left = scored([0.2, 0.9, 0.5, 0.45, 0.4, 0.5]), [3, 7, 2, 20]

    def stopped(todo, *_):
        count = left.pop(0)
        return train(todo[:count]) and count >= len(todo)

    argv = [TINY, *PLAIN, f"--out={out}"]
    monkeypatch.setattr(local, "run", stopped)
    assert run.main(argv) == 75, "in the first look"
    assert run.main(argv) == 75, "in the second"
    assert run.main(argv) == 0 and not left
    report = analyses[-1]
    assert report["looks"]["taken"] == 2 and report["exploratory"] == []


def test_looks_that_nobody_planned_are_exploratory(out, monkeypatch, analyses):
    """Of a study that has been looked at, whose alpha is spent."""
    monkeypatch.setattr(local, "run", scored([0.2, 0.9, -0.5] * 3))
    argv = [TINY, "--seeds=3", f"--out={out}"]
    assert run.main(argv) == 0
    kept = content_of(out / "tiny_study-cpu" / "study.json")
    assert "looks" not in kept["study"]
    assert run.main([*argv, "--until-decided=9"]) == 0
    report = analyses[-1]
    [change] = report["exploratory"]
    assert "looks: nothing became 3, 6, 9" in change
    assert len(Plan.load(TINY, out, seeds=(0, 1, 2), until_decided=6).register()) == 2


def test_looks_are_not_lost_to_other_seeds(out):
    """Reports, too, would show intervals that are not corrected, and keep no looks."""
    Plan.load(TINY, out, seeds=(0, 1, 2), until_decided=6).register()
    with pytest.raises(ConfigError, match=r"--seeds=0,1,2,3: .* looks after \[3, 6\]"):
        Plan.load(TINY, out, seeds=(0, 1, 2, 3))
    for seeds in ((0, 1, 2), ()):
        study = Plan.load(TINY, out, seeds=seeds).study
        assert study.looks == (3, 6) and study.seeds == (0, 1, 2)


def test_a_file_that_plans_its_looks_says_its_seeds(out, monkeypatch):
    """Seeds that were changed in it are not those registered before."""
    Plan.load(TINY, out, seeds=(0, 1, 2), until_decided=6).register()
    read = study_file.read

    def planned(spec, where):
        file = read(spec, where)
        asked = dataclasses.replace(file.study, seeds=(0, 1, 2, 3), looks=(4, 8))
        return file._replace(study=asked)

    monkeypatch.setattr(study_file, "read", planned)
    study = Plan.load(TINY, out).study
    assert study.seeds == (0, 1, 2, 3) and study.looks == (4, 8)


def test_a_tuned_study_keeps_its_rates(out):
    planned = Plan.load(f"{TINY}:tuned", out, seeds=(0, 1, 2), until_decided=6)
    planned.register()
    for cell in planned.cells():
        write(cell, abs(cell.settings["optim.peak_lr"] - 2e-3))
    planned = planned.again()
    for cell in planned.cells():
        if not cell.directory.exists():
            write(cell, cell.seed / 7 - (cell.arm == "pre") * (cell.seed - 1))
    planned = planned.again()
    assert (
        planned.study.seeds == (0, 1, 2, 3, 4, 5) and planned.expected() == 6 + 12 + 1
    )
    rates = {c.settings["optim.peak_lr"] for c in planned.cells() if c.phase == "final"}
    assert rates == {2e-3} and len(planned.finals) == 13
    again = Plan.load(f"{TINY}:tuned", out, seeds=(0, 1, 2))
    assert [c.id for c in again.cells()] == [c.id for c in planned.cells()]


def test_runs_that_train_together_do_so_batch_by_batch(out):
    planned = Plan.load(f"{TINY}:vmapped", out, seeds=(0, 1, 2), until_decided=6)
    for cell in planned.cells():
        write(cell, 1.0 + cell.seed)
    grown = planned.again()
    assert len({cell.command for cell in grown.todo()}) == 2
    assert [c.seed for c in grown.todo()] == [3, 4, 5, 3, 4, 5]
    commands = [cell.command for cell in planned.cells()]
    assert [c.command for c in grown.cells()][: len(commands)] == commands


def test_an_open_question_ends_when_every_arm_is_told(out):
    planned = Plan.load(TINY, out, seeds=(0, 1, 2), until_decided=6)
    for cell in planned.cells():
        write(cell, 1.0 + (cell.arm == "fast") * (0.0 if cell.seed else 1e-5))
    assert len(planned.again().study.seeds) == 3, "too small a difference to matter"
    slow = better("slow", "fast", "")
    for expect in ((), (slow,)):
        asked = dataclasses.replace(planned.study, expect=expect)
        again = dataclasses.replace(planned, study=asked).again()
        assert len(again.study.seeds) == 3


def test_an_open_question_goes_on_while_an_arm_is_not_told(out):
    planned = Plan.load(TINY, out, seeds=(0, 1, 2), until_decided=6)
    for cell in planned.cells():
        write(cell, 1.0 + (cell.arm == "fast") * (cell.seed - 1))
    asked = dataclasses.replace(planned.study, expect=())
    again = dataclasses.replace(planned, study=asked).again()
    assert len(again.study.seeds) == 6, "-1, 0 and 1: no difference, and no equality"


def test_a_question_of_the_command_line_keeps_its_looks_in_its_file(out, capsys):
    argv = ["--config=configs/transformer_numerals_small.py", "--name=warm"]
    argv += ["--axis", "model.norm=post,pre", "--seeds=3", f"--out={out}", "plan"]
    for knob, value in tiny_study.SMALL.items():
        argv += ["--set", f"config.{knob}={value}"]
    assert run.main([*argv, "--until-decided=9"]) == 0
    assert "looks=(3, 6, 9)," in (out / "warm" / "study.py").read_text()
    assert "look 1, of those after 3, 6, 9 seeds" in capsys.readouterr().out
    assert run.main(argv) == 0, "looks are not said again"
    assert "look 1, of those after 3, 6, 9 seeds" in capsys.readouterr().out
