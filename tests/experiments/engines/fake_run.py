"""Behaves like ``tfm_jax.main`` towards a runner, without training anything.

    fake_run.py DIRECTORY BEHAVIOUR [STEPS [SECONDS_A_STEP]]

It holds the directory, makes its steps one by one, saves each, goes on where it left
off, and notes every step and end in ``history``.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from tfm_jax.runs.process import exits
from tfm_jax.runs.process.exits import AlreadyRunning
from tfm_jax.runs.workdir import Lease, replace


def main(directory, behaviour, steps=3, pace=0.05):
    directory, asked = Path(directory), []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with Lease(directory):
            return run(directory, behaviour, int(steps), float(pace), asked)
    except AlreadyRunning:
        return exits.OK


def run(directory, behaviour, steps, pace, asked):
    print(f"{behaviour} begins", flush=True)
    cores = sorted(os.sched_getaffinity(0))
    note(directory, began=time.time(), cores=cores)
    saved = directory / "step"
    step = int(saved.read_text()) if saved.exists() else 0
    while step < steps:
        time.sleep(pace)
        step += 1
        replace(saved, str(step))
        note(directory, step=step)
        if asked:
            return exits.PREEMPTED
    note(directory, ended=time.time())
    codes = {"config": exits.BAD_CONFIG, "diverge": exits.DIVERGED, "crash": 1}
    if behaviour in codes:
        print(f"{behaviour} is what happened", flush=True)
        return codes[behaviour]
    if not (directory / "results.json").exists():
        note(directory, completed=True)
        replace(directory / "results.json", json.dumps({"valid": {"nll": 1.0}}))
    return exits.OK


def note(directory, **what):
    with open(directory / "history", "a") as file:
        file.write(json.dumps(what) + "\n")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
