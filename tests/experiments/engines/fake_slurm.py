"""A cluster of one process: sbatch, srun, squeue, sacct, scontrol and scancel.

``install(folder)`` writes one launcher a command; put ``folder`` first in PATH. What it
does with signals is what Slurm 22.05 was seen to do: ``scancel --signal`` reaches the
processes started by srun and not the batch shell; cancelling and requeuing reach both;
the job id of an array's last task is that of the array.
"""

import collections
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "srun", "squeue", "sacct", "scontrol", "scancel")
KNOWN = {
    "job-name", "array", "time", "signal", "requeue", "open-mode", "output", "nodes",
    "ntasks-per-node", "partition", "cpus-per-task",
}  # fmt: skip
HERE = Path(sys.argv[0]).resolve().parent  # of the launchers, and of all state


def install(folder: Path):
    folder.mkdir()
    for name in COMMANDS:
        launcher = folder / name
        this = shlex.join([sys.executable, "-S", __file__])
        launcher.write_text(f'#!/bin/sh\nexec {this} "$0" "$@"\n')
        launcher.chmod(0o755)


def stop(folder: Path):
    for path in folder.glob("job-*/control.pid"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(path.read_text()), signal.SIGKILL)


def sbatch(*argv):
    options = {}
    lines = Path(argv[-1]).read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    for line in lines[1:]:
        if not line.startswith("#"):
            break  # sbatch reads no further
        if line.startswith("#SBATCH "):
            [word] = shlex.split(line.removeprefix("#SBATCH "), comments=True)
            name, _, options[name.removeprefix("--")] = word.partition("=")
    if unknown := options.keys() - KNOWN:
        sys.exit(f"sbatch: unrecognized option {unknown}")
    job = str(100 * (1 + len(list(HERE.glob("job-*")))))
    home = HERE / f"job-{job}"
    home.mkdir()
    (home / "script").write_text("\n".join(lines) + "\n")
    (home / "options").write_text(json.dumps(options))
    this = [sys.executable, "-S", __file__, str(HERE / "control"), job]
    controller = subprocess.Popen(
        this,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=open(home / "control.log", "w"),
    )
    (home / "control.pid").write_text(str(controller.pid))
    print(job)


def control(job):
    """The controller of one array job."""
    home = HERE / f"job-{job}"
    options = json.loads((home / "options").read_text())
    array, _, limit = options["array"].partition("%")
    queue = collections.deque()
    for part in array.split(","):
        first, _, last = part.partition("-")
        queue.extend(range(int(first), int(last or first) + 1))
    job_ids = {n: int(job) + 1 + i for i, n in enumerate(queue)} | {max(queue): job}
    restarts, running = collections.Counter(), {}
    states = dict.fromkeys(queue, "PENDING")
    while queue or running:
        while queue and len(running) < int(limit or len(states)):
            task = queue.popleft()
            log = re.sub("%A", job, options["output"]).replace("%a", str(task))
            names = {"JOB_ID": job_ids[task], "ARRAY_JOB_ID": job}
            names |= {"ARRAY_TASK_ID": task, "RESTART_COUNT": restarts[task]}
            if not restarts[task]:
                del names["RESTART_COUNT"]
            with open(log, "a") as file:
                running[task] = subprocess.Popen(
                    ["bash", str(home / "script")],
                    env=os.environ | {f"SLURM_{k}": str(v) for k, v in names.items()},
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            (home / f"{task}.shell").write_text(str(running[task].pid))
            states[task] = "RUNNING"
        for task, process in list(running.items()):
            if (code := process.poll()) is None:
                continue
            del running[task]
            (home / f"{task}.step").unlink(missing_ok=True)
            states[task] = "FAILED" if code else "COMPLETED"
            for word in ("cancel", "requeue"):
                if (home / f"{task}.{word}").exists():
                    (home / f"{task}.{word}").unlink()
                    states[task] = word
            if states[task] == "requeue":
                states[task] = "PENDING"
                restarts[task] += 1
                queue.append(task)
            elif states[task] == "cancel":
                states[task] = "CANCELLED by 0"
        table = home / "states.new"
        table.write_text("".join(f"{job}_{n}|{s}\n" for n, s in states.items()))
        table.replace(home / "states")
        time.sleep(0.02)


def srun(*argv):
    argv = list(argv)
    while argv[0].startswith("-"):
        del argv[0]
    home = HERE / f"job-{os.environ['SLURM_ARRAY_JOB_ID']}"
    (home / f"{os.environ['SLURM_ARRAY_TASK_ID']}.step").write_text(str(os.getpid()))
    options = home / "options"
    options = json.loads(options.read_text()) if options.exists() else {}
    count = int(options.get("nodes", 1)) * int(options.get("ntasks-per-node", 1))
    if count == 1:
        os.execvp(argv[0], argv)
    tasks = [
        subprocess.Popen(argv, env=os.environ | {"SLURM_PROCID": str(n)})
        for n in range(count)
    ]
    sys.exit(max(task.wait() for task in tasks))


def squeue(*argv):
    print("\n".join(line for line in _states(argv) if line.endswith("ING")))


def sacct(*argv):
    print("\n".join(_states(argv)))


def scontrol(word, name):
    assert word == "requeue"
    _end(name, "requeue")


def scancel(*argv):
    *options, name = argv
    if options:
        assert options == ["--signal=TERM"]
        _signal(name, "step")
    else:
        _end(name, "cancel")


def _states(argv):
    [job] = [word.partition("=")[2] for word in argv if word.startswith("--jobs=")]
    path = HERE / f"job-{job}" / "states"
    return path.read_text().splitlines() if path.exists() else []


def _end(name, word):
    job, _, task = name.partition("_")
    (HERE / f"job-{job}" / f"{task}.{word}").touch()
    _signal(name, "step")
    _signal(name, "shell")


def _signal(name, which):
    job, _, task = name.partition("_")
    path = HERE / f"job-{job}" / f"{task}.{which}"
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        os.kill(int(path.read_text()), signal.SIGTERM)


if __name__ == "__main__":
    _, launcher, *arguments = sys.argv
    HERE = Path(launcher).resolve().parent
    globals()[Path(launcher).name](*arguments)
