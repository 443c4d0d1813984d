import collections
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from experiments.engines import local, screen
from experiments.runs import attempts, cells
from tfm_jax.runs.process.exits import InfrastructureError
from tfm_jax.runs.workdir import Lease

FAKE = Path(__file__).with_name("fake_run.py")
CORES = sorted(os.sched_getaffinity(0))
TWO = [local.Slot(f"core {n}", frozenset([n]), {"SLOT": str(n)}) for n in CORES[:2]]


def make(root, behaviours, steps=3, pace=0.05):
    made = []
    for n, behaviour in enumerate(behaviours):
        directory = root / f"{n}-{behaviour}"
        command = (str(FAKE), str(directory), behaviour, str(steps), str(pace))
        made.append(
            cells.Cell(f"{n:012}", "a", n, cells.FINAL, {}, directory, command, None)
        )
    return made


def history(cell):
    lines = (cell.directory / "history").read_text().splitlines()
    return [json.loads(line) for line in lines]


def names(found):
    return [attempts.status(cell.directory).name for cell in found]


class Told(local.Silent):
    def __init__(self):
        self.events = []

    def started(self, cell, slot):
        self.events.append(("start", cell.id, slot))

    def ended(self, cell, status, again):
        self.events.append((status.name, cell.id, status))


@pytest.fixture(autouse=True)
def importable(monkeypatch, request):
    monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath))


def test_every_cell_runs_once_and_never_two_on_one_core(tmp_path):
    found, told = make(tmp_path, ["done"] * 5), Told()
    assert local.run(found, TWO, {"jax": "0"}, told)
    assert names(found) == ["done"] * 5
    spans = collections.defaultdict(list)
    for cell in found:
        began, *steps, ended, completed = history(cell)
        assert completed == {"completed": True}
        assert [s["step"] for s in steps] == [1, 2, 3]
        assert len(began["cores"]) == 1
        spans[began["cores"][0]].append((began["began"], ended["ended"]))
    assert set(spans) <= {n for slot in TWO for n in slot.cores}
    for busy in map(sorted, spans.values()):
        assert all(a[1] <= b[0] for a, b in zip(busy, busy[1:], strict=False))
    started = [e for e in told.events if e[0] == "start"]
    assert len(started) == 5


def test_what_is_done_is_not_done_again_and_the_rest_is(tmp_path):
    found = make(tmp_path, ["done", "done"])
    assert local.run(found[:1], TWO, {})
    before = history(found[0])
    todo = [c for c in found if attempts.status(c.directory).name != "done"]
    assert todo == found[1:]
    assert local.run(todo, TWO, {})
    assert history(found[0]) == before and names(found) == ["done", "done"]


def test_failures_are_told_at_once_and_only_chance_is_tried_again(tmp_path):
    found, told = make(tmp_path, ["config", "crash", "diverge", "done"]), Told()
    assert local.run(found, TWO, {}, told)
    assert names(found) == ["failed", "failed", "diverged", "done"]
    assert [attempts.status(c.directory).attempts for c in found] == [1, 3, 1, 1]
    failed = [status for name, _, status in told.events if name == "failed"]
    assert all("is what happened" in status.error for status in failed)


def test_a_stopped_study_goes_on_where_it_was(tmp_path):
    found = make(tmp_path, ["done"] * 4, steps=20)
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert not local.run(found, TWO, {})
    assert "done" not in names(found)  # 20 steps take a second and a start-up
    before = [history(c) for c in found if (c.directory / "history").exists()]
    assert before and all("ended" not in record for h in before for record in h)
    assert local.run(found, TWO, {})
    assert names(found) == ["done"] * 4
    for cell in found:
        steps = [r["step"] for r in history(cell) if "step" in r]
        assert steps == list(range(1, 21)), "no step lost, none made twice"


def test_two_runners_share_a_study(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "AGAIN", 0.1)
    found = make(tmp_path, ["done"] * 4, steps=10)
    script = (
        "import sys; from pathlib import Path; from experiments.engines import local\n"
        "from tests.experiments.engines import test_local as t; local.AGAIN = 0.1\n"
        "local.run(t.make(Path(sys.argv[1]), ['done'] * 4, 10), t.TWO, {})"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    assert local.run(found, TWO, {})
    assert other.wait(60) == 0
    for cell in found:
        assert sum("completed" in record for record in history(cell)) == 1
        assert attempts.status(cell.directory).attempts == 1


def test_what_another_runner_has_ended_meanwhile_is_not_run_again(tmp_path):
    found, told = make(tmp_path, ["done", "config", "diverge"]), Told()
    assert local.run(found, TWO, {})
    assert local.run(found, TWO, {}, told), "with what it saw before the other's end"
    assert [attempts.status(cell.directory).attempts for cell in found] == [1, 1, 1]
    assert [name for name, *_ in told.events] == ["done", "failed", "diverged"]


@pytest.mark.parametrize("place", ["runner", "."])
def test_what_others_work_on_is_waited_for(tmp_path, monkeypatch, place):
    """Another runner, or the run that a killed runner left behind."""
    monkeypatch.setattr(local, "AGAIN", 0.1)
    [cell] = make(tmp_path, ["done"])
    (cell.directory / place).mkdir(parents=True, exist_ok=True)
    lease = Lease(cell.directory / place).__enter__()

    def end():
        (cell.directory / "results.json").write_text("{}")
        (cell.directory / "DONE.json").write_text('{"status": "done"}')
        lease.__exit__()

    threading.Timer(0.5, end).start()
    assert local.run([cell], TWO, {})
    assert names([cell]) == ["done"] and attempts.status(cell.directory).attempts == 0


ZYGOTE = """
import os, random, signal, sys, time
from pathlib import Path
from experiments.runs import attempts, cells
from experiments.engines import local, screen
from tests.experiments.engines import test_local as t

local.AGAIN = 0.1
rng = random.Random(0)
found = t.make(Path(sys.argv[1]), ["done"] * 6, 12, 0.02)
for _ in range(20):
    child = os.fork()
    if not child:
        left = [c for c in found if attempts.status(c.directory).name != "done"]
        local.run(left, t.TWO, {})
        os._exit(0)
    time.sleep(rng.uniform(0.0, 0.4))  # a run lasts half a second
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
local.run([c for c in found if attempts.status(c.directory).name != "done"], t.TWO, {})
"""


def test_a_runner_killed_at_any_moment_loses_and_repeats_nothing(tmp_path):
    subprocess.run([sys.executable, "-c", ZYGOTE, str(tmp_path)], check=True)
    found = make(tmp_path, ["done"] * 6, 12)
    assert names(found) == ["done"] * 6
    for cell in found:
        records = history(cell)
        assert sum("completed" in record for record in records) == 1
        assert [r["step"] for r in records if "step" in r] == list(range(1, 13))


def test_slots_are_disjoint_and_no_more_than_there_is(monkeypatch):
    monkeypatch.setattr(local, "_gpus", lambda: [])
    found = local.slots()
    assert [set(slot.cores) for slot in found] == [{n} for n in CORES]
    assert len(local.slots(1)) == 1
    with pytest.raises(ValueError, match="--jobs=1000"):
        local.slots(1000)


@pytest.mark.parametrize("jobs, shares", [(0, 1), (2, 1), (4, 2), (5, 3)])
def test_gpus_are_shared_only_if_asked(monkeypatch, jobs, shares):
    monkeypatch.setattr(local, "_gpus", lambda: ["0", "3"])
    found = [slot.variables for slot in local.slots(jobs)]
    used = collections.Counter(v["CUDA_VISIBLE_DEVICES"] for v in found)
    assert set(used) == {"0", "3"} and max(used.values()) == shares
    for variables in found:
        fraction = float(variables.get("XLA_PYTHON_CLIENT_MEM_FRACTION", 0.9))
        assert fraction * shares <= 0.9 + 1e-3


def test_one_cell_runs_here_for_a_scheduler(tmp_path, capsys):
    done, crash = make(tmp_path, ["done", "crash"])
    assert local.run_group([done], {}) == 0
    assert local.run_group([crash], {}) == 1
    assert names([done, crash]) == ["done", "failed"]
    [slow] = make(tmp_path / "slow", ["done"], steps=100)
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    began = time.monotonic()
    assert local.run_group([slow], {}) == 75 and time.monotonic() - began < 4
    assert names([slow]) == ["stopped"]
    capsys.readouterr()
    screen.Lines(total=3, done=1).ended(slow, attempts.status(slow.directory), False)
    told = capsys.readouterr().out
    assert re.fullmatch(rf"stopped {slow.directory.name}  \d s  \[1/3\]\n", told)


def test_a_first_process_that_others_wait_for_does_not_end_as_if_all_were_well(
    tmp_path,
):
    [cell] = make(tmp_path, ["done"])
    with (
        attempts.runner_lease(cell),
        pytest.raises(InfrastructureError, match="already running"),
    ):
        local.run_group([cell], {}, followed=True)
    assert local.run_group([cell], {}, followed=True) == 0
    with pytest.raises(InfrastructureError, match="has ended meanwhile"):
        local.run_group([cell], {}, followed=True)
