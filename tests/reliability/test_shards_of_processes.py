"""Two processes save and restore together: each its own part, and as one."""

import json

import jax
import numpy as np
import pytest

from benchmarks import checkpoints
from tests.reliability import processes
from tfm_jax.runs.storage import manifest
from tfm_jax.runs.storage.checkpoint import Checkpointer, Config

PROCESS = """
import json, os, signal, sys, time
from pathlib import Path

import jax
import numpy as np
import tensorstore as ts
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec as P

from tfm_jax.mesh import Config as Mesh, make_mesh, own_rows
from tfm_jax.runs.storage import checkpoint
from tfm_jax.runs.storage.checkpoint import Checkpointer, Config
from tfm_jax.runs.process.exits import InfrastructureError
from tfm_jax.runs.process.preemption import Preemption

me, directory, address = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
jax.config.update("jax_num_cpu_devices", 4)
jax.distributed.initialize(address, 2, me, coordinator_bind_address=address)
mesh = jax.make_mesh((8,), ("fsdp",))
values = np.random.default_rng(0).random((8, 1 << 15), np.float32)

def put(value, *axes):
    sharding = NamedSharding(mesh, P(*axes))
    return jax.make_array_from_callback(value.shape, sharding, lambda i: value[i])

def state(step):
    params = {"w": put(values * step, "fsdp"), "lm": {"w": put(values[:, :9], "fsdp")}}
    return {"step": put(np.int32(step)), "params": params}

def same(restored, step):
    wanted = state(step)
    return restored["params"]["w"].sharding == wanted["params"]["w"].sharding and all(
        np.array_equal(a.data, b.data)
        for x, y in zip(jax.tree.leaves(restored), jax.tree.leaves(wanted), strict=True)
        for a, b in zip(x.addressable_shards, y.addressable_shards, strict=True)
    )

def moved(what):
    name = f"/tensorstore/kvstore/file/bytes_{what}"
    metrics = ts.experimental_collect_matching_metrics(name)
    return sum(value["value"] for metric in metrics for value in metric["values"])

def share(what, before):
    # of the 1 MiB of w, what this process has moved since
    return (moved(what) - before) / values.nbytes

copied, to_host = [], checkpoint.arrays.to_host
checkpoint.arrays.to_host = lambda named: copied.extend(named) or to_host(named)
alone = Checkpointer(directory / "alone", Config())
alone.discard(2)  # before they have met
exact = [same(alone.restore(1, state(0)), 1)]
checkpointer = Checkpointer(directory / "checkpoints", Config(), still=("^lm/",))
found = [checkpointer.latest_good()]
before = moved("written")
for step in (1, 2):
    checkpointer.save(step, state(step))
found.append(checkpointer.latest_good())
written, before = share("written", before) / 2, moved("read")
restored = checkpointer.restore(2, state(0))
read = share("read", before)
exact.append(same(restored, 2))
write = checkpoint.arrays.write
def full(directory, host):
    write(directory, host)
    raise OSError(28, "No space left on device")
if me == 1:
    checkpoint.arrays.write = full
failed = []
try:
    checkpointer.save(3, state(3), wait=True)
except InfrastructureError as error:
    failed.append(str(error))
checkpoint.arrays.write = write
found.append(checkpointer.latest_good())
if me == 0:
    parts = (checkpointer.path(2) / "state" / "ocdbt.process_1" / "d").iterdir()
    part = max(parts, key=lambda path: path.stat().st_size)
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
multihost_utils.sync_global_devices("damaged")
found.append(checkpointer.latest_good())
exact.append(same(checkpointer.restore(1, state(0)), 1))
with Preemption() as preemption:
    for step in range(1, 1000):
        time.sleep(0.02)
        if me == 1 and step == 5:
            os.kill(os.getpid(), signal.SIGTERM)  # this process alone
        if preemption.should_stop(step):
            break
    requested = preemption.requested
checkpointer.close()
meshes = [Mesh(data=8 // n, tensor=n) for n in (1, 2, 8)]
rows = [own_rows(make_mesh(mesh)) for mesh in meshes]
common = found, exact, copied, requested, step
print(json.dumps([common, failed, written, read, rows]))
"""


def numbers(step):
    """What the processes save, whole."""
    w = np.random.default_rng(0).random((8, 1 << 15), np.float32)
    params = {"w": w * np.float32(step), "lm": {"w": w[:, :9]}}
    return {"step": np.int32(step), "params": params}


def test_two_processes_save_restore_agree_and_stop_together(commands, tmp_path):
    with Checkpointer(tmp_path / "alone", Config()) as alone:
        alone.save(1, numbers(1))
    address = f"127.0.0.1:{processes.free_port()}"
    outputs, errors = [tmp_path / "0", tmp_path / "1"], tmp_path / "errors"
    pids = [
        commands.start_program([PROCESS, me, tmp_path, address], output, errors)
        for me, output in enumerate(outputs)
    ]
    codes = [commands.wait(pid) for pid in pids]
    assert codes == [0, 0], errors.read_text()[-3000:]
    said = [json.loads(out.read_text().splitlines()[-1]) for out in outputs]
    assert said[0][0] == said[1][0]
    found, exact, copied, requested, step = said[0][0]
    # fresh, saved, still so after a failure, and back when the newest was damaged
    assert found == [None, 2, 2, 1]
    assert exact == [True] * 3
    assert copied.count("params/w") == 3 and copied.count("lm/w") == 1, "it is frozen"
    assert requested
    assert 5 <= step < 999
    for process, (_, failed, written, read, rows) in enumerate(said):
        shards = [range(8), range(4)]
        halves = [[*x[process * len(x) // 2 :][: len(x) // 2]] for x in shards]
        assert rows == [*halves, [0]], (
            "where tensor divides the processes both have all"
        )
        (line,) = failed
        assert "000003 was not saved: " in line and "No space left" in line
        assert ("process 1: " in line) == (process == 0)
        assert 0.4 < written < 0.55 and 0.4 < read < 0.55
    with Checkpointer(tmp_path / "checkpoints", Config(), still=("^lm/",)) as run:
        assert [path.name for path in run.directory.iterdir()].count("000001") == 1
        assert not [*run.directory.glob("*.tmp-*")]
        assert run.latest_good() == 1
        restored = run.restore(1, numbers(0))
        jax.tree.map(np.testing.assert_array_equal, restored, numbers(1))
        (name,) = manifest.read(run.path(1))["frozen"]
    with Checkpointer(tmp_path / "other" / "c", Config(), still=("^lm/",)) as run:
        run.save(1, numbers(1), wait=True)
        assert manifest.read(run.path(1))["frozen"] == [name]


@pytest.mark.slow
def test_a_process_moves_its_part_and_holds_that_and_the_largest_array_in_memory():
    measured = checkpoints.start("--megabytes=160")
    for one in measured:
        assert one["exact"] and one["megabytes"] == 160
        for what in ("written", "verified", "read"):
            half = sum(other[what] for other in measured) / 2
            assert 0.9 * half < one[what] < 1.1 * half < 0.55, what
        for what in ("memory_to_save", "memory_to_restore"):
            assert one[what] < 1.5, what  # shared machines: threads have buffers, too
