"""Two processes, one run: one writes, both agree, and both stop at the same step."""

import json
import socket
import subprocess
import sys

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
