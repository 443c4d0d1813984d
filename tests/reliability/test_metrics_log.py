"""The record of a run survives kills and continues without gaps or repeats."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.event_file_writer import EventsWriter

from tfm_jax.data.errors import DataError
from tfm_jax.runs.log import MetricsLog, Progress, counted, read_history
from tfm_jax.runs.trackers import follower


def steps(workdir):
    return [record["step"] for record in read_history(workdir)]


def write(workdir, numbers, *, step=0):
    with MetricsLog(workdir, step=step, trackers=()) as log:
        for number in numbers:
            log.write(number, "train", {"loss": 1 / number})


def test_records_come_back_with_numbers_of_any_library(tmp_path):
    values = {"a": jnp.float32(0.5), "b": np.int64(3), "c": 2.5, "d": "x", "e": None}
    with MetricsLog(tmp_path) as log:
        log.write(jnp.int32(1), "train", values)
        log.write(1, "valid", {"bleu": jnp.bfloat16(7)})
    assert read_history(tmp_path) == [
        {"step": 1, "kind": "train", "a": 0.5, "b": 3, "c": 2.5, "d": "x", "e": None},
        {"step": 1, "kind": "valid", "bleu": 7.0},
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_are_still_strict_json(tmp_path, value):
    with MetricsLog(tmp_path) as log:
        log.write(1, "train", {"loss": value})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()

    def refuse(name):
        raise ValueError(name)

    json.loads(line, parse_constant=refuse)
    (record,) = read_history(tmp_path)
    np.testing.assert_equal(record["loss"], value)


def test_a_torn_last_line_is_dropped(tmp_path):
    write(tmp_path, [1, 2, 3])
    path = tmp_path / "metrics.jsonl"
    content = path.read_bytes()
    for cut in range(1, len(content.splitlines()[-1]) + 1):
        path.write_bytes(content[:-cut])
        assert steps(tmp_path) == [1, 2]
    write(tmp_path, [3, 4], step=2)
    assert steps(tmp_path) == [1, 2, 3, 4]


def test_a_resumed_log_has_every_step_once(tmp_path):
    write(tmp_path, [1, 2, 3, 4, 5])
    write(tmp_path, [4, 5, 6], step=3)
    assert steps(tmp_path) == [1, 2, 3, 4, 5, 6]
    write(tmp_path, [1], step=0)  # no checkpoint was left: from the start
    assert steps(tmp_path) == [1]


DAMAGED = [
    b'{"step": 3, ',
    b'{"stfp": 3, "kind": "train"}',
    b'{"step": "3", "kind": "train"}',
    b'{"step": true, "kind": "train"}',
    b'{"step": 3, "kind": null}',
    b"[3]",
    b"[" * 100_000,
    b"\0" * 40 + b'{"step": 3, "kind": "train"}',
    b'{"step": 3, "kind": "tr\xe1in"}',
    b"",
]


@pytest.mark.parametrize("line", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_line_is_skipped_with_one_warning_and_kept(tmp_path, caplog, line):
    write(tmp_path, [1, 2])
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(line + b'\n{"step": 4, "kind": "train"}\n')
    assert steps(tmp_path) == [1, 2, 4]
    write(tmp_path, [3, 4], step=2)
    assert steps(tmp_path) == [1, 2, 3, 4]
    assert line in (tmp_path / "metrics.jsonl").read_bytes().split(b"\n")
    (record,) = caplog.records
    assert "1 damaged line(s) skipped, the first is line 3" in record.getMessage()


def test_a_record_that_is_no_file_is_bad_data_in_one_line(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    for read in (read_history, MetricsLog):
        with pytest.raises(DataError, match="metrics.jsonl: not a regular file"):
            read(tmp_path)


def broken_disk(patch):
    def fail(self, event):
        raise OSError(5, "Input/output error")

    patch.setattr(EventsWriter, "write_event", fail)


def hanging_disk(patch):
    patch.setattr(EventsWriter, "write_event", lambda *_: threading.Event().wait())


def a_clock_set_back(patch):
    now = time.time()
    patch.setattr(time, "time", lambda: now - 30 * 24 * 3600)


@pytest.mark.parametrize("fault", [broken_disk, hanging_disk, a_clock_set_back])
def test_nothing_in_the_writer_of_tensorboard_stops_a_run(
    tmp_path, monkeypatch, caplog, fault
):
    monkeypatch.setattr(follower, "WAITING", 20)
    monkeypatch.setattr(follower, "PATIENCE", 0.2)
    with MetricsLog(tmp_path) as log:
        for step in range(1, 101):
            if step == 10:
                while not any(f.stat().st_size for f in tmp_path.glob("tensorboard/*")):
                    time.sleep(0.01)
                fault(monkeypatch)
            log.write(step, "train", {"loss": 1.0})
            if fault is a_clock_set_back:
                time.sleep(0.001)
    assert steps(tmp_path) == list(range(1, 101))
    said = [record.getMessage() for record in caplog.records]
    if fault is not a_clock_set_back:
        assert len(said) == 1 and "tensorboard gets no more records" in said[0]


def test_nothing_written_is_lost_by_a_kill(tmp_path):
    program = """
import os, signal, sys
from tfm_jax.runs.log import MetricsLog
log = MetricsLog(sys.argv[1], trackers=())
for step in range(1, 51):
    log.write(step, "train", {"loss": 1.0})
os.kill(os.getpid(), signal.SIGKILL)
"""
    child = subprocess.run([sys.executable, "-c", program, str(tmp_path)])
    assert child.returncode == -signal.SIGKILL
    assert steps(tmp_path) == list(range(1, 51))


def test_a_kill_while_the_log_is_cut_loses_nothing(tmp_path, monkeypatch):
    write(tmp_path, [1, 2, 3])

    def die(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", die)
        MetricsLog(tmp_path, step=1)
    assert steps(tmp_path) == [1, 2, 3]


def test_tensorboard_gets_the_same_scalars_and_works_without(tmp_path, monkeypatch):
    with MetricsLog(
        tmp_path / "a" if (tmp_path / "a").mkdir() else tmp_path / "a"
    ) as log:
        log.write(1, "train", {"loss": 2.0, "bad": math.nan, "note": "x"})
    (events,) = (tmp_path / "a" / "tensorboard").iterdir()
    assert b"train/loss" in events.read_bytes()
    assert b"train/bad" not in events.read_bytes()
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    (tmp_path / "b").mkdir()
    write(tmp_path / "b", [1])
    with MetricsLog(tmp_path / "b", step=1) as log:
        log.write(2, "train", {"loss": 2.0})
    assert steps(tmp_path / "b") == [1, 2]
    assert not (tmp_path / "b" / "tensorboard").exists()


def test_progress_prints_plain_lines_where_there_is_no_terminal(capsys):
    with Progress(10, every_seconds=3600) as progress:
        for step in (1, 2, 10):
            progress.update(step, loss=1.5, tokens_per_second=12345.6)
        progress.evaluation(10, {"nll": 1.23456, "tokens": 16_817, "signature": "x"})
    before, first, last, scores = capsys.readouterr().out.splitlines()
    assert before == "compiling the train step"
    assert scores == "step 10/10  valid: nll 1.235  tokens 16,817"
    assert first == "step 1/10  loss 1.5000  12,346 tokens/s  ? left"
    assert last == "step 10/10  loss 1.5000  12,346 tokens/s  0:00:00 left"


def test_the_speed_is_of_what_is_counted(capsys):
    with Progress(1, counted="images") as progress:
        progress.update(1, loss=1.5, tokens_per_second=7)
    assert "7 images/s" in capsys.readouterr().out


def test_a_speed_that_is_not_known_is_not_shown(capsys):
    with Progress(1, every_seconds=3600) as progress:
        progress.update(1, loss=1.5)
    shown = capsys.readouterr().out.splitlines()[-1]
    assert shown == "step 1/1  loss 1.5000  0:00:00 left"


def test_progress_draws_a_bar_in_a_terminal(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with Progress(10, start=4) as progress:
        (task,) = progress._bar.tasks
        assert task.fields["text"] == "compiling"
        progress.first_step(1.0)
        progress.update(5, loss=1.5, tokens_per_second=100)
        (task,) = progress._bar.tasks
        assert (task.completed, task.total) == (5, 10)


def test_what_takes_long_is_counted(capsys):
    with counted(300, least=300, every_seconds=0) as done:
        done(100)
        done(200)
    assert capsys.readouterr().out.splitlines() == ["100 of 300", "300 of 300"]
    with counted(299, least=300, every_seconds=0) as done:
        done(299)
    with counted(300, least=300, every_seconds=3600) as done:
        done(300)
    assert not capsys.readouterr().out
