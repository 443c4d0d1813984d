"""SIGKILL at any moment, a full disk: the last committed checkpoint is intact."""

import contextlib
import os
import random
import re
import signal
import time
from threading import Thread

import jax
import numpy as np
import pytest

from tests.reliability.states import make_state
from tfm_jax.runs.process.exits import InfrastructureError
from tfm_jax.runs.storage import commit
from tfm_jax.runs.storage.checkpoint import Checkpointer, Config, verify

STATES = """
import resource, sys
import numpy as np
from tfm_jax.runs.storage.checkpoint import Checkpointer, Config
from tfm_jax.runs.process.exits import exit_code

def values(seed):
    return np.random.default_rng(seed).normal(size=(64, 64)).astype(np.float32)

def state(step):
    moving = {"w": values(step), "b": values(step)[0]}
    params = moving | {"lm": {"w": values(0)}}  # which is frozen
    return {"step": np.int32(step), "params": params}

"""

SAVE_FOREVER = (
    STATES
    + """
checkpointer = Checkpointer(sys.argv[1], Config(keep=2), still=("^lm/",))
first = checkpointer.latest_good()
if first is not None:
    checkpointer.restore(first, state(0))
print("started", flush=True)
for step in range((first or 0) + 1, 10**6):
    checkpointer.save(step, state(step), metrics={"loss": 1 / step})
    checkpointer.wait()
    print("committed", step, flush=True)
"""
)


def kill_after_start(commands, directory, seconds):
    """Runs one child until ``seconds`` after its start; the last step it reported."""
    output = directory.with_name("output")
    output.write_text("")
    pid = commands.start_program([SAVE_FOREVER, directory], output)
    while "started" not in output.read_text():
        assert commands.poll(pid) is None, output.read_text()
        time.sleep(0.005)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    assert commands.wait(pid) == -signal.SIGKILL, output.read_text()
    steps = re.findall(r"^committed (\d+)\n", output.read_text(), re.M)
    return int(steps[-1]) if steps else 0


def test_sigkill_at_any_moment_loses_nothing_committed(commands, tmp_path):
    namespace = {}
    exec(STATES, namespace)  # noqa: S102  the values the children write
    rng = random.Random(0)
    reported, saved, kills = 0, set(), 0
    directory = tmp_path / "checkpoints"
    while kills < 8 or len(saved) < 4:  # a slow machine needs more of them
        kills += 1
        assert kills < 40, "the children make no progress"
        seconds = rng.uniform(0.0, 0.5)
        reported = kill_after_start(commands, directory, seconds) or reported
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
    assert not list(tmp_path.rglob("*.corrupt*"))
    assert len([*tmp_path.glob("frozen/*")]) == 1


FULL_DISK = (
    STATES
    + """
directory, limit = sys.argv[1], int(sys.argv[2])
checkpointer = Checkpointer(directory, Config())
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
try:
    checkpointer.save(2, state(2))
    checkpointer.close()
    said, code = "saved", 0
except BaseException as error:
    said, code = error, exit_code(error)
resource.setrlimit(resource.RLIMIT_FSIZE, before)  # what is printed is in a file, too
print(said)
sys.exit(code)
"""
)


@pytest.mark.parametrize("limit", [0, 4096])
def test_a_full_disk_ends_with_69_and_spares_the_checkpoint_before(
    commands, tmp_path, limit
):
    directory, output, errors = (tmp_path / x for x in ("checkpoints", "out", "errors"))
    with Checkpointer(directory, Config()) as checkpointer:
        checkpointer.save(1, make_state(1))
    pid = commands.start_program([FULL_DISK, directory, limit], output, errors)
    assert commands.wait(pid) == 69, errors.read_text()[-2000:]
    assert "000002 was not saved" in output.read_text()
    assert [path.name for path in directory.iterdir()] == ["000001"]
    with Checkpointer(directory, Config()) as checkpointer:
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
