"""Two processes, one run: one writes, both agree, and both stop at the same step."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.reliability import processes, tiny
from tfm_jax.train import exits, loop
from tfm_jax.train.log import read_history

PROCESS = """
import json, os, signal, sys, time
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec as P

from tfm_jax.train.checkpoint import Checkpointer, Config
from tfm_jax.train.preemption import Preemption

me, directory, address = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(address, 2, me, coordinator_bind_address=address)
mesh = jax.make_mesh((4,), ("fsdp",))
values = np.arange(32, dtype=np.float32).reshape(8, 4)

def put(value, *axes):
    sharding = NamedSharding(mesh, P(*axes))
    return jax.make_array_from_callback(value.shape, sharding, lambda i: value[i])

def state(step):
    return {"step": put(np.int32(step)), "w": put(values * step, "fsdp")}

checkpointer = Checkpointer(directory, Config())
found = [checkpointer.latest_good()]
for step in (1, 2):
    checkpointer.save(step, state(step))
found.append(checkpointer.latest_good())
restored = checkpointer.restore(2, state(0))
exact = all(
    np.array_equal(shard.data, (values * 2)[shard.index])
    for shard in restored["w"].addressable_shards
)
same = restored["w"].sharding == state(0)["w"].sharding
if me == 0:
    (directory / "000002" / "metrics.json").write_text("torn")
multihost_utils.sync_global_devices("damaged")
found.append(checkpointer.latest_good())
with Preemption() as preemption:
    for step in range(1, 1000):
        time.sleep(0.02)
        if me == 1 and step == 5:
            os.kill(os.getpid(), signal.SIGTERM)  # this process alone
        if preemption.should_stop(step):
            break
    requested = preemption.requested
checkpointer.close()
print(json.dumps([found, exact, same, requested, step]))
"""


def test_two_processes_save_restore_agree_and_stop_together(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(me), str(tmp_path), address],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True},
        )
        for me in (0, 1)
    ]
    try:
        outputs = [child.communicate(timeout=120) for child in children]
    finally:
        for child in children:
            child.kill()
    for child, (_, errors) in zip(children, outputs, strict=True):
        assert child.returncode == 0, errors[-3000:]
    first, second = (json.loads(out.splitlines()[-1]) for out, _ in outputs)
    assert first == second
    found, exact, same, requested, step = first
    assert found == [None, 2, 1]  # fresh, saved, and back when the newest was damaged
    assert exact
    assert same
    assert requested
    assert 5 <= step < 999


CONFIG = Path(__file__).with_name("tiny.py")
SHORT = dict(train__total_steps=12, eval__every_steps=6, mesh__data=2)


@pytest.fixture(scope="module")
def commands():
    with processes.Commands() as commands:
        yield commands


def flags(workdir):
    knobs = {**SHORT, "mesh__cpu_devices": 1, "mesh__processes": 2}
    named = (f"--config.{k.replace('__', '.')}={v}" for k, v in knobs.items())
    return [f"--config={CONFIG}", f"--workdir={workdir}", *named]


def slurm(me, job):
    """What ``srun`` sets in process ``me`` of two on this machine."""
    given = dict(JOB_ID=job, NTASKS=2, PROCID=me, LOCALID=me, STEP_NUM_NODES=1)
    variables = {f"SLURM_{name}": str(value) for name, value in given.items()}
    return variables | {"SLURM_STEP_NODELIST": "localhost"}


def losses(workdir):
    return {
        (r["step"], r["kind"]): r.get("loss", r.get("nll"))
        for r in read_history(workdir)
        if r["kind"] in ("train", "valid")
    }


@pytest.mark.slow
def test_a_run_of_two_processes_is_that_of_one_with_two_devices(commands, tmp_path):
    """Started as Slurm would; stopped by a signal to one of them, then resumed."""
    one, two = tmp_path / "one", tmp_path / "two"
    loop.train(tiny.get_config(**SHORT), one)
    job = random.randrange(4_096)  # JAX takes its port from it
    outputs = [tmp_path / "0", tmp_path / "1"]
    for stop in (True, False):
        pids = [
            commands.start(flags(two), output, **slurm(me, job))
            for me, output in enumerate(outputs)
        ]
        if stop:
            commands.wait_for_step(pids[0], two, 3)
            os.kill(pids[1], signal.SIGTERM)
        codes = [commands.wait(pid) for pid in pids]
        said = [output.read_text() for output in outputs]
        assert codes == [exits.PREEMPTED if stop else 0] * 2, said
    assert "first step" in said[0] and "first step" not in said[1], "one speaks"
    ours, theirs = losses(two), losses(one)
    assert ours.keys() == theirs.keys() and len(ours) > 4
    np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=1e-5)
    assert not (two / "lease.json").exists()
    results = [json.loads((p / "results.json").read_text()) for p in (one, two)]
    assert results[0]["test"]["tokens"] == results[1]["test"]["tokens"]


def test_processes_that_nobody_started_are_missed_in_words(commands, tmp_path):
    pid = commands.start(flags(tmp_path), tmp_path / "output")
    assert commands.wait(pid) == exits.BAD_CONFIG
    said = (tmp_path / "output").read_text()
    assert "mesh.processes=2" in said and "Traceback" not in said
