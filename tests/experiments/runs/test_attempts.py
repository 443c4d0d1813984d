"""Attempts: where a run stands is read from its directory, whatever lies there."""

import errno
import json
import os
import shutil

import pytest

from experiments.runs import attempts, cells, files, outcomes
from tfm_jax import api
from tfm_jax.runs.process import exits
from tfm_jax.runs.workdir import Lease


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


@pytest.fixture
def cell(tmp_path):
    return cells.Cell("0" * 12, "pre", 0, cells.FINAL, {}, tmp_path / "c", (), None)


def attempt(cell, code, *, results=False):
    folder = attempts.begin(cell, {"jax": "0"})
    (folder / "log").write_text("first line\nlast line\n")
    if results:
        (cell.directory / "results.json").write_text("{}")
    return attempts.finish(cell, folder, code, 1.5)


@pytest.mark.parametrize(
    "code, results, name",
    [
        (exits.OK, True, "done"),
        (exits.DIVERGED, False, "diverged"),
        (exits.PREEMPTED, False, "stopped"),
        (exits.BAD_CONFIG, False, "failed"),
        (exits.BAD_DATA, False, "failed"),
        (exits.OK, False, "failed"),
    ],
)
def test_how_a_run_ended_is_read_from_its_directory(cell, code, results, name):
    assert attempts.status(cell.directory).name == "missing"
    assert attempt(cell, code, results=results).name == name
    found = attempts.status(cell.directory)
    assert (found.name, found.attempts, found.seconds) == (name, 1, 1.5)
    assert not found.retryable
    assert ("last line" in found.error) == (name == "failed")


@pytest.mark.parametrize("code", [exits.UNKNOWN, exits.INFRASTRUCTURE])
def test_what_may_be_chance_is_tried_three_times(cell, code):
    assert [attempt(cell, code).retryable for _ in range(3)] == [True, True, False]


def test_being_preempted_is_no_failure_however_often(cell):
    for _ in range(5):
        attempt(cell, exits.PREEMPTED)
    assert attempt(cell, exits.UNKNOWN).retryable


def test_a_run_that_another_process_holds_is_running(cell):
    folder = attempts.begin(cell, {})
    for place in (cell.directory, cell.directory / "first"):
        place.mkdir(exist_ok=True)
        with Lease(place):
            assert attempts.status(cell.directory).name == "running"
            assert attempts.finish(cell, folder, exits.OK, 1.0).name == "running"
        assert attempts.status(cell.directory).name == "stopped"


def test_a_run_that_went_on_without_its_runner_took_as_long_as_its_log(cell):
    folder = attempts.begin(cell, {})
    (folder / "log").write_text("step 3")
    began = (folder / "command").stat().st_mtime
    os.utime(folder / "log", (began + 30, began + 30))
    assert attempts.status(cell.directory).seconds == pytest.approx(30)
    attempts.finish(cell, attempts.begin(cell, {}), exits.PREEMPTED, 5.0)
    assert attempts.status(cell.directory).seconds == pytest.approx(35)


def test_a_run_whose_process_was_killed_is_not_running(cell):
    """Neither at once on this machine, nor for ever if it was on another one."""
    attempts.begin(cell, {})
    lease = cell.directory / "lease.json"
    with Lease(cell.directory):
        owner = json.loads(lease.read_text())
    for changed in ({"started": "0"}, {"pid": 2**22 + 1}):
        lease.write_text(json.dumps(owner | changed))
        assert attempts.status(cell.directory).name == "stopped"
    lease.write_text(json.dumps(owner | {"machine": "elsewhere"}))
    assert attempts.status(cell.directory).name == "running"
    long_ago = lease.stat().st_mtime - 100
    os.utime(lease, (long_ago, long_ago))
    assert attempts.status(cell.directory).name == "stopped"
    assert lease.exists(), "to read is not to run"


HOSTILE = {
    "torn": b'{"status": "do',
    "empty": b"",
    "zeros": b"\0" * 512,
    "brackets": b"[" * 100_000,
    "list": b"[1, 2]",
    "types": b'{"status": [], "code": "x", "seconds": {}, "jax": 3, "cells": 7}',
    "not utf-8": b"\xff\xfe{}",
    "number": b'{"status": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize(
    "name",
    [
        *("DONE.json", "FAILED.json", "results.json", "lease.json"),
        *("attempts/001/exit.json", "attempts/001/environment.json"),
    ],
)
@pytest.mark.filterwarnings("default")
def test_a_damaged_file_is_left_out_with_a_word_and_healed_by_the_next_run(
    cell, name, content, recwarn
):
    attempt(cell, exits.OK, results=True)
    assert attempts.status(cell.directory).name == "done"
    (cell.directory / name).write_bytes(content)
    found = attempts.status(cell.directory)
    outcomes.environments([attempts.look(cell)])
    words = {str(w.message) for w in recwarn}
    if name == "DONE.json" or name == "results.json" and content != HOSTILE["types"]:
        assert found.unfinished
    if name not in ("FAILED.json", "lease.json"):  # of a done run they are not read
        legal = content == HOSTILE["types"] and name == "results.json"
        assert len(words) == (not legal) and all(name in word for word in words)
    assert attempt(cell, exits.OK, results=True).name == "done"


@pytest.mark.filterwarnings("default")
def test_a_damaged_failure_or_lease_stops_nothing(cell, recwarn):
    for content in HOSTILE.values():
        attempt(cell, exits.BAD_CONFIG)
        for name in ("FAILED.json", "lease.json"):
            (cell.directory / name).write_bytes(content)
        assert attempts.status(cell.directory).name in ("running", "stopped", "failed")
        (cell.directory / "lease.json").unlink()


def test_a_disk_that_fails_is_no_missing_run(cell, monkeypatch):
    def broken(path, **_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(api.bounded_json, "read_bytes", broken)
    with pytest.raises(exits.InfrastructureError, match="cannot be read"):
        attempts.status(cell.directory)


def test_attempts_are_numbered_on_whatever_else_lies_there(cell):
    attempt(cell, exits.PREEMPTED)
    for name in (".ipynb_checkpoints", "._001", "notes"):
        (cell.directory / "attempts" / name).mkdir()
    shutil.rmtree(cell.directory / "attempts" / "001")
    assert attempts.begin(cell, {}).name == "001"
    assert attempts.begin(cell, {}).name == "002"
    shutil.rmtree(cell.directory / "attempts" / "001")
    assert attempts.begin(cell, {}).name == "003"


def test_every_attempt_records_its_command_and_environment(cell):
    attempt(cell, exits.PREEMPTED)
    attempt(cell, exits.OK, results=True)
    folders = sorted((cell.directory / "attempts").iterdir())
    assert [f.name for f in folders] == ["001", "002"]
    for folder in folders:
        assert files.read(folder / "environment.json") == {"jax": "0"}
        assert (folder / "command").read_text() == cell.shown + "\n"
