import json
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.engines import slurm
from tests.experiments.engines import fake_slurm, real_slurm
from tfm_jax.data.errors import DataError
from tfm_jax.runs.process.exits import InfrastructureError

# Ends its attempts one after the other with the codes in its folder; "TERM": waits for
# that signal and ends with 75. Of several codes the last one is for ever.
CELL = """
import json, pathlib, signal, sys, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
index = int(sys.argv[2].removeprefix("--index="))
plan = json.loads(pathlib.Path(sys.argv[1], "plan.json").read_text())
home = pathlib.Path(plan["cells"][index]["directory"])
codes = json.loads((home / "codes").read_text())
with open(home / "starts", "a") as starts:
    starts.write("%r " % time.time())
attempt = len((home / "starts").read_text().split())
code = codes[min(attempt, len(codes)) - 1]
while code == "TERM":
    if asked:
        code = 75
    time.sleep(0.02)
if code in (0, 79):
    (home / "DONE.json").write_text('{"status": "diverged"}')
elif code in (65, 78):
    (home / "FAILED.json").write_text("{}")
with open(home / "ends", "a") as ends:
    ends.write("%r " % time.time())
print("leaving with", code)
sys.exit(code)
"""
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"}
HOSTILE = [
    "a\n#SBATCH --wrap=id",
    "a;touch pwned",
    "$(touch pwned)",
    "`touch pwned`",
    "a b",
    "a\r",
    "a\0",
    "a#b",
    "a'",
    'a"',
    "a\\",
    "\u2028a",
    "",
]


@pytest.fixture
def fake(tmp_path, monkeypatch):
    fake_slurm.install(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    yield
    fake_slurm.stop(tmp_path / "bin")


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.slow)])
def cluster(request, monkeypatch):
    if request.param == "fake":
        request.getfixturevalue("fake")
        yield 30.0
        return
    if reason := real_slurm.lacking():
        pytest.skip(reason)
    with real_slurm.cluster() as configuration:
        monkeypatch.setenv("SLURM_CONF", str(configuration))
        yield 120.0


class Study:
    """One with a run for each list of codes."""

    def __init__(self, folder, *codes, processes=None):
        self.directory = folder / "study"
        self.homes = [
            self.directory / f"arm-s{n}-0123456789ab" for n in range(len(codes))
        ]
        for home, wanted in zip(self.homes, codes, strict=True):
            home.mkdir(parents=True)
            (home / "codes").write_text(json.dumps(wanted))
        cells = [
            {"id": home.name[-12:], "directory": str(home), "processes": count}
            for home, count in zip(
                self.homes, processes or [1] * len(codes), strict=True
            )
        ]
        plan = {"study": "norms:cpu", "cells": cells}
        (self.directory / "plan.json").write_text(json.dumps(plan))
        self.cell = folder / "cell.py"
        self.cell.write_text(CELL)

    def submit(self, **settings):
        self.job, *self.others = slurm.submit(
            "norms:cpu",
            self.directory,
            range(len(self.homes)),
            command=(sys.executable, "-S", self.cell, self.directory),
            **settings,
        )

    def started(self, index):
        path = self.homes[index] / "starts"
        return len(path.read_text().split()) if path.exists() else 0

    def wait(self, condition, seconds):
        end = time.monotonic() + seconds
        while not condition():
            logs = {p.name: p.read_text() for p in self.directory.glob("slurm/*")}
            assert time.monotonic() < end, (slurm.status(self.job), logs)
            time.sleep(0.2)

    def wait_for_the_end(self, seconds, runs=None):
        runs = set(range(len(self.homes)) if runs is None else runs)

        def ended():
            states = slurm.status(self.job)
            return states.keys() == runs and FINAL.issuperset(states.values())

        self.wait(ended, seconds)


def scancel(*arguments):
    subprocess.run(["scancel", *arguments], check=True)


def test_what_is_put_back_into_the_queue_follows_from_the_exit_code(cluster, tmp_path):
    study = Study(tmp_path, [0], ["TERM", 0], [78], [1])
    study.submit(jobs=3, time_limit="10")
    study.wait(lambda: study.started(1), cluster)
    scancel("--signal=TERM", f"{study.job}_1")  # goes where sbatch --signal goes
    study.wait_for_the_end(cluster)
    assert [study.started(n) for n in range(4)] == [1, 2, 1, 3]
    states = slurm.status(study.job)
    assert [states[n] == "COMPLETED" for n in range(4)] == [True, True, False, False]


def test_preemptions_are_not_counted_as_failures(fake, tmp_path):
    study = Study(tmp_path, [75, 75, 75, 69], [69, 0], [139, 75, 1, 0], [65], [79])
    study.submit()
    study.wait_for_the_end(30)
    assert [study.started(n) for n in range(5)] == [6, 2, 4, 1, 1]


def test_a_cancelled_run_saves_and_stays_cancelled(cluster, tmp_path):
    study = Study(tmp_path, ["TERM"], ["TERM"])
    study.submit()
    study.wait(lambda: study.started(0) and study.started(1), cluster)
    scancel(f"{study.job}_1")  # of the last task the job id is the array's
    study.wait(lambda: slurm.status(study.job)[1] == "CANCELLED", cluster)
    scancel(f"{study.job}_0")
    study.wait_for_the_end(cluster)
    assert [study.started(n) for n in range(2)] == [1, 1]
    logs = [path.read_text() for path in study.directory.glob("slurm/*.log")]
    assert ["leaving with 75" in log for log in logs] == [True, True]


def test_no_more_than_jobs_run_at_a_time(fake, tmp_path):
    study = Study(tmp_path, *[[0]] * 4)
    study.submit(jobs=1)
    study.wait_for_the_end(30)
    spans = [
        [float((h / n).read_text()) for n in ("starts", "ends")] for h in study.homes
    ]
    for (_, end), (start, _) in zip(spans, spans[1:], strict=False):
        assert end < start


def test_only_runs_that_have_not_ended_are_submitted(fake, tmp_path):
    study = Study(tmp_path, [0], [0], [0], [0], [0])
    (study.homes[0] / "DONE.json").write_text('{"status": "diverged"}')
    (study.homes[2] / "FAILED.json").write_text('{"retryable": false}')
    (study.homes[3] / "FAILED.json").write_text('{"retryable": true}')
    study.submit()
    study.wait_for_the_end(30, runs=(1, 3, 4))
    assert [study.started(n) for n in range(5)] == [0, 1, 0, 1, 1]
    (study.homes[3] / "DONE.json").write_text('{"status": "diverged"}')
    with pytest.raises(ValueError, match="every run asked for has ended"):
        study.submit()


def test_a_refusal_of_slurm_is_passed_on_in_its_words(fake, tmp_path):
    study = Study(tmp_path, [0])
    with pytest.raises(InfrastructureError, match="unrecognized option.*qos"):
        study.submit(options={"qos": "high"})


def test_jobs_that_were_submitted_before_a_refusal_are_named(tmp_path, monkeypatch):
    answers = iter(["7;here\n"])

    def sbatch(*_):
        for answer in answers:
            return answer
        raise InfrastructureError("sbatch: no more jobs")

    study = Study(tmp_path, [0], [0], processes=[1, 2])
    monkeypatch.setattr(slurm, "_slurm", sbatch)
    with pytest.raises(InfrastructureError, match="no more jobs; .* before it: job 7$"):
        study.submit()


def test_without_slurm_the_error_says_so(tmp_path, monkeypatch):
    study = Study(tmp_path, [0])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfrastructureError, match="no sbatch here"):
        study.submit()


def test_a_run_gets_its_processes_and_runs_of_as_many_are_one_array(fake, tmp_path):
    study = Study(tmp_path, [0], [0], [0], processes=[2, 1, 2])
    study.submit()
    study.wait_for_the_end(30, runs=[1])
    [study.job] = study.others
    study.wait_for_the_end(30, runs=[0, 2])
    assert [study.started(n) for n in range(3)] == [2, 1, 2]


@pytest.mark.parametrize("processes", ["2", 0, 2.0, None])
def test_a_plan_of_no_number_of_processes_is_damaged(tmp_path, processes):
    study = Study(tmp_path, [0], processes=[processes])
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(DataError):
        study.submit()


def test_a_number_of_processes_that_options_contradict_stops_before_any_job(
    fake, tmp_path
):
    study = Study(tmp_path, [0], [0], processes=[1, 2])
    with pytest.raises(ValueError, match="nodes=1 start 1 .* mesh.processes=2"):
        study.submit(options={"nodes": 1})
    assert not list(tmp_path.glob("bin/job-*"))


def script(study="norms:cpu", directory="/s", indices=(0,), **settings):
    return slurm.script(study, directory, indices, **settings)


def header(text):
    return [line for line in text.split("\n") if line.startswith("#SBATCH")]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "where", ["study", "directory", "time_limit", "option", "value"]
)
def test_nothing_can_be_smuggled_into_the_header(where, text):
    settings = {
        "option": {"options": {text: "x"}},
        "value": {"options": {"partition": text}},
        "directory": {"directory": f"/s/{text}!"},
    }.get(where, {where: text or "!"})
    with pytest.raises(ValueError, match="must match"):
        script(**settings)


@given(st.text(), st.text())
def test_any_text_is_refused_or_leaves_one_line_an_option(study, value):
    try:
        text = script(study=study, options={"partition": value})
    except ValueError:
        return
    assert text.isprintable() or text.replace("\n", "").isprintable()
    assert len(header(text)) == len(header(script(options={"partition": "x"})))


@pytest.mark.parametrize("name", ["array", "signal", "requeue", "no-requeue", "output"])
def test_what_the_engine_relies_on_cannot_be_changed(name):
    with pytest.raises(ValueError, match="set by this engine"):
        script(options={name: "1"})


def test_hostile_arguments_of_the_command_stay_arguments(fake, tmp_path):
    words = [text for text in HOSTILE if "\0" not in text]
    path, where = tmp_path / "array.sh", tmp_path / "a 'b' $(touch pwned)"
    where.mkdir()
    (tmp_path / "bin" / "job-1").mkdir()
    show = "import json, os, sys; print(json.dumps([os.getcwd(), *sys.argv[1:]]))"
    path.write_text(script(command=(sys.executable, "-c", show, *words), where=where))
    task = {"SLURM_ARRAY_JOB_ID": "1", "SLURM_ARRAY_TASK_ID": "5"}
    done = subprocess.run(
        ["bash", str(path)], env=os.environ | task, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == [str(where), *words, "--index=5"]
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(
    "processes, options, lines",
    [
        (1, {}, ["nodes=1", "ntasks-per-node=1"]),
        (2, {"cpus-per-task": 8}, ["nodes=2", "ntasks-per-node=1", "cpus-per-task=8"]),
        (2, {"nodes": "2"}, ["nodes=2", "ntasks-per-node=1"]),
        (8, {"ntasks-per-node": 4}, ["nodes=2", "ntasks-per-node=4"]),
        (8, {"nodes": 1, "ntasks-per-node": 8}, ["nodes=1", "ntasks-per-node=8"]),
        (8, {"ntasks": 8}, ["ntasks=8"]),
    ],
)
def test_several_processes_get_a_node_each_or_what_is_asked(processes, options, lines):
    text = script(processes=processes, options=options)
    assert header(text)[-len(lines) :] == [f"#SBATCH --{line}" for line in lines]


@pytest.mark.parametrize(
    "processes, options, words",
    [
        (1, {"nodes": 2}, "nodes=2 start 2 processes.*mesh.processes=1"),
        (3, {"ntasks-per-node": 2}, "ntasks-per-node=2 start 2 .*mesh.processes=3"),
        (2, {"ntasks": 1}, "ntasks=1 start 1 .*mesh.processes=2"),
        (2, {"nodes": "1-2"}, "option nodes '1-2': must match"),
        (2, {"ntasks-per-node": 0}, "option ntasks-per-node '0': must match"),
    ],
)
def test_options_that_start_other_processes_are_refused(processes, options, words):
    with pytest.raises(ValueError, match=words):
        script(processes=processes, options=options)


def test_processes_that_wait_for_one_that_has_ended_are_ended():
    assert "\nsrun --wait=120 " in script(processes=2)
    assert "--wait" not in script()


def test_srun_is_told_the_cores_of_a_process():
    assert "\nsrun --cpus-per-task=8 " in script(options={"cpus-per-task": 8})


def test_every_process_hears_of_the_end_two_minutes_before():
    assert "#SBATCH --signal=TERM@120" in header(script())


@given(st.sets(st.integers(0, 50), min_size=1))
def test_compressed_indices_name_the_same_tasks(indices):
    named = []
    for part in slurm.compress(indices).split(","):
        first, _, last = part.partition("-")
        named.extend(range(int(first), int(last or first) + 1))
    assert named == sorted(indices)


def test_neighbours_are_compressed():
    assert slurm.compress([7, 0, 1, 2, 3]) == "0-3,7"  # as in the manual of sbatch


@pytest.mark.parametrize("indices", [[], [-1]])
def test_an_array_has_tasks_from_zero(indices):
    with pytest.raises(ValueError, match="negative|no run"):
        slurm.compress(indices)
