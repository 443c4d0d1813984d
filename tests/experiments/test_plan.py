"""Plans: what follows from a study, its directory and the command line."""

import collections
import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest

from experiments import run
from experiments.costs import sizes
from experiments.plan import Plan
from experiments.runs import attempts, cells, files, outcomes
from experiments.space import log
from experiments.statistics import verdicts
from experiments.study import reported
from tests.experiments import tiny_study
from tests.experiments.test_refusals import changed
from tests.reliability.processes import environment
from tfm_jax import api, bounded_json

TINY = str(Path(__file__).with_name("tiny_study.py"))


@pytest.fixture(scope="module", autouse=True)
def at_root(request):
    """Runs find the project, and what other runs have compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.config.rootpath)
        for name, value in environment().items():
            patch.setenv(name, value)
        yield


def content_of(path):
    """An object as files of before had it: without a checksum, to be edited."""
    return bounded_json.unsealed(json.loads(path.read_text()))


def test_the_command_of_a_report_makes_its_plan_again(tmp_path):
    changes = {"train.total_steps": 4, "optim.lr_multipliers": ("a b=1", "c=2")}
    plan = Plan.load(TINY, tmp_path, settings=changes, seeds=(0, 3))
    python, module, name, *argv = shlex.split(plan.command)
    assert (python, module, name) == ("python", "-m", "experiments.run")
    options = run.parse(argv)
    again = Plan.load(
        options.study,
        options.out,
        settings=run._settings(options),
        seeds=options.seeds,
    )
    assert again.command == plan.command and again.root == plan.root
    assert [c.id for c in again.cells()] == [c.id for c in plan.cells()]


@pytest.mark.parametrize(
    "recorded, now, changes", [(None, "check", 0), ("published", "check", 1)]
)
def test_whose_a_finding_is_is_new_in_records_of_before(
    tmp_path, recorded, now, changes
):
    """A study that was registered when nobody asked is not exploratory for it."""
    plan = Plan.load(TINY, tmp_path)
    assert plan.register() == []
    path = plan.root / "study.json"
    record = content_of(path)
    if recorded is None:
        del record["study"]["expect"][0]["claim"]
        path.write_text(json.dumps(record))
    expect = tuple(dataclasses.replace(e, claim=now) for e in plan.study.expect)
    study = dataclasses.replace(plan.study, expect=expect)
    plan = dataclasses.replace(plan, study=study)
    for _ in "ab":
        assert len(plan.register()) == changes


def test_a_report_of_another_question_says_so_and_leaves_the_record(tmp_path):
    plan = Plan.load(TINY, tmp_path)
    plan.register()
    record = content_of(plan.root / "study.json")
    other = Plan.load(TINY, tmp_path, seeds=(5, 6))
    assert any(": seeds: " in said for said in verdicts.analyse(other)["exploratory"])
    assert content_of(plan.root / "study.json") == record
    assert not verdicts.analyse(Plan.load(TINY, tmp_path))["exploratory"]


def test_a_report_leaves_a_damaged_record_where_it_is(tmp_path):
    plan = Plan.load(TINY, tmp_path)
    plan.register()
    path = plan.root / "study.json"
    path.write_text("{")
    with pytest.warns(UserWarning, match="damaged"):
        (said,) = verdicts.analyse(plan)["exploratory"]
    assert "what had been registered is not known" in said
    assert [*plan.root.glob("study.json*")] == [path]


def test_a_record_that_is_gone_though_there_are_runs_is_missed(tmp_path):
    plan = Plan.load(TINY, tmp_path)
    assert plan.register() == []
    (plan.root / "study.json").unlink()
    cell = plan.cells()[0]
    attempts.finish(cell, attempts.begin(cell, {}), api.exits.BAD_CONFIG, 1.0)
    assert not verdicts.analyse(plan.again())["exploratory"], "it was refused"
    attempts.begin(cell, {})
    (said,) = verdicts.analyse(plan.again())["exploratory"]
    assert "study.json was lost; what had been registered is not known" in said
    assert plan.again().register() == [said]


def test_what_a_source_reports_is_no_part_of_the_question(tmp_path):
    """Numbers that are said later and decide nothing change no record."""
    plan = Plan.load(TINY, tmp_path)
    assert plan.register() == []
    record = content_of(plan.root / "study.json")
    expect = tuple(reported(e, *[-0.5] * len(e.arms[1:])) for e in plan.study.expect)
    study = dataclasses.replace(plan.study, expect=expect, solved=0.5)
    plan = dataclasses.replace(plan, study=study)
    assert plan.register() == []
    assert content_of(plan.root / "study.json") == record
    record["study"]["solved"] = 0.5  # as it was written for a time
    (plan.root / "study.json").write_text(json.dumps(record))
    assert plan.register() == []


def test_records_of_before_there_were_ranges_are_of_grids(tmp_path):
    plan = Plan.load(f"{TINY}:tuned", tmp_path)
    assert plan.register() == []
    path = plan.root / "study.json"
    record = content_of(path)
    del record["study"]["trials"], record["study"]["proposer"]
    path.write_text(json.dumps(record))
    assert plan.register() == []
    changes = dict(tune={"optim.peak_lr": log(1e-3, 4e-3)}, trials=3)
    study = dataclasses.replace(plan.study, **changes)
    said = dataclasses.replace(plan, study=study).register()
    assert [line.split(": ")[1] for line in said] == ["trials", "tune"]


def test_of_changed_settings_only_what_differs_is_said(tmp_path):
    Plan.load(TINY, tmp_path, settings={"train.total_steps": 4}).register()
    knobs = {"train.total_steps": 4, "model.dropout": 0.3}
    (change,) = Plan.load(TINY, tmp_path, settings=knobs).register()
    assert change.endswith("settings: nothing became model.dropout=0.3")


def test_of_changed_expectations_only_those_are_said(tmp_path):
    plan = Plan.load(TINY, tmp_path)
    first = plan.study.expect[0]
    kept = dataclasses.replace(first, text="kept")
    for last in ("said before", "said now"):
        expect = (kept, dataclasses.replace(first, text=last))
        study = dataclasses.replace(plan.study, expect=expect)
        changes = dataclasses.replace(plan, study=study).register()
    assert "said before" in changes[-1] and "said now" in changes[-1]
    assert "kept" not in changes[-1]


ARMS = {"slow": {"model.windows": (2, 0)}, "fast": {}}


@pytest.mark.parametrize(
    "before, after, said",
    [
        (dict(seeds=(0, 1)), dict(seeds=(0, 1, 2)), "seeds: 0, 1 became 0, 1, 2"),
        (
            dict(arms=ARMS),
            dict(arms=ARMS | {"slow": {"model.windows": ((2,), (0,))}}),
            "arms: slow=(model.windows=(2, 0)) became slow=(model.windows=((2), (0)))",
        ),
        (
            dict(settings={"model.positions": "none"}),
            dict(settings={}),
            "settings: model.positions=none became nothing",
        ),
        (
            dict(arms=ARMS),
            dict(arms=ARMS | {"fast": {"model.dropout": 0.1}}),
            "arms: fast=nothing became fast=(model.dropout=0.1)",
        ),
        (
            dict(settings={"model.depth": 1}),
            dict(settings={"model.depth": "1"}),
            "settings: {'model.depth': 1} became {'model.depth': '1'}",
        ),
        (dict(expect="ab"), dict(expect="ba"), "expect: another order"),
        (
            dict(expect="ab"),
            dict(expect="ac"),
            "expect: (text=b) became (text=c)",
        ),
    ],
)
def test_a_change_is_said_so_that_what_differs_can_be_told(
    before, after, said, tmp_path
):
    plan = Plan.load(TINY, tmp_path)
    for fields in (before, after):
        if "expect" in fields:
            texts, first = fields["expect"], plan.study.expect[0]
            made = tuple(dataclasses.replace(first, text=text) for text in texts)
            fields = dict(expect=made)
        study = dataclasses.replace(plan.study, **fields)
        changes = dataclasses.replace(plan, study=study).register()
    assert changes[-1].endswith(said)


@pytest.mark.parametrize(
    "before, after, said", [("ab", "abc", "also"), ("abc", "ab", "no longer")]
)
def test_a_finding_that_came_or_went_is_said_alone(before, after, said, tmp_path):
    plan = Plan.load(TINY, tmp_path)
    for texts in (before, after):
        first = plan.study.expect[0]
        made = tuple(dataclasses.replace(first, text=text) for text in texts)
        study = dataclasses.replace(plan.study, expect=made)
        changes = dataclasses.replace(plan, study=study).register()
    assert f"expect: {said} (" in changes[-1]
    assert re.findall(r"text=(\w)", changes[-1]) == ["c"]


def test_what_was_changed_is_said_before_anything_is_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sizes, "measure", lambda _: tiny_study.SIZE)
    Plan.load(TINY, tmp_path).register()
    monkeypatch.setattr(run.local, "run", lambda *_: False)
    argv = [TINY, f"--out={tmp_path}", "--set=config.model.dropout=0.3"]
    assert run.main(argv) == 75
    said = capsys.readouterr().out
    assert "changed after runs existed" in said and "model.dropout=0.3" in said


def test_a_new_name_of_a_knob_changes_nothing_that_was_registered(tmp_path):
    names = {"optim.rates": "optim.lr_multipliers"}
    names |= {f"first.{before}": f"first.{now}" for before, now in names.items()}
    plan = Plan.load(TINY, tmp_path)
    knobs = dict.fromkeys(names.values(), ("kernel=2",))
    arms = {arm: own | knobs for arm, own in plan.study.arms.items()}
    changed = dict(settings=plan.study.settings | knobs, arms=arms)
    study = dataclasses.replace(plan.study, **changed)
    plan = dataclasses.replace(plan, study=study)
    assert plan.register() == []
    path = plan.root / "study.json"
    record = content_of(path)
    for own in (record["study"]["settings"], *record["study"]["arms"].values()):
        for before, now in names.items():
            own[before] = own.pop(now)
    path.write_text(json.dumps(record))
    assert plan.register() == []


def write(cell, value):
    cell.directory.mkdir(parents=True)
    done = {"status": "done" if value is not None else "diverged"}
    (cell.directory / "DONE.json").write_text(json.dumps(done))
    (cell.directory / "results.json").write_text(json.dumps({"valid": {"nll": value}}))


def test_an_optimum_at_the_edge_is_told_before_the_final_runs(
    tmp_path, monkeypatch, capsys
):
    told = []

    def train(todo, *_):
        told.append(capsys.readouterr().out)
        if todo[0].phase != "tune":
            return False
        for cell in todo:
            write(cell, -cell.settings["optim.peak_lr"])
        return True

    monkeypatch.setattr(run.local, "run", train)
    for command in ("run", "plan", "run"):
        run.main([f"{TINY}:tuned", command, f"--out={tmp_path}"])
    first, second, again = told
    said = (
        "What suits pre, post best lies at the edge of what was tried; widen the grid"
    )
    assert said not in first and said in second
    assert again.count(said) == 2, "by the plan, and by who goes on with the runs"


def test_tuning_takes_the_best_of_each_arm_and_marks_the_edge(tmp_path):
    plan = Plan.load(f"{TINY}:tuned", tmp_path)
    found = plan.cells()
    assert {c.phase for c in found} == {cells.TUNE}
    assert plan.expected() == 2 * 3 + 2 * 2 + 1
    scores = {"pre": (3.0, 1.0, 2.0), "post": (None, 3.0, 2.0)}
    for cell in found:
        rate = (1e-3, 2e-3, 4e-3).index(cell.settings["optim.peak_lr"])
        write(cell, scores[cell.arm][rate])
    plan = plan.again()
    best = {"pre": 2e-3, "post": 4e-3}
    assert plan.chosen == {a: {"optim.peak_lr": rate} for a, rate in best.items()}
    assert plan.edges == ["post"]
    finals = [c for c in plan.cells() if c.phase == cells.FINAL]
    assert {(c.arm, c.settings["optim.peak_lr"]) for c in finals} == {
        ("pre", 2e-3),
        ("post", 4e-3),
    }


def opened_by(argv, monkeypatch):
    """How often ``run.main(argv)`` reads each file of a run, and resolves."""
    reads, resolved = collections.Counter(), collections.Counter()

    def read(path, legal=lambda content: True, read=files.read):
        reads[path] += 1
        return read(path, legal)

    def history(directory, history=files.history):
        reads[directory / "metrics.jsonl"] += 1
        return history(directory)

    def configure(config, settings, configure=cells.configure):
        resolved[tuple(settings.items())] += 1
        return configure(config, settings)

    for module, stand_in in ((files, read), (files, history), (cells, configure)):
        monkeypatch.setattr(module, stand_in.__name__, stand_in)
    assert run.main(argv) == 0
    return reads, resolved


@pytest.mark.parametrize("command", ["plan", "status", "report"])
def test_a_command_reads_each_file_and_resolves_each_run_once(
    command, tmp_path, monkeypatch
):
    monkeypatch.setattr(sizes, "measure", lambda _: tiny_study.SIZE)
    plan = Plan.load(f"{TINY}:tuned", tmp_path)
    for _ in "ab":  # the trials, then what follows from them
        for n, cell in enumerate(plan.cells()):
            if not cell.directory.exists():
                write(cell, 1.0 / (1 + n))
        plan = plan.again()
    argv = [f"{TINY}:tuned", command, f"--out={tmp_path}"]
    reads, resolved = opened_by(argv, monkeypatch)
    reads.pop(plan.root / "study.json", 0)  # is asked for looks, then added to
    assert set(reads.values()) == {1}
    assert {cell.directory / "results.json" for cell in plan.cells()} <= set(reads)
    again = [cell for cell in plan.cells() if cell.phase == cells.IDENTICAL]
    assert resolved.total() == len(plan.cells()) and len(resolved) == 11 - len(again)


def test_a_trial_that_diverged_loses_however_good_its_other_seeds(tmp_path):
    assert outcomes._cost([1.0, None], 1) > outcomes._cost([5.0, 5.0], 1)
    assert outcomes._cost([1.0, 1.0], -1) < outcomes._cost([0.5, 0.5], -1)


def test_settings_reach_every_arm(tmp_path):
    found = Plan.load(TINY, tmp_path, settings={"model.norm": "pre"}).cells()
    assert all(c.experiment.model.norm == "pre" for c in found)


OTHER = """
from configs.transformer_numerals_small import get_config as small
def get_config():
    config = small()
    config.data.numerals_joined = 2
    return config
"""
JOINED = {"data.numerals_joined": 2}


@pytest.mark.parametrize(
    "arms, said",
    [
        ({"slow": {"config": "OTHER"}}, "data.numerals_joined (fast 1, slow 2)"),
        ({"slow": {"config": "OTHER"} | JOINED}, ""),
        (
            {"slow": {"config": "OTHER"}, "third": JOINED | {"model.dropout": 0.3}},
            "data.numerals_joined (fast 1, slow 2)",
        ),
        ({"slow": {"first": "OTHER"}}, "first.data.numerals_joined (fast 1, slow 2)"),
    ],
)
def test_data_in_which_arms_differ_unsaid_is_a_caveat(
    arms, said, tmp_path, monkeypatch, capsys
):
    """Arms that start from two configurations have all that these say of the data."""
    monkeypatch.setattr(sizes, "measure", lambda _: tiny_study.SIZE)
    other = tmp_path / "other.py"
    other.write_text(OTHER)
    arms = {
        name: {knob: str(other) if x == "OTHER" else x for knob, x in own.items()}
        for name, own in arms.items()
    }
    settings, fast = tiny_study.SMALL, {}
    if "first" in arms["slow"]:
        fast = {"first": "configs/transformer_numerals_small.py"}
        settings = settings | {f"first.{knob}": x for knob, x in settings.items()}
    arms = {"fast": fast} | arms
    study = changed(tmp_path, arms=arms, baseline="fast", expect=(), settings=settings)
    plan = Plan.load(study, tmp_path)
    words = f"Arms differ in {said}, which they do not set." if said else ""
    assert " ".join(plan.caveats) == words
    run.show(run.parse([study, "plan", f"--out={tmp_path}"]), plan)
    assert ("Arms differ" in capsys.readouterr().out) == bool(said)
    assert words in verdicts.analyse(plan)["caveat"]
