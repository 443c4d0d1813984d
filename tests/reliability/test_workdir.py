"""A workdir is usable before anything is compiled, and belongs to one process."""

import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tfm_jax.runs.log import MetricsLog, read_history
from tfm_jax.runs.process.exits import (
    AlreadyRunning,
    InfrastructureError,
    exit_code,
)
from tfm_jax.runs.storage.checkpoint import Checkpointer, Config
from tfm_jax.runs.workdir import Lease, preflight, replace

FAST = {"beat": 0.05, "patience": 0.4}


def test_a_new_workdir_is_private_and_stays_empty(tmp_path):
    workdir = preflight(tmp_path / "runs" / "a")
    assert workdir.stat().st_mode & 0o777 == 0o700
    assert list(workdir.iterdir()) == []
    (workdir / "file").touch()
    assert preflight(workdir) == workdir
    assert [path.name for path in workdir.iterdir()] == ["file"]


def test_a_workdir_below_a_file_is_unusable(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InfrastructureError, match="--workdir=.*/file/run"):
        preflight(tmp_path / "file" / "run")


@pytest.mark.parametrize("call", ["mkdir", "write_bytes", "unlink"])
def test_every_step_of_the_probe_counts(tmp_path, monkeypatch, call):
    def fail(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pathlib.Path." + call, fail)
    with pytest.raises(InfrastructureError, match="Read-only") as error:
        preflight(tmp_path / "run")
    assert exit_code(error.value) == 69


def test_a_second_process_leaves_with_zero_while_the_first_runs(tmp_path):
    program = """
import sys
from tfm_jax.runs.storage.checkpoint import Checkpointer, Config
from tfm_jax.runs.process.exits import exit_code
from tfm_jax.runs.workdir import Lease
try:
    with Lease(sys.argv[1]):
        print("held", flush=True)
        sys.stdin.read()
except Exception as error:
    print(error)
    sys.exit(exit_code(error))
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen(command, **pipes) as first:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(AlreadyRunning, match=f"already running.*{first.pid}"):
            Lease(tmp_path).__enter__()
        second = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
        assert second.returncode == 0
        assert b"already running" in second.stdout
        first.kill()
        first.wait()
        with Lease(tmp_path):  # the lease of a dead process is taken over at once
            assert (
                json.loads((tmp_path / "lease.json").read_text())["pid"] == os.getpid()
            )
    assert not (tmp_path / "lease.json").exists()


def plant(tmp_path, **changes):
    """A lease as another machine would have written it."""
    with Lease(tmp_path):
        owner = json.loads((tmp_path / "lease.json").read_text())
    (tmp_path / "lease.json").write_text(json.dumps(owner | changes))
    return tmp_path / "lease.json"


def test_a_process_number_used_again_does_not_keep_a_dead_lease_alive(tmp_path):
    plant(tmp_path, started="1")
    with Lease(tmp_path):
        pass


HOSTILE = ["", "{", "[]", "[" * 100_000, "x" * 10_000, '{"pid": -1}', '{"pid": "1"}']


@pytest.mark.parametrize("content", [None, *HOSTILE], ids=range(8))
def test_a_silent_lease_from_elsewhere_is_taken_over(tmp_path, content):
    path = plant(tmp_path, machine="elsewhere")
    if content is not None:
        path.write_text(content)
    os.utime(path, (2_000_000_000, 2_000_000_000))  # that clock is ahead: no matter
    started = time.monotonic()
    with Lease(tmp_path, **FAST):
        assert time.monotonic() - started >= FAST["patience"]


def test_a_touched_lease_from_elsewhere_is_respected(tmp_path):
    path = plant(tmp_path, machine="elsewhere")
    done, when = threading.Event(), 1_000_000  # by a clock far behind ours
    os.utime(path, (when, when))

    def touch():
        nonlocal when
        while not done.wait(0.1):
            when += 1
            os.utime(path, (when, when))

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        with pytest.raises(AlreadyRunning, match="elsewhere"):
            Lease(tmp_path, **FAST).__enter__()
    finally:
        done.set()
        thread.join()


def test_a_holder_touches_its_lease(tmp_path):
    with Lease(tmp_path, **FAST):
        path = tmp_path / "lease.json"
        os.utime(path, (1, 1))
        time.sleep(0.3)
        assert path.stat().st_mtime > 1


def test_a_lease_that_is_no_file_is_replaced(tmp_path):
    os.mkfifo(tmp_path / "lease.json")
    with Lease(tmp_path, **FAST):
        assert json.loads((tmp_path / "lease.json").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("loss", ["taken over", "deleted", "flipped"])
def test_who_has_lost_the_lease_writes_nothing_more(tmp_path, loss):
    path = tmp_path / "lease.json"
    checkpoints = tmp_path / "checkpoints"
    with (
        Lease(tmp_path),
        MetricsLog(tmp_path, trackers=()) as log,
        Checkpointer(checkpoints, Config()) as checkpointer,
    ):
        log.write(1, "train", {})
        replace(tmp_path / "results.json", "{}")
        intact = path.read_bytes()
        if loss == "deleted":
            path.unlink()
        else:
            path.write_bytes(b"{}" if loss == "taken over" else b"\0" + intact[1:])
        for write in (
            lambda: log.write(2, "train", {}),
            lambda: replace(tmp_path / "results.json", "[]"),
            lambda: checkpointer.save(1, {"x": np.ones(1)}, wait=True),
        ):
            with pytest.raises(InfrastructureError, match="lease was lost") as error:
                write()
            assert exit_code(error.value) == 69
    assert len(read_history(tmp_path)) == 1
    assert (tmp_path / "results.json").read_text() == "{}"
    assert list(checkpoints.iterdir()) == []
    assert path.exists() == (loss != "deleted")  # another's lease stays


def test_of_many_that_take_over_a_stale_lease_one_wins(tmp_path):
    plant(tmp_path, started="1")
    barrier, results = threading.Barrier(8), []

    def claim():
        barrier.wait()
        try:
            lease = Lease(tmp_path)
            lease.__enter__()
            results.append(lease)
        except AlreadyRunning:
            results.append(None)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [lease for lease in results if lease]
    winner.__exit__()
    assert len(results) == 8
