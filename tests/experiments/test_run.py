import json
import os
import re
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
import yaml

from experiments import load_study, results, run, study_file
from experiments.costs import sizes
from experiments.engines import local
from experiments.overview import entries
from experiments.plan import Plan
from experiments.runs import attempts, outcomes
from tests.experiments import tiny_study
from tests.experiments.engines import fake_slurm
from tests.reliability.processes import environment
from tfm_jax import bounded_json
from tfm_jax.api import score_names
from tfm_jax.train.aot import compiling, topologies

TINY = str(Path(__file__).with_name("tiny_study.py"))


@pytest.fixture(scope="module", autouse=True)
def at_root(request):
    """Runs find the project, and what other runs have compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.config.rootpath)
        for name, value in environment().items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def known(monkeypatch):
    """What arms cost and are scored by, which takes traces of their models."""
    monkeypatch.setattr(sizes, "measure", lambda _: tiny_study.SIZE)
    monkeypatch.setattr("experiments.plan.score_names", lambda _: ["valid/nll"])


@pytest.fixture(scope="module")
def quick(commands):
    """Processes of runs need not import what others have: see ``Commands``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "subprocess", commands.as_subprocess())
        yield


@pytest.fixture(scope="module")
def ended(quick, tmp_path_factory):
    """A study that has run, with real training, from the command line.

    One run after the other, so that each finds what those before have compiled.
    """
    out = tmp_path_factory.mktemp("studies")
    assert run.main([TINY, "run", f"--out={out}", "--jobs=1"]) == 0
    return out


def test_a_plan_names_every_run_and_starts_none(known, tmp_path, capsys):
    assert run.main([TINY, "plan", f"--out={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    assert "fast-s0-" in shown and "slow-s1-" in shown and "0 of 5 runs done" in shown
    assert not list(tmp_path.rglob("attempts"))


@pytest.mark.parametrize(
    "study, words",
    [("norm_kind", " h added up, on "), (TINY, "is said after the first")],
)
def test_a_plan_says_what_its_runs_took_where_a_report_is_there(
    study, words, tmp_path, capsys
):
    assert run.main([study, "plan", f"--out={tmp_path}"]) == 0
    assert words in capsys.readouterr().out


def test_a_plan_for_other_machines_compiles_each_program_once(
    known, tmp_path, capsys, monkeypatch
):
    """Not once more for another learning rate."""
    monkeypatch.setattr(topologies, "CPU", topologies.Chip(memory=2**30))
    compiled = mock.Mock(wraps=compiling.plan)
    monkeypatch.setattr(compiling, "plan", compiled)
    argv = [TINY, "plan", f"--out={tmp_path}", "--topology=cpu:1"]
    assert run.main(argv) == 0
    said = capsys.readouterr().out
    rows = dict(re.findall(r"^(arm|fast|slow) +(.*)$", said, re.M))
    assert rows["arm"].endswith("GiB/device  fits")
    assert rows["fast"].split()[-2:] == rows["slow"].split()[-2:]
    assert 0 < float(rows["fast"].split()[-2]) < 0.1 and rows["fast"].endswith("yes")
    assert compiled.call_count == 1
    assert run.main([TINY, "run", *argv[2:]]) == 78
    assert "--topology=cpu:1 is for `plan`" in capsys.readouterr().err


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
    assert entries.of_report(report)["expectations"][0]["effects"] == []
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
def test_a_vmapped_study_has_one_process_an_arm_and_a_run_a_seed(
    quick, tmp_path, capsys
):
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


def test_the_same_command_again_does_nothing(ended, known, capsys):
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
    assert "seeds: 0, 1 became 0, 1, 2" in change
    rows = more.rows()
    assert sum(r["status"] == "done" for r in rows) == 5  # what is done stays done


def test_a_difference_that_rounds_to_nothing_has_no_minus():
    interval = {"mean": -1e-9, "low_holm": -2e-5, "high_holm": 1e-9}
    rate = {"count": 0, "n": 5}
    arm = {"name": "a", "mean": -1e-9, "word": "equivalent", "diverged": rate}
    analysis = {"metric": "valid/nll", "arms": [arm | {"difference": interval}]}
    [_, line] = run.headline(analysis).splitlines()
    assert "0.0000  +0.0000 [+0.0000, +0.0000]" in line and "-" not in line


def test_all_studies_are_listed_and_ones_own(tmp_path, capsys):
    assert run.main(["new", "mine", f"--out={tmp_path}"]) == 0
    broken = {"ends": "raise SystemExit", "odd": "SCALES = 5\nget_study = len"}
    broken["torn"] = "import )"
    for name, text in broken.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.py").write_text(f'"""Is it?"""\n{text}')
    capsys.readouterr()
    assert run.main(["list", f"--out={tmp_path}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == [*study_file.shipped(), "ends", "mine", "odd", "torn"]
    assert "study 'torn': line 2: " in lines[-1]
    for name, words in (("odd", "SCALES=5 must be a tuple"), ("ends", "line 2: ")):
        assert f"study '{name}': {words}" in lines[names.index(name)]
        assert run.main([name, "plan", f"--out={tmp_path}"]) == 78
        assert words in capsys.readouterr().err
    assert lines[names.index("warmup")].endswith("does not? (cpu, depth, gpu)")


@pytest.mark.parametrize(
    "argv, words",
    [
        (["postions"], "did you mean 'positions'"),
        (["setup"], "did you mean 'setup.py'"),
        ([], "required: STUDY[:SCALE]"),
        (["positions", "pln"], "choose from"),
        (["positions", "list"], "list: it is of all studies"),
        (["positions:huge"], "no scale 'huge'"),
        (["positions:cpi"], "choose from (cpu, tuned, gpu); did you mean 'cpu'?"),
        (["banded_attention:x"], "choose from (cpu, rotary, gpu)"),
        ([TINY, "--seeds=a,b"], "--seeds=a,b; a number of seeds"),
        ([TINY, "--seeds=-1,"], "--seeds=-1,: seeds=(-1,) must be integers"),
        ([TINY, "--jobs=64"], "--jobs=64: this machine has"),
        ([TINY, "plan", "--jobs=-1"], "--jobs=-1"),
        ([TINY, "--set", "config.seed=3"], "--seeds says what it is"),
        ([TINY, "--set", "config.optim.peak_lr=1"], "arm 'slow' says what it is"),
        ([f"{TINY}:tuned", "--set", "config.optim.peak_lr=1"], "tune says what it is"),
        ([TINY, "--set", "config.seed=3", "--set", "config.seed=4"], "given twice"),
        ([TINY, "--engine-option", "a=b"], "--engine=local has none"),
        ([TINY, "--set=config.mesh.processes=2"], "--engine=local starts one process"),
        ([TINY, "--index=0"], "is for `one`"),
        ([TINY, "--set", "config.model.nrom=pre"], "did you mean"),
        ([TINY, "--set", "model.norm=pre"], "write --set config.KNOB=VALUE"),
        ([TINY, "--set", "config.model.norm=middle"], "choose from"),
        (["absent.py"], "no such file"),
        (["setups.py"], "no such file; did you mean 'setup.py'?"),
    ],
)
def test_a_mistake_stops_before_anything_runs(tmp_path, argv, words, capsys):
    assert run.main([*argv, f"--out={tmp_path}"]) == 78
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_kubernetes_from_the_command_line(known, tmp_path, capsys):
    options = ["image=lab/tfm:1", "claim=disk", "nvidia.com/gpu=1"]
    options.append("selector.lab/kind=a=b")
    argv = [f"{TINY}:vmapped", "--engine=kubernetes", "--jobs=2", f"--out={tmp_path}"]
    for option in options:
        argv += ["--engine-option", option]
    assert run.main(argv) == 0
    path = tmp_path / "tiny_study-vmapped" / "kubernetes" / "job.yaml"
    assert f"kubectl create --filename {path}" in capsys.readouterr().out
    job = yaml.safe_load(path.read_text())["spec"]
    assert job["completions"] == 2, "runs that train together are one task"
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    assert pod["nodeSelector"] == {"lab/kind": "a=b"}
    assert container["image"] == "lab/tfm:1"
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert run.main([TINY, "--engine=kubernetes", f"--out={tmp_path}"]) == 78
    assert "--engine-option claim=" in capsys.readouterr().err


def test_slurm_from_the_command_line(known, tmp_path, monkeypatch, capsys):
    bin_folder = tmp_path / "bin"
    fake_slurm.install(bin_folder)
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    argv = [TINY, "--engine=slurm", "--jobs=1", "--seeds=0,", f"--out={tmp_path}"]
    argv += ["--engine-option", "partition=gpu", "--engine-option", "time=1:00:00"]
    try:
        assert run.main(argv) == 0
    finally:
        fake_slurm.stop(bin_folder)
    assert "submitted as job 100" in capsys.readouterr().out
    options = json.loads((bin_folder / "job-100" / "options").read_text())
    assert options["partition"] == "gpu" and options["time"] == "1:00:00"
    assert options["array"] == "0-2%1"
    assert "--seeds=0," in (bin_folder / "job-100" / "script").read_text()


def test_a_study_of_several_processes_is_submitted_as_such(
    known, tmp_path, monkeypatch, capsys
):
    """Of each run the first process keeps the books, and the others follow it."""
    argv = [TINY, "--set=config.mesh.processes=2", "--seeds=0,", f"--out={tmp_path}"]
    options = ["--engine-option=image=lab/tfm:1", "--engine-option=claim=disk"]
    assert run.main([*argv, "--engine=kubernetes", *options]) == 0
    path = tmp_path / "tiny_study-cpu" / "kubernetes" / "job.yaml"
    found = list(yaml.safe_load_all(path.read_text()))
    assert [each["kind"] for each in found] == ["JobSet"] * 3
    kept, followed = [], []
    monkeypatch.setattr(local, "run_group", lambda g, _, followed: kept.append(g) or 3)
    monkeypatch.setattr(local, "follow", lambda cell: followed.append(cell) or 4)
    for process, code in (("0", 3), ("1", 4)):
        monkeypatch.setenv("JAX_PROCESS_ID", process)
        assert run.main([*argv, "one", "--index=0"]) == code
    [[cell]] = kept
    assert [cell.directory] == [other.directory for other in followed]
    cell.directory.mkdir()
    (cell.directory / "DONE.json").write_text('{"status": "diverged"}')
    assert run.main([*argv, "one", "--index=0"]) == 0, "nothing is left to follow"
