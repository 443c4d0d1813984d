import collections
import dataclasses
import json
import os
import shlex
from pathlib import Path

import pandas as pd
import pytest
import yaml

from experiments import load_study, results, run
from experiments.costs import sizes
from experiments.plan import Plan
from experiments.runs import attempts, cells, files, outcomes
from tests.experiments import fake_slurm, tiny_study
from tests.reliability.processes import environment
from tfm_jax import bounded_json
from tfm_jax.api import score_names
from tfm_jax.config import ConfigError

TINY = str(Path(__file__).with_name("tiny_study.py"))


@pytest.fixture(scope="module", autouse=True)
def at_root(request):
    """Runs find the project, and what other runs have compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.config.rootpath)
        for name, value in environment().items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A study that has run, with real training, from the command line."""
    out = tmp_path_factory.mktemp("studies")
    assert run.main([TINY, "run", f"--out={out}"]) == 0
    return out


def test_a_plan_names_every_run_and_starts_none(tmp_path, capsys):
    assert run.main([TINY, "plan", f"--out={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    assert "fast-s0-" in shown and "slow-s1-" in shown and "0 of 5 runs done" in shown
    assert not list(tmp_path.rglob("attempts"))


def test_the_command_of_a_report_makes_its_plan_again(tmp_path):
    changes = {"train.total_steps": 4, "optim.rates": ("a b=1", "c=2")}
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


@pytest.mark.slow
def test_a_study_runs_from_plan_to_report(ended):
    plan = load_study(TINY, ended)
    rows = plan.rows()
    assert [r["status"] for r in rows] == ["done"] * 5
    assert all(r["attempts"] == 1 for r in rows)
    report = json.loads((plan.root / "report.json").read_text())
    assert {a["name"] for a in report["arms"]} == {"fast", "slow"}
    assert report["noise"]["identical"] == 0.0, "equal runs must give equal numbers"
    assert report["expectations"][0]["verdict"] == "UNDERPOWERED"  # two pairs
    [cell, *_] = plan.cells()
    assert set(score_names(cell.experiment)) == {
        f"{split}/{name}"
        for split, scores in outcomes.files.results(cell.directory).items()
        if isinstance(scores, dict)
        for name, value in scores.items()
        if not isinstance(value, str)
    }
    assert (
        report["question"].startswith("Does a study") and "Nobody" in report["source"]
    )
    assert [len(points) for points in report["curves"]["fast"].values()] == [2, 2]
    for name in ("report.html", "report.md"):
        assert "fast" in (plan.root / name).read_text()


@pytest.mark.slow
def test_a_vmapped_study_has_one_process_an_arm_and_a_run_a_seed(tmp_path, capsys):
    arguments = [f"{TINY}:vmapped", f"--out={tmp_path}"]
    assert run.main(arguments) == 0
    plan = load_study(f"{TINY}:vmapped", tmp_path)
    rows = plan.rows()
    by_arm = {a: [r for r in rows if r["arm"] == a] for a in ("fast", "ill")}
    assert [r["status"] for r in by_arm["fast"]] == ["done"] * 3
    assert [r["status"] for r in by_arm["ill"]] == ["diverged"] * 2
    assert len({r["command"] for r in rows}) == 2 and len({r["id"] for r in rows}) == 5
    report = json.loads((plan.root / "report.json").read_text())
    assert report["noise"]["identical"] == 0.0, "a member's place changes no bit"
    assert report["expectations"][0]["detail"].startswith("2 of 2 diverged")
    paths = [next(c.directory.glob("attempts/*/log")) for c in plan.cells()]
    logs = [attempts.tail(path) for path in paths]
    assert logs[0] == logs[1] and "diverged" in logs[-1]
    alone = {c.id for c in load_study(TINY, tmp_path).cells() if c.arm == "fast"}
    assert not alone & {r["id"] for r in rows}, "runs of two kinds are never mixed"
    capsys.readouterr()
    assert run.main(arguments) == 0
    assert "start" not in capsys.readouterr().out


def test_the_same_command_again_does_nothing(ended, capsys):
    before = sorted(p for p in ended.rglob("*") if "attempts" in p.parts)
    assert run.main([TINY, f"--out={ended}"]) == 0
    assert sorted(p for p in ended.rglob("*") if "attempts" in p.parts) == before
    assert "start" not in capsys.readouterr().out


def test_results_are_a_table(ended):
    table = results(load_study(TINY, ended))
    assert isinstance(table, pd.DataFrame) and len(table) == 5
    assert table["metric"].notna().all()
    assert set(table["optim.peak_lr"].dropna()) == {1e-5}


def content_of(path):
    """An object as files of before had it: without a checksum, to be edited."""
    return bounded_json.unsealed(json.loads(path.read_text()))


def test_the_report_refuses_to_mix_environments_unless_told(ended, capsys):
    plan = load_study(TINY, ended)
    path = next(plan.cells()[0].directory.glob("attempts/*/environment.json"))
    kept = path.read_text()
    try:
        path.write_text(json.dumps(content_of(path) | {"jax": "0.1"}))
        assert run.main([TINY, "report", f"--out={ended}"]) == 78
        assert "jax: 0.1 |" in capsys.readouterr().err
        assert run.main([TINY, "report", f"--out={ended}", "--allow-mixed"]) == 0
    finally:
        path.write_text(kept)


def test_what_is_changed_after_runs_exist_is_exploratory(ended):
    plan = load_study(TINY, ended)
    assert plan.register() == []
    more = Plan.load(TINY, ended, seeds=(0, 1, 2))
    [change] = [c for c in more.register() if " seeds: " in c]
    assert "[0, 1] became [0, 1, 2]" in change
    rows = more.rows()
    assert sum(r["status"] == "done" for r in rows) == 5  # what is done stays done


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


def write(cell, value):
    cell.directory.mkdir(parents=True)
    done = {"status": "done" if value is not None else "diverged"}
    (cell.directory / "DONE.json").write_text(json.dumps(done))
    found = {"valid": {"nll": value}}
    (cell.directory / "results.json").write_text(json.dumps(found))


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
    assert [t["arm"] for t in plan.trials if t["edge"]] == ["post"]
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
    assert set(reads.values()) == {1}
    assert {cell.directory / "results.json" for cell in plan.cells()} <= set(reads)
    again = [cell for cell in plan.cells() if cell.phase == cells.IDENTICAL]
    assert resolved.total() == len(plan.cells()) and len(resolved) == 11 - len(again)


def test_a_trial_that_diverged_loses_however_good_its_other_seeds(tmp_path):
    assert outcomes._cost([1.0, None], 1) > outcomes._cost([5.0, 5.0], 1)
    assert outcomes._cost([1.0, 1.0], -1) < outcomes._cost([0.5, 0.5], -1)


@pytest.mark.parametrize(
    "argv, words",
    [
        (["postions"], "did you mean 'positions'"),
        ([], "required: STUDY[:SCALE]"),
        (["positions", "pln"], "choose from"),
        (["positions:huge"], "no scale 'huge'"),
        (["positions:cpi"], "choose from (cpu, gpu); did you mean 'cpu'?"),
        (["banded_attention:x"], "choose from (cpu, rotary, gpu)"),
        ([TINY, "--seeds=a,b"], "--seeds=a,b; whole numbers"),
        ([TINY, "--seeds=-1"], "seeds=(-1,) must be integers"),
        ([TINY, "--jobs=64"], "--jobs=64: this machine has"),
        ([TINY, "plan", "--jobs=-1"], "--jobs=-1"),
        ([TINY, "--set", "config.seed=3"], "--seeds says what it is"),
        ([TINY, "--set", "config.optim.peak_lr=1"], "arm 'slow' says what it is"),
        ([f"{TINY}:tuned", "--set", "config.optim.peak_lr=1"], "tune says what it is"),
        ([TINY, "--set", "config.seed=3", "--set", "config.seed=4"], "given twice"),
        ([TINY, "--engine-option", "a=b"], "--engine=local has none"),
        ([TINY, "--index=0"], "is for `one`"),
        ([TINY, "--set", "config.model.nrom=pre"], "did you mean"),
        ([TINY, "--set", "model.norm=pre"], "write --set config.KNOB=VALUE"),
        ([TINY, "--set", "config.model.norm=middle"], "choose from"),
        (["absent.py"], "no such file"),
    ],
)
def test_a_mistake_stops_before_anything_runs(tmp_path, argv, words, capsys):
    assert run.main([*argv, f"--out={tmp_path}"]) == 78
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_settings_reach_every_arm(tmp_path):
    found = Plan.load(TINY, tmp_path, settings={"model.norm": "pre"}).cells()
    assert all(c.experiment.model.norm == "pre" for c in found)


def test_kubernetes_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sizes, "measure", lambda _: tiny_study.SIZE)
    options = ["image=lab/tfm:1", "claim=disk", "nvidia.com/gpu=1"]
    argv = [f"{TINY}:vmapped", "--engine=kubernetes", "--jobs=2", f"--out={tmp_path}"]
    for option in options:
        argv += ["--engine-option", option]
    assert run.main(argv) == 0
    path = tmp_path / "tiny_study-vmapped" / "kubernetes" / "job.yaml"
    assert f"kubectl create --filename {path}" in capsys.readouterr().out
    job = yaml.safe_load(path.read_text())["spec"]
    assert job["completions"] == 2, "runs that train together are one task"
    container = job["template"]["spec"]["containers"][0]
    assert container["image"] == "lab/tfm:1"
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert run.main([TINY, "--engine=kubernetes", f"--out={tmp_path}"]) == 78
    assert "--engine-option claim=" in capsys.readouterr().err


def test_slurm_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sizes, "measure", lambda _: tiny_study.SIZE)
    bin_folder = tmp_path / "bin"
    fake_slurm.install(bin_folder)
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    argv = [TINY, "--engine=slurm", "--jobs=1", "--seeds=0", f"--out={tmp_path}"]
    argv += ["--engine-option", "partition=gpu", "--engine-option", "time=1:00:00"]
    try:
        assert run.main(argv) == 0
    finally:
        fake_slurm.stop(bin_folder)
    assert "submitted as job 100" in capsys.readouterr().out
    options = json.loads((bin_folder / "job-100" / "options").read_text())
    assert options["partition"] == "gpu" and options["time"] == "1:00:00"
    assert options["array"] == "0-2%1"
    assert "--seeds=0" in (bin_folder / "job-100" / "script").read_text()


def match(rule, found, **changes):
    return sizes.matched(tiny_study._study(match=rule, **changes), found)


def test_arms_are_given_the_steps_that_make_them_equal():
    """A step of ``slow``, the baseline, costs twice that of ``fast``; it makes six."""
    fast = dict(parameters=1_000, flops_per_step=5.0, tokens_per_step=300)
    slow = dict(parameters=1_005, flops_per_step=10.0, tokens_per_step=100)
    found = {"fast": fast, "slow": slow}
    steps = "train.total_steps"
    assert match("flops", found).arms["fast"] == {steps: 12}
    assert match("flops", found).arms["slow"] == {"optim.peak_lr": 1e-5, steps: 6}
    assert match("tokens", found).arms["fast"] == {steps: 2}
    for rule in ("steps", "parameters"):
        assert match(rule, found).arms == tiny_study._study().arms
    fast["parameters"] = 1_016
    with pytest.raises(ConfigError, match="slow has 1,005, but fast has 1,016"):
        match("parameters", found)
    with pytest.raises(ConfigError, match="'fast' sets train.total_steps"):
        match("flops", found, arms={"fast": {steps: 3}, "slow": {}})


WIDE = '''
"""Is wider better?

Nobody."""
from tests.experiments.tiny_study import _study, better


def get_study(scale):
    arms = {"wide": {"model.ffn_width": 256}, "narrow": {}}
    expect = (better("wide", "narrow", "so it is"),)
    return _study(arms=arms, expect=expect, match="flops", baseline="narrow")
'''


def steps_of(plan):
    return {c.arm: c.experiment.train.total_steps for c in plan.cells()}


def test_a_plan_of_equal_flops_says_how_many_steps(tmp_path):
    path = tmp_path / "wide.py"
    path.write_text(WIDE)
    plan = Plan.load(str(path), tmp_path / "out")
    steps = steps_of(plan)
    assert steps["narrow"] == 6 > steps["wide"]
    work = {a: s["flops_per_step"] * steps[a] for a, s in plan.sizes.items()}
    assert 0.8 < work["wide"] / work["narrow"] < 1.2


@pytest.mark.parametrize("begun", [False, True])
def test_a_study_that_has_begun_keeps_the_steps_of_its_count(
    tmp_path, monkeypatch, begun
):
    def count(experiment):
        return {"count": sizes.COUNT, "flops_per_step": experiment.model.ffn_width}

    monkeypatch.setattr(sizes, "measure", count)
    path, out = tmp_path / "wide.py", tmp_path / "out"
    path.write_text(WIDE)
    plan = Plan.load(str(path), out)
    assert steps_of(plan) == {"wide": 1, "narrow": 6}
    earlier = content_of(plan.root / "sizes.json")
    for size in earlier.values():  # the first rule, which said so nowhere
        size["flops_per_step"] = {256: 3.0, 16: 1.0}[size["flops_per_step"]]
        del size["count"]
    (plan.root / "sizes.json").write_text(json.dumps(earlier))
    if begun:
        (plan.root / "study.json").write_text("{}")
    again = steps_of(Plan.load(str(path), out))
    assert again == {"wide": 2 if begun else 1, "narrow": 6}
