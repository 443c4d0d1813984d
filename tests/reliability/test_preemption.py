"""Signals: the first asks, the second is harmless, the third kills."""

import signal
import subprocess
import sys
import threading
import time

import jax
import pytest
from jax.experimental import multihost_utils

from tests.reliability.states import make_state
from tfm_jax.runs.process.exits import Preempted
from tfm_jax.runs.process.preemption import Preemption
from tfm_jax.runs.storage.checkpoint import Checkpointer, Config


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_only_raises_the_flag(number):
    with Preemption() as preemption:
        assert not preemption.requested
        assert not preemption.should_stop(1)
        signal.raise_signal(number)
        assert preemption.requested
        assert preemption.should_stop(2)


def test_the_handlers_of_before_come_back():
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(RuntimeError), Preemption():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        raise RuntimeError
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_thread_that_cannot_receive_signals_can_still_ask():
    answers = []

    def work():
        with Preemption() as preemption:
            answers.append(preemption.should_stop(1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert answers == [False]


def test_several_processes_stop_at_the_step_that_jax_names(monkeypatch):
    """The signal of one process alone must not stop it before the others."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(
        multihost_utils, "reached_preemption_sync_point", lambda step: step == 3
    )
    handler = signal.getsignal(signal.SIGTERM)
    with Preemption() as preemption:
        assert signal.getsignal(signal.SIGTERM) is handler  # left to jax.distributed
        assert [preemption.should_stop(step) for step in (1, 2, 3, 4)] == [
            *(False, False, True, True)
        ]
        assert preemption.requested


def test_where_nothing_is_to_be_saved_a_signal_is_the_end():
    with Preemption() as preemption:
        with pytest.raises(Preempted, match="nothing to save"):
            with preemption.nothing_to_save():
                signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # the second is harmless
        with pytest.raises(Preempted), preemption.nothing_to_save():
            pass  # asked before
    with Preemption() as preemption:
        with preemption.nothing_to_save():
            pass
        signal.raise_signal(signal.SIGTERM)
        assert preemption.requested
    assert signal.set_wakeup_fd(-1) == -1


PREPARES = """
import hashlib, sys, time
from tfm_jax import main
from tfm_jax.train import loop
from tfm_jax.runs.process.preemption import Preemption

works = {
    "python": lambda: [time.sleep(0.001) for _ in range(10**6)],
    "library": lambda: hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9),
}

def train(config, workdir, **options):
    with Preemption() as stop, stop.nothing_to_save():
        print("preparing", flush=True)
        works[sys.argv[1]]()

loop.train = train
main.load_config = lambda *_: None
sys.exit(main.main(["--config=x", "--workdir=x"]))
"""


@pytest.mark.parametrize("work", ["python", "library"])
def test_what_prepares_data_ends_in_about_a_second_whatever_runs(work):
    command = [sys.executable, "-c", PREPARES, work]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(command, **pipes) as child:
        assert child.stdout.readline() == "preparing\n"
        child.send_signal(signal.SIGTERM)
        started = time.monotonic()
        _, errors = child.communicate()
    assert child.returncode == 75
    assert errors.count("\n") == 1 and "nothing to save" in errors
    assert time.monotonic() - started < 10  # 1 on a machine that is not busy


STARTS = """
import os, signal, time
signal.raise_signal(signal.{})
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_command_that_has_not_begun_a_run_ends_at_once(name, tmp_path):
    config = tmp_path / "config.py"
    config.write_text(STARTS.format(name))
    flags = [f"--config={config}", f"--workdir={tmp_path / 'run'}"]
    command = [sys.executable, "-m", "tfm_jax.main", *flags]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 75
    assert ran.stderr == "tfm_jax: asked to stop; nothing to save\n"


SLOW_SAVE = """
import sys, time
import numpy as np
from tfm_jax.runs.storage import arrays
from tfm_jax.runs.storage.checkpoint import Checkpointer, Config
from tfm_jax.runs.process.exits import PREEMPTED
from tfm_jax.runs.process.preemption import Preemption

write = arrays.write
def slow(directory, host):
    write(directory, host)
    print("saving", flush=True)
    time.sleep(float(sys.argv[2]))
arrays.write = slow

with Preemption() as preemption:
    print("training", flush=True)
    while not preemption.requested:
        time.sleep(0.01)
    with Checkpointer(sys.argv[1], Config()) as checkpointer:
        checkpointer.save(2, {"x": np.ones(3)}, wait=True)
sys.exit(PREEMPTED)
"""


def start(directory, seconds):
    command = [sys.executable, "-c", SLOW_SAVE, str(directory), str(seconds)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "training\n"
    child.send_signal(signal.SIGTERM)
    assert child.stdout.readline() == "saving\n"
    return child


def test_a_second_signal_during_the_save_changes_nothing(tmp_path):
    with start(tmp_path, 0.5) as child:
        child.send_signal(signal.SIGINT)
    assert child.returncode == 75
    with Checkpointer(tmp_path, Config()) as checkpointer:
        assert checkpointer.latest_good() == 2


def test_a_third_signal_kills_and_the_checkpoint_before_is_good(tmp_path):
    with Checkpointer(tmp_path, Config()) as checkpointer:
        checkpointer.save(1, make_state(1))
    with start(tmp_path, 60) as child:
        for _ in range(2):
            child.send_signal(signal.SIGTERM)
            time.sleep(0.3)
    assert child.returncode == -signal.SIGTERM
    with Checkpointer(tmp_path, Config()) as checkpointer:
        assert checkpointer.latest_good() == 1
