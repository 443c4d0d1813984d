"""Data that comes to a halt ends the process; data that comes does not."""

import os
import subprocess
import sys
import threading
import time

import pytest

from tfm_jax.data import batches, progress, watchdog
from tfm_jax.data.rows import pairs
from tfm_jax.data.sources import text_files

HALTS = """
import sys, time
from tfm_jax.data import batches, cache, prepared
from tfm_jax.data.rows import labelled, pairs
from tfm_jax.data.tokenizers import bilingual, vocabularies
import pathlib

def translations(pipe, seconds):
    files = dict(source="parallel", train_files=(pipe,))
    cfg = pairs.Config(**files, timeout_seconds=seconds)
    sections = cfg, bilingual.Config(kind="byte")
    cache.prepared(pairs.KIND, *sections, pathlib.Path(pipe).parent / "c")

def labels(pipe, seconds):
    cfg = labelled.Config(train_files=(pipe,), timeout_seconds=seconds)
    prepared.prepare(labelled.KIND, cfg, vocabularies.Config(kind="byte"))

def stream(pipe, seconds):
    class Source:
        def __len__(self):
            return 3
        def __getitem__(self, index):
            time.sleep(60)
    options = dict(start=0, prefetch=2, identity={}, timeout_seconds=seconds)
    next(batches.TrainBatches(Source(), **options))

globals()[sys.argv[1]](sys.argv[2], 0.3)
"""


@pytest.mark.parametrize(
    "what, words",
    [
        ("translations", ("pipe' gave nothing", "text_files.py")),
        ("labels", ("pipe' gave nothing", "text_files.py")),
        ("stream", ("'the next batch' gave nothing", "in __getitem__")),
    ],
)
def test_data_that_comes_to_a_halt_ends_the_process_with_all_stacks(
    tmp_path, what, words
):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # nobody writes to it
    command = [sys.executable, "-c", HALTS, what, str(pipe)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert child.returncode == 69
    for expected in ("tfm_jax: data.timeout_seconds=0.3: ", "Thread 0x", *words):
        assert expected in child.stderr


@pytest.fixture
def ended(monkeypatch):
    """What the watchdog would have ended the process for."""
    calls = []
    monkeypatch.setattr(watchdog, "_end", lambda *wait: calls.append(wait))
    return calls


def test_data_that_comes_slowly_is_no_halt(tmp_path, ended):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write():
        with open(pipe, "wb", buffering=0) as file:
            for _ in range(6):
                file.write(b"a\tb\n")
                time.sleep(0.3)

    thread = threading.Thread(target=write)
    thread.start()
    with watchdog.patience(1.2):
        assert text_files.read_bytes(pipe, "data.train_files") == b"a\tb\n" * 6
    thread.join()
    assert ended == []


def test_nobody_waits_longer_than_asked(ended):
    with watchdog.patience(0.1), watchdog.awaited("it"):
        begun = time.monotonic()
        while not ended and time.monotonic() - begun < 60:
            time.sleep(0.02)
    assert ended[:1] == [(0.1, "it")] and watchdog._waits == {}


def test_0_is_for_ever(ended):
    with watchdog.patience(0.0), watchdog.awaited("it"):
        assert watchdog._waits == {}
    assert ended == []


def test_a_timeout_below_0_is_refused():
    for section in (pairs.Config, batches.Order):
        with pytest.raises(ValueError, match="data.timeout_seconds=-1"):
            section(timeout_seconds=-1.0)


def test_a_timeout_changes_no_batch():
    def given(seconds):
        options = dict(start=0, prefetch=0, identity={}, timeout_seconds=seconds)
        return list(batches.TrainBatches([1, 2, 3], **options))

    assert given(0.0) == given(5.0) == [1, 2, 3]


@pytest.mark.parametrize(("silent", "said"), [(0.01, "reading ...\n"), (60, "")])
def test_what_takes_long_is_announced(silent, said, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SILENT", silent)
    with progress.announced("reading"):
        time.sleep(0.1)
    assert capsys.readouterr().err == said
