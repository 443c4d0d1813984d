"""What each process of a run writes, reads and holds in memory for a sharded state.

    python -m benchmarks.checkpoints --processes 2 --devices 4 --megabytes 320

Equal arrays of random numbers lie on a mesh that divides each of them over all devices
of all processes. A line for each process has the bytes that its system calls move, as
shares of the state, which compression makes smaller, and its anonymous memory at the
highest, above what it was before, as a multiple of its shards and one array.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.rounds import ROOT
from tfm_jax.runs.process import runtime

LEAVES, WIDTH = 20, 1024  # arrays of [rows, WIDTH]


def main():
    """Parses the command line, measures, reports."""
    args = parse(sys.argv[1:])
    if args.process is not None:
        print(json.dumps(measure(args)))
        return
    for process, line in enumerate(start(*sys.argv[1:])):
        print(json.dumps({"process": process} | line))


def parse(argv):
    """Of the command line, which has more for the processes that are started."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--devices", type=int, default=4, help="of each process")
    parser.add_argument("--megabytes", type=int, default=320, help="of the state")
    parser.add_argument("--folder", help="on the disk to measure; a temporary one")
    parser.add_argument("--process", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def start(*argv):
    """What each process measures, started with flags as those of the command line."""
    args = parse(argv)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        sizes = "processes", "devices", "megabytes"
        shared = [f"--{name}={getattr(args, name)}" for name in sizes]
        shared += [f"--address={address}", f"--folder={folder}"]
        command = [sys.executable, "-m", "benchmarks.checkpoints", *shared]
        how = dict(stdout=subprocess.PIPE, text=True, cwd=ROOT)
        children = [
            subprocess.Popen([*command, f"--process={n}"], **how)
            for n in range(args.processes)
        ]
        try:
            said = [child.communicate(timeout=600)[0] for child in children]
        finally:
            for child in children:
                child.kill()
    if any(child.returncode for child in children):
        raise SystemExit("a process has failed")
    return [json.loads(text.splitlines()[-1]) for text in said]


def measure(args):
    """In one of the processes: bytes and memory of saving, verifying and restoring."""
    import jax
    import numpy as np
    from jax.sharding import NamedSharding, PartitionSpec

    from tfm_jax.runs.storage.checkpoint import Checkpointer, Config

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", args.devices)
    if args.processes > 1:
        jax.distributed.initialize(
            args.address, args.processes, args.process,
            coordinator_bind_address=args.address,
        )  # fmt: skip
    mesh = jax.make_mesh((jax.device_count(),), ("fsdp",))
    sharding = NamedSharding(mesh, PartitionSpec("fsdp"))

    def state(rows, step):
        def shard(index, leaf):
            start, stop, _ = index[0].indices(rows)
            rng = np.random.default_rng((leaf, start, step))
            return rng.random((stop - start, WIDTH), np.float32)

        return {
            f"leaf_{n}": jax.make_array_from_callback(
                (rows, WIDTH), sharding, lambda index, n=n: shard(index, n)
            )
            for n in range(LEAVES)
        }

    rows = args.megabytes * 2**20 // (4 * WIDTH * LEAVES * jax.device_count())
    rows *= jax.device_count()
    checkpoints = Checkpointer(Path(args.folder) / "checkpoints", Config())
    with checkpoints:
        small = state(jax.device_count(), 0)  # threads and buffers that stay
        checkpoints.save(1, small, wait=True)
        checkpoints.restore(checkpoints.latest_good(), small)
        large = state(rows, 1)
        whole = sum(x.nbytes for x in large.values())
        with Watch() as save:
            checkpoints.save(2, large, wait=True)
        with Watch() as verify:
            newest = checkpoints.latest_good()
        target = {
            k: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
            for k, x in large.items()
        }
        with Watch() as restore:
            restored = checkpoints.restore(newest, target)
    exact = all(
        np.array_equal(a.data, b.data)
        for k in large
        for a, b in zip(
            large[k].addressable_shards, restored[k].addressable_shards, strict=True
        )
    )
    allowed = whole / args.processes + whole / LEAVES
    return {
        "megabytes": whole / 2**20,
        "exact": exact,
        "written": save.written / whole,
        "verified": verify.read / whole,
        "read": restore.read / whole,
        "memory_to_save": save.memory / allowed,
        "memory_to_restore": restore.memory / allowed,
        "seconds": [save.seconds, verify.seconds, restore.seconds],
    }


class Watch:
    """Context: bytes that this process moves, and its anonymous memory at the most."""

    def __enter__(self):
        runtime.return_freed_pages()  # of what came before
        self._before, self._io = _memory(), _io()
        self._began, self._most = time.perf_counter(), 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self.seconds = time.perf_counter() - self._began
        self._done.set()
        self._thread.join()
        self.read, self.written = (b - a for a, b in zip(self._io, _io(), strict=True))
        self.memory = self._most - self._before

    def _look(self):
        while not self._done.wait(0.002):
            self._most = max(self._most, _memory())


def _memory():
    _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _io():
    lines = Path("/proc/self/io").read_text().splitlines()
    counts = dict(line.split(": ") for line in lines)
    return int(counts["rchar"]), int(counts["wchar"])


if __name__ == "__main__":
    main()
