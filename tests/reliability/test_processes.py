"""Real processes: killed at any moment, asked to stop, and two in one workdir."""

import os
import pathlib
import random
import re
import signal
import time

import pytest

from tests.reliability import tiny
from tfm_jax.runs.log import read_history
from tfm_jax.runs.process import exits
from tfm_jax.runs.storage.checkpoint import verify

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_bit_for_bit_the_same(
    commands, tmp_path, monkeypatch
):
    """Against a run in this process, whose PYTHONHASHSEED differs too."""
    knobs = {"train.log_every_steps": 1, "checkpoint.every_steps": 2}
    knobs["eval.pictures"] = False
    knobs["train.total_steps"] = 24  # an epoch and a half
    changes = {name.replace(".", "__"): value for name, value in knobs.items()}
    with tiny.quick():
        assert tiny.run(tmp_path / "unbroken", tiny.get_config(**changes))

    workdir, rng = tmp_path / "killed", random.Random(0)
    argv = [f"--config={tiny.__file__}", f"--workdir={workdir}"]
    argv += [f"--config.{name}={value}" for name, value in knobs.items()]
    codes = []
    for step in sorted(rng.sample(range(1, 22), 4)):
        pid = commands.start(argv, tmp_path / "output")
        commands.wait_for_step(pid, workdir, step)
        time.sleep(rng.uniform(0.0, 0.05))
        os.kill(pid, signal.SIGKILL)
        codes.append(commands.wait(pid))
        for path in workdir.glob("checkpoints/" + "[0-9]" * 6):
            assert verify(path) == []  # whole or absent
    assert codes == [-signal.SIGKILL] * 4
    last = commands.start(argv, tmp_path / "output")
    assert commands.wait(last) == exits.OK, (tmp_path / "output").read_text()[-3000:]

    kinds = {record["kind"] for record in read_history(workdir)}
    assert {"final_valid", "final_test"} <= kinds
    found = tiny.digests(workdir, without=("final_valid", "final_test"))
    assert found == tiny.digests(tmp_path / "unbroken")


def listening(pid):
    """Addresses on which a process accepts connections, as the kernel writes them."""
    sockets = set()
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry))
        sockets |= {match[1]} if match else set()
    found = []
    for table in ("tcp", "tcp6"):
        for line in (
            pathlib.Path(f"/proc/{pid}/net/{table}").read_text().split("\n")[1:]
        ):
            fields = line.split()
            if fields and fields[3] == "0A" and fields[9] in sockets:
                found.append(fields[1])
    return found


@pytest.mark.slow
def test_a_training_process_is_alone_silent_and_stops_when_asked(commands, tmp_path):
    workdir = tmp_path / "run"
    right = [f"--config={tiny.__file__}", f"--workdir={workdir}"]
    endless = ["--config.train.total_steps=1000000", "--config.train.log_every_steps=1"]
    output, errors = tmp_path / "output", tmp_path / "errors"
    pid = commands.start([*right, *endless], output, errors)
    try:
        commands.wait_for_step(pid, workdir, 5)
        if os.path.exists("/proc/net/tcp"):
            assert listening(pid) == []

        second = commands.start(right, tmp_path / "second")
        assert commands.wait(second) == exits.OK
        assert "already running" in (tmp_path / "second").read_text()

        last = read_history(workdir)[-1]["step"]
        commands.wait_for_step(pid, workdir, last + 1)  # it goes on beside it
        os.kill(pid, signal.SIGTERM)
        assert commands.wait(pid) == exits.PREEMPTED, errors.read_text()
    finally:
        commands.kill(pid)
    stopped = max(int(p.name) for p in workdir.glob("checkpoints/" + "[0-9]" * 6))
    assert stopped > last
    assert errors.read_text() == f"tfm_jax: stopped as asked; step {stopped} is saved\n"
    assert read_history(workdir)[-1]["step"] == stopped

    argv = [f"--workdir={workdir}", f"--config.train.total_steps={stopped + 3}"]
    resumed = commands.start(argv, tmp_path / "resumed")
    assert commands.wait(resumed) == exits.OK, (tmp_path / "resumed").read_text()
    assert (workdir / "results.json").exists()
    steps = [r["step"] for r in read_history(workdir) if r["kind"] == "train"]
    assert steps == list(range(1, stopped + 4))


def test_a_mesh_that_does_not_fit_is_one_line_and_78(commands, tmp_path):
    argv = [f"--config={tiny.__file__}", f"--workdir={tmp_path / 'run'}"]
    pid = commands.start([*argv, "--config.mesh.fsdp=3"], tmp_path / "output")
    assert commands.wait(pid) == exits.BAD_CONFIG
    (line,) = (tmp_path / "output").read_text().splitlines()
    assert "mesh.data=1, mesh.fsdp=3, mesh.tensor=1 need" in line
