"""How training scales on this machine: over devices, over processes, with the model.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --cores 4 --steps 100

Weak scaling: every core has the same number of tokens a step. Strong scaling: all of
them together have. One core and several are measured in turn, round by round, each as a
user would start it, ``python -m tfm_jax.main``, on so many cores as it has devices; the
rate of a run is the median of what its record says behind the first steps. Efficiency
is the rate of N cores over N times that of one. Then the most memory that a process
needs, against its parameters and what the optimizer keeps of them.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.rounds import ROOT

CONFIG = "configs/transformer_numerals.py"
KNOBS = {  # held-out data is no part of it
    "data.numerals_heldout": 8,
    "eval.sentences": 0,
    "eval.samples": 0,
    "eval.pictures": False,
    "train.trackers": "()",
    "train.log_every_steps": 10,
}
TOKENS = 4_096  # of a core, a step
WIDTHS = (128, 256, 512)


def arrangements(cores):
    """Name -> (processes, devices of each)."""
    ways = {"one core": (1, 1), f"{cores} devices": (1, cores)}
    return ways | {f"{cores} processes": (cores, 1)}


def run(processes, devices, steps, **knobs):
    """What ``main`` leaves of a run: (lines of its record, its results)."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "run"
        knobs = KNOBS | {
            "mesh.cpu_devices": devices,
            "mesh.processes": processes,
            "train.total_steps": steps,
            "eval.every_steps": steps,
            "checkpoint.every_steps": steps,
            **knobs,
        }
        command = [sys.executable, "-m", "tfm_jax.main", f"--config={CONFIG}"]
        command += [f"--workdir={workdir}"]
        command += [f"--config.{knob}={value}" for knob, value in knobs.items()]
        job = random.randrange(4_096)  # JAX takes its port from it
        cores = sorted(os.sched_getaffinity(0))
        started = []
        for number in range(processes):
            given = cores[number * devices : (number + 1) * devices]
            started.append(
                subprocess.Popen(
                    ["taskset", "--cpu-list", ",".join(map(str, given)), *command],
                    cwd=ROOT,
                    env=os.environ | slurm(number, processes, job),
                    stdout=subprocess.DEVNULL,
                )
            )
        codes = [process.wait() for process in started]
        if any(codes):
            raise SystemExit(f"{' '.join(command)} ended with {codes}")
        lines = (workdir / "metrics.jsonl").read_text("utf-8").splitlines()
        results = json.loads((workdir / "results.json").read_text("utf-8"))
    return [json.loads(line) for line in lines], results


def slurm(number, processes, job):
    """What ``srun`` sets for one of several processes of this machine."""
    if processes == 1:
        return {}
    given = dict(JOB_ID=job, NTASKS=processes, PROCID=number, LOCALID=number)
    given |= dict(STEP_NUM_NODES=1, STEP_NODELIST="localhost")
    return {f"SLURM_{name}": str(value) for name, value in given.items()}


def rate(record):
    """Tokens a second: the median behind the first steps."""
    rates = [line["tokens_per_second"] for line in record if line["kind"] == "train"]
    return statistics.median(rates[1:])


def scaling(cores, steps, rounds):
    """Prints tokens a second and efficiency, weak and strong."""
    for kind in ("weak", "strong"):
        rates = {name: [] for name in arrangements(cores)}
        for _ in range(rounds):
            for name, (processes, devices) in arrangements(cores).items():
                share = processes * devices if kind == "weak" else 1
                knobs = {"train.batch_tokens": TOKENS * share}
                record, _ = run(processes, devices, steps, **knobs)
                rates[name].append(rate(record))
        alone = rates["one core"]
        print(f"\n{kind} scaling, {TOKENS:,} tokens a step", end="")
        print(" of each core" if kind == "weak" else " of all cores together")
        for name, measured in rates.items():
            ratios = [a / b for a, b in zip(measured, alone, strict=True)]
            share = statistics.median(ratios) / (1 if name == "one core" else cores)
            print(
                f"  {name:<12} {statistics.median(measured):>10,.0f} tokens/s, "
                f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to "
                f"{max(ratios):.2f}), efficiency {share:.0%}"
            )
        print(json.dumps({"benchmark": f"{kind} scaling", "tokens_per_second": rates}))


def memory():
    """Prints the most memory that a run needs, by the width of its model."""
    print("\nmemory of a process, one device")
    for width in WIDTHS:
        knobs = {"model.width": width, "model.ffn_width": 4 * width}
        command = [sys.executable, "-m", "tfm_jax.main", f"--config={CONFIG}"]
        command += ["--mode=dry_run", "--format=json", "--config.mesh.cpu_devices=1"]
        command += [f"--config.{knob}={value}" for knob, value in knobs.items()]
        planned = json.loads(subprocess.check_output(command, cwd=ROOT, text=True))
        _, results = run(1, 1, 4, **knobs)
        parts = planned["memory_bytes_per_device"]
        sizes = {k: f"{v / 2**20:,.1f}" for k, v in parts.items() if v}
        print(
            f"  width {width}: {planned['parameters']:,} parameters; planned, MiB: "
            + ", ".join(f"{k} {v}" for k, v in sizes.items())
            + f"; most of the process {results['memory_bytes'] / 2**20:,.0f} MiB"
        )


def main():
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60, help="of a run")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if args.cores > len(os.sched_getaffinity(0)):
        parser.error(f"--cores={args.cores}: there are {os.sched_getaffinity(0)}")
    scaling(args.cores, args.steps, args.rounds)
    memory()


if __name__ == "__main__":
    main()
