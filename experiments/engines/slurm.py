"""Runs on a Slurm cluster: one array job, whose task N is run N of ``plan.json``.

The batch script starts the run with ``srun`` and waits, since what the exit code asks
for can only be done after it. Who gets SIGTERM then is what decides the rest (seen on
Slurm 22.05, with ``sbatch --signal`` and the time limit near):

=================  =========================  ===========================
``--signal``       run started by ``srun``    run that replaced the shell
=================  =========================  ===========================
``TERM@120``       gets it                    never gets it
``B:TERM@120``     never gets it: the shell   gets it
=================  =========================  ===========================

So it is ``TERM@120`` and ``srun``, on one node as on several: every process of the run
hears of the end, and of a preemption with grace time too (slurm.conf, GraceTime), even
where ``preempt_send_user_signal`` is not set. A TERM that reaches the shell as well has
one meaning left: Slurm is ending the job, because somebody cancelled or requeued it or
its time is over. Such a job is never put back into the queue by its script, or
``scancel`` would not cancel.

A task is requeued by the name ARRAY_TASK: the job id of an array's last task is that of
the whole array. Failures are counted in a file of the task, because
``SLURM_RESTART_COUNT`` counts preemptions too, and those are nobody's fault. Slurm lets
a requeued task wait for two minutes (slurm.conf, AuthInfo=cred_expire).

Runs with ``mesh.processes=N`` get N nodes with one process each, or what ``nodes``,
``ntasks-per-node`` and ``ntasks`` say, if that makes N; they find each other by the
variables that ``srun`` sets. Tasks of one array are alike: runs of other numbers of
processes are another array.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.engines import batch
from tfm_jax.api import ConfigError, InfrastructureError, exits

_PATH = re.compile(r"/[A-Za-z0-9._/@+,=:~-]*")  # no blank, no % of a file name pattern
_TIME = re.compile(r"([0-9]+-)?[0-9]+(:[0-9][0-9]){0,2}")
_COUNT = re.compile(r"[1-9][0-9]{0,5}")
_OPTION = re.compile(r"[a-z][a-z-]*")
_VALUE = re.compile(r"[A-Za-z0-9._/@+,=:%&|*()\[\]-]+")

_BODY = """
task=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
trap 'ending=1' TERM  # cancelled, requeued or out of time: Slurm decides what follows
cd -- %(where)s || exit %(infrastructure)d
%(run)s --index="$SLURM_ARRAY_TASK_ID"
code=$?
again=
case $code in
  %(final)s) ;;
  %(preempted)d) again=1 ;;
  *) echo "$code" >> %(logs)s/"$task".failures &&
     [ "$(wc -l < %(logs)s/"$task".failures)" -le %(retries)d ] && again=1 ;;
esac
[ -n "$again" ] && [ -z "$ending" ] && scontrol requeue "$task"
exit "$code"
"""


def script(
    study: str,
    directory: Path,
    indices: Iterable[int],
    *,
    processes: int = 1,
    jobs: int = 0,
    time_limit: str = "",
    options: Mapping[str, object] | None = None,
    command: Sequence[str] = (),
    where: str | Path = ".",
) -> str:
    """The batch script of an array job.

    Args:
        study: ``NAME:SCALE``. directory: of the study; logs go to its ``slurm/``.
        indices: of runs in the study's ``plan.json``.
        processes: of each run, see ``mesh.processes``.
        jobs: tasks that run at a time; 0: as many as the cluster lets.
        time_limit: of a task, as Slurm writes times: ``MINUTES``, ``HH:MM:SS``,
            ``D-HH:MM``; "": what the partition gives.
        options: long names of sbatch's other options -> values: ``{"partition": "gpu",
            "gpus-per-node": 1, "cpus-per-task": 8}``.
        command: argv that runs a cell, given ``--index=N``; default
            ``experiments.run STUDY one`` with this Python.
        where: the folder it runs in; by default where it is submitted.
    Raises: ConfigError for what could end a ``#SBATCH`` line or begin another one, and
        for options that start another number of processes.
    """
    directory = Path(directory).absolute()
    logs = directory / "slurm"
    if jobs < 0:
        raise ConfigError(f"jobs={jobs}: must be 0 or more")
    lines = {
        "job-name": batch.legal("study", study, batch.STUDY),
        "array": compress(indices) + (f"%{jobs}" if jobs else ""),
        "time": batch.legal("time limit", str(time_limit or 0), _TIME),
        "signal": f"TERM@{batch.GRACE}",
        "requeue": "",
        "open-mode": "append",
        "output": batch.legal("study directory", str(logs), _PATH) + "/%A_%a.log",
    }
    chosen = _layout(processes, options or {}) | dict(options or {})
    for name, value in chosen.items():
        batch.legal("option", name, _OPTION)
        batch.legal(f"option {name}", str(value), _VALUE)
        if name in lines or name == "no-requeue":
            raise ConfigError(f"option {name!r} is set by this engine")
    if not time_limit:
        del lines["time"]
    lines |= chosen
    header = [f"--{k}={v}" if v != "" else f"--{k}" for k, v in lines.items()]
    run = ["srun"]
    if processes > 1:  # those that one which ended at once has left waiting for it
        run.append(f"--wait={batch.GRACE}")
    if "cpus-per-task" in chosen:  # which srun no longer takes over from sbatch
        run.append(f"--cpus-per-task={chosen['cpus-per-task']}")
    default = [sys.executable, "-m", "experiments.run", study, "one"]
    run += command or [*default, f"--out={directory.parent}"]
    body = _BODY % {
        "where": shlex.quote(str(Path(where).absolute())),
        "run": shlex.join(map(str, run)),
        "logs": shlex.quote(str(logs)),
        "final": " | ".join(map(str, (exits.OK, *exits.FINAL))),
        "preempted": exits.PREEMPTED,
        "infrastructure": exits.INFRASTRUCTURE,
        "retries": batch.RETRIES,
    }
    return "\n".join(["#!/bin/bash", *(f"#SBATCH {line}" for line in header), body])


def _layout(processes, options):
    """Options that start a run's processes, one on each node where nothing is said."""
    names = ("nodes", "ntasks-per-node", "ntasks")
    given = {name: str(options[name]) for name in names if name in options}
    count = {n: int(batch.legal(f"option {n}", v, _COUNT)) for n, v in given.items()}
    a_node = count.get("ntasks-per-node", 1)
    nodes = count.get("nodes", max(processes // a_node, 1))
    if count.get("ntasks", nodes * a_node) != processes:
        shown = ", ".join(f"{name}={value}" for name, value in given.items())
        raise ConfigError(
            f"options {shown} start {count.get('ntasks', nodes * a_node)} processes, "
            f"but runs have mesh.processes={processes}"
        )
    return {} if "ntasks" in count else {"nodes": nodes, "ntasks-per-node": a_node}


def submit(
    study: str, directory: Path, indices: Iterable[int], **settings: Any
) -> list[str]:
    """Submits those of the runs that have not ended; the ids of the jobs.

    Runs of as many processes are one job. The scripts stay in the study directory,
    ``slurm/array.sh``, of several processes ``slurm/array-PROCESSES.sh``.

    Args: as ``script``, which ``plan.json`` tells ``processes``.
    Raises: ConfigError if nothing is left to run; InfrastructureError with what sbatch
        says, and with the ids of jobs that it took before.
    """
    directory = Path(directory).absolute()
    left = batch.missing(directory, indices)
    texts = {
        n: script(study, directory, group, processes=n, **settings)
        for n, group in left.items()
    }
    (directory / "slurm").mkdir(exist_ok=True)  # Slurm makes no folder of its logs
    jobs = []
    for processes, text in texts.items():
        name = "array.sh" if processes == 1 else f"array-{processes}.sh"
        path = directory / "slurm" / name
        path.write_text(text, encoding="utf-8")
        try:
            answer = _slurm("sbatch", "--parsable", str(path))
        except InfrastructureError as error:
            if not jobs:
                raise
            raise InfrastructureError(
                f"{error}; submitted before it: job {', '.join(jobs)}"
            ) from error
        jobs.append(answer.strip().partition(";")[0])  # "JOB;CLUSTER" where there are
    return jobs


def status(job: str) -> dict[int, str]:
    """Index -> state in Slurm's words (PENDING, RUNNING, COMPLETED, FAILED, ...).

    Of tasks that have left the queue only accounting knows; a cluster without it says
    nothing of them. What became of the runs is in their directories in any case.
    """
    batch.legal("job", job, re.compile(r"[0-9]+"))
    past = ("sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job}")
    now = ("squeue", "--noheader", "--array", "--states=all", f"--jobs={job}")
    states = {}
    for query in (*past, "--format=JobID,State"), (*now, "--format=%i|%T"):
        try:
            answer = _slurm(*query)
        except InfrastructureError:  # no accounting; job no longer in the queue
            continue
        lines = re.findall(rf"^{job}_(\d+)\|(\w+)", answer, re.MULTILINE)
        states.update((int(index), state) for index, state in lines)
    return states


def compress(indices: Iterable[int]) -> str:
    """Indices as ``sbatch --array`` takes them: ``[0, 1, 2, 7]`` -> ``"0-2,7"``.

    Raises: ConfigError for none and for a negative one.
    """
    runs = []
    for index in sorted(set(indices)):
        if index < 0:
            raise ConfigError(f"index {index} is negative")
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    if not runs:
        raise ConfigError("no run to submit")
    return ",".join(f"{a}-{b}" if a < b else f"{a}" for a, b in runs)


def _slurm(*argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise InfrastructureError(
            f"no {argv[0]} here: is this a login node?"
        ) from error
    if done.returncode:
        raise InfrastructureError(f"{shlex.join(argv)}: {done.stderr.strip()}")
    return done.stdout
