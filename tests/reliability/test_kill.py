"""SIGKILL at any moment, a full disk: the last committed checkpoint is intact.

The children are forked from one process that has imported everything and started
nothing, so that a kill costs half a second instead of four.
"""

import contextlib
import random
import subprocess
import sys
import time
from threading import Thread

import jax
import numpy as np
import pytest

from tests.reliability.states import make_state
from tfm_jax.runs.process.exits import InfrastructureError
from tfm_jax.runs.storage import commit
from tfm_jax.runs.storage.checkpoint import Checkpointer, Config, verify

SAVE_FOREVER = """
import os, resource, signal, sys
import numpy as np
from tfm_jax.runs.storage.checkpoint import Checkpointer, Config
from tfm_jax.runs.process.exits import exit_code

def values(seed):
    return np.random.default_rng(seed).normal(size=(64, 64)).astype(np.float32)

def state(step):
    moving = {"w": values(step), "b": values(step)[0]}
    params = moving | {"lm": {"w": values(0)}}  # which is frozen
    return {"step": np.int32(step), "params": params}

def save_forever(directory):
    checkpointer = Checkpointer(directory, Config(keep=2), still=("^lm/",))
    first = checkpointer.latest_good()
    if first is not None:
        checkpointer.restore(first, state(0))
    print("started", flush=True)
    for step in range((first or 0) + 1, 10**6):
        checkpointer.save(step, state(step), metrics={"loss": 1 / step})
        checkpointer.wait()
        print("committed", step, flush=True)
"""

ZYGOTE = (
    SAVE_FOREVER
    + """
for line in sys.stdin:
    child = os.fork()
    if not child:
        save_forever(line.strip())
    print("pid", child, flush=True)
    _, status = os.waitpid(child, 0)
    print("dead", os.waitstatus_to_exitcode(status), flush=True)
"""
)


def kill_after_start(zygote, directory, seconds):
    """Runs one child until ``seconds`` after its start; the last step it reported."""
    zygote.stdin.write(f"{directory}\n")
    zygote.stdin.flush()
    pid, committed, lines = None, 0, []
    while pid is None or "started" not in lines:
        line = zygote.stdout.readline().strip()
        assert line, "the child's parent ended"
        lines.append(line)
        if line.startswith("pid"):
            pid = int(line.split()[1])
    time.sleep(seconds)
    subprocess.run(["kill", "-9", str(pid)], check=True)
    while not lines[-1].startswith("dead"):
        lines.append(zygote.stdout.readline().strip())
    assert lines[-1] == "dead -9", lines
    for line in lines:
        if line.startswith("committed"):
            committed = int(line.split()[1])
    return committed


def test_sigkill_at_any_moment_loses_nothing_committed(tmp_path):
    namespace = {}
    exec(SAVE_FOREVER, namespace)  # noqa: S102  the values the children write
    rng = random.Random(0)
    reported, saved = 0, set()
    command = [sys.executable, "-c", ZYGOTE]
    directory = tmp_path / "checkpoints"
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as zygote:
        kills = 0
        while kills < 8 or len(saved) < 4:  # a slow machine needs more of them
            kills += 1
            assert kills < 40, "the children make no progress"
            seconds = rng.uniform(0.0, 0.5)
            reported = kill_after_start(zygote, directory, seconds) or reported
            for path in directory.glob("[0-9]*[0-9]"):
                if path.name.isdigit():
                    assert verify(path) == []  # whole or absent
            with Checkpointer(directory, Config(), still=("^lm/",)) as checkpointer:
                step = checkpointer.latest_good()
                if step is None:
                    assert not reported
                    continue
                assert step >= reported
                expected = namespace["state"](step)
                restored = checkpointer.restore(step, namespace["state"](0))
            jax.tree.map(np.testing.assert_array_equal, restored, expected)
            saved.add(step)
        zygote.stdin.close()
    assert not list(tmp_path.rglob("*.corrupt*"))
    assert len([*tmp_path.glob("frozen/*")]) == 1


FULL_DISK = (
    SAVE_FOREVER
    + """
directory, limit = sys.argv[1], int(sys.argv[2])
checkpointer = Checkpointer(directory, Config())
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    checkpointer.save(2, state(2))
    checkpointer.close()
    print("saved")
except BaseException as error:
    print(error)
    sys.exit(exit_code(error))
"""
)


@pytest.mark.parametrize("limit", [0, 4096])
def test_a_full_disk_ends_with_69_and_spares_the_checkpoint_before(tmp_path, limit):
    with Checkpointer(tmp_path, Config()) as checkpointer:
        checkpointer.save(1, make_state(1))
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(limit)]
    child = subprocess.run(command, capture_output=True, text=True)
    assert child.returncode == 69, child.stderr[-2000:]
    assert "000002 was not saved" in child.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["000001"]
    with Checkpointer(tmp_path, Config()) as checkpointer:
        assert checkpointer.latest_good() == 1


def test_nothing_is_left_of_a_checkpoint_that_threads_still_write(
    tmp_path, monkeypatch
):
    def fail_while_writing(folder, host):
        Thread(target=write_on, args=[folder]).start()
        while not (folder / "200").exists():
            time.sleep(0.001)
        raise OSError("the disk is full")

    def write_on(folder):
        with contextlib.suppress(FileNotFoundError):  # the folder is gone
            for number in range(2000):
                (folder / str(number)).write_bytes(b"")

    monkeypatch.setattr(commit, "_write", fail_while_writing)
    with pytest.raises(InfrastructureError, match="the disk is full"):
        with Checkpointer(tmp_path, Config()) as checkpointer:
            checkpointer.save(1, make_state(1))
    assert not list(tmp_path.iterdir())
