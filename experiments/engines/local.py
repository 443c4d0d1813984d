"""Runs on this machine: one process for each device, or for each core without one."""

import collections
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from experiments.runs import attempts
from experiments.runs.cells import Cell
from tfm_jax.api import AlreadyRunning, ConfigError, InfrastructureError, exits

AGAIN = 2.0  # seconds until a cell is looked at again that another process holds


class Slot(NamedTuple):
    """A share of the machine: cores its process is bound to, variables it gets."""

    name: str
    cores: frozenset[int] | None
    variables: Mapping[str, str]


def slots(jobs: int = 0) -> list[Slot]:
    """Disjoint shares of this machine, one for each GPU, TPU chip or else core.

    One single-threaded process a core does more than one process on all cores: small
    products do not split well. A core's process reproduces with ``taskset``.

    Args:
        jobs: how many at most; 0: one a device. On GPUs there may be more, which then
            share devices and their memory.
    Raises: ConfigError if a machine without GPUs is asked for more than it has.
    """
    if jobs < 0:
        raise ConfigError(f"--jobs={jobs}: a number from 1, or 0 for one a device")
    gpus, chips = _gpus(), sorted(Path("/dev").glob("accel[0-9]*"))
    if gpus:
        return [_gpu_slot(n, gpus, jobs) for n in range(jobs or len(gpus))]
    if chips:
        places = [_tpu_slot(n) for n in range(len(chips))]
    else:
        cores = sorted(os.sched_getaffinity(0))
        places = [Slot(f"core {n}", frozenset([n]), {}) for n in cores]
    if jobs > len(places):
        raise ConfigError(
            f"--jobs={jobs}: this machine has {len(places)} devices or cores, for one "
            f"run each; choose from 1 to {len(places)}, or 0 for all"
        )
    return places[: jobs or len(places)]


def _gpu_slot(n, gpus, jobs):
    sharing = -(-(jobs or len(gpus)) // len(gpus))  # processes on one GPU
    variables = {"CUDA_VISIBLE_DEVICES": gpus[n % len(gpus)]}
    if sharing > 1:
        variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 / sharing:.3f}"
    return Slot(f"gpu {gpus[n % len(gpus)]}", None, variables)


def _tpu_slot(n):
    variables = {
        "TPU_VISIBLE_DEVICES": str(n),
        "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1",
        "TPU_PROCESS_BOUNDS": "1,1,1",
        "TPU_MESH_CONTROLLER_PORT": str(8476 + n),
    }
    return Slot(f"tpu {n}", None, variables)


def _gpus():
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return [str(n) for n, _ in enumerate(listed.stdout.splitlines())]


class Silent:
    """What a run tells, to nobody; see ``experiments.engines.screen``."""

    def started(self, cell: Cell, slot: Slot) -> None:
        """A process of ``cell`` began."""

    def ended(self, cell: Cell, status: attempts.Status, again: bool) -> None:
        """It ended; ``again``: it will be started once more."""

    def tick(self, running: Iterable[Cell]) -> None:
        """Called several times a second."""


def run(
    todo: Iterable[Cell],
    places: Iterable[Slot],
    environment: Mapping[str, str],
    screen: Silent | None = None,
) -> bool:
    """Runs cells until each is done, has failed, or somebody asks to stop.

    A cell that another runner works on is left to it, waited for, and run only if it
    has not ended then. One that stopped to be preempted goes on; one that failed is
    tried again if that makes sense.

    Args: environment: what is recorded of the machine with each attempt.
    Returns: False if it was stopped by SIGTERM or SIGINT; its processes have saved.
    """
    screen = screen or Silent()
    # one seed of each arm first: the next ones find their programs compiled
    groups = sorted(together(todo), key=lambda group: group[0].seed)
    queue = collections.deque((0.0, group) for group in groups)
    free, running = list(places), []
    with _stop_requested() as stop:
        while running or (queue and not stop):
            for _ in range(len(queue)):
                if not free or stop:
                    break
                due, group = queue.popleft()
                if time.monotonic() < due:
                    queue.append((due, group))
                    continue
                try:
                    leases, runs = _claim(group)
                except AlreadyRunning:  # it is looked at again when that has ended
                    queue.append((time.monotonic() + AGAIN, group))
                    continue
                if leases is None:
                    for cell, status in runs:
                        screen.ended(cell, status, False)
                    continue
                slot = free.pop(0)
                running.append(_Process(group, slot, environment, leases))
                for cell in group:
                    screen.started(cell, slot)
            for process in list(running):
                if stop and not process.asked:
                    process.ask_to_stop()
                ended = process.ended()
                if ended is None:
                    continue
                running.remove(process)
                free.append(process.slot)
                for cell, status in ended:
                    screen.ended(cell, status, status.unfinished and not stop)
                left = [(cell, s) for cell, s in ended if s.unfinished]
                if left:
                    held = any(s.name == "running" for _, s in left)
                    wait = AGAIN if held else 0.0
                    queue.append((time.monotonic() + wait, [cell for cell, _ in left]))
            screen.tick([cell for process in running for cell in process.group])
            time.sleep(0.1)
        return not stop


def together(todo: Iterable[Cell]) -> list[list[Cell]]:
    """Cells by the process that runs them: most have one of their own."""
    groups = {}
    for cell in todo:
        groups.setdefault(cell.command, []).append(cell)
    return list(groups.values())


def run_group(
    group: list[Cell], environment: Mapping[str, str], *, followed: bool = False
) -> int:
    """Runs one attempt at cells of one process on whatever there is; its exit code.

    For schedulers that start the processes: SIGTERM is passed on, and the code says
    whether to start it again.

    Args: followed: whether more processes of this run are started, see ``follow``.
    Raises: AlreadyRunning if another process works on one of them; if ``followed``
        InfrastructureError, then and if they have ended: the others wait for this one.
    """
    try:
        leases, _ = _claim(group)
    except AlreadyRunning as error:
        if followed:
            raise InfrastructureError(str(error)) from error
        raise
    if leases is None and followed:
        raise InfrastructureError(f"{group[0].directory}: has ended meanwhile")
    if leases is None:
        return exits.OK
    with _stop_requested() as stop:
        process = _Process(group, Slot("here", None, {}), environment, leases)
        while process.ended() is None:
            if stop and not process.asked:
                process.ask_to_stop()
            time.sleep(0.1)
        return process.code


def follow(cell: Cell) -> int:
    """Runs one more process of a cell whose first one keeps the books; its exit code.

    For schedulers that start several on several hosts; see ``mesh.processes``.
    """
    with _stop_requested() as stop:
        child = subprocess.Popen(attempts.argv(cell), start_new_session=True)
        while child.poll() is None:
            if stop:
                child.send_signal(signal.SIGTERM)
                stop.clear()
            time.sleep(0.1)
        return child.returncode


def _claim(group):
    """What holds cells for this runner, None if they have ended by now; their runs.

    Raises: AlreadyRunning if another runner works on one of them, or if a process goes
        on that a killed runner had started.
    """
    with contextlib.ExitStack() as leases:
        for cell in group:
            leases.enter_context(attempts.runner_lease(cell))
        runs = [attempts.look(cell) for cell in group]
        if any(run.status.name == "running" for run in runs):
            raise AlreadyRunning(f"{group[0].directory}: is being run")
        unfinished = any(run.status.unfinished for run in runs)
        return (leases.pop_all() if unfinished else None), runs


class _Process:
    """One attempt at the cells of one command, which ``leases`` hold."""

    def __init__(self, group, slot, environment, leases):
        self.group, self.slot, self.asked, self.code = group, slot, False, None
        self._leases = leases
        self._attempts = [attempts.begin(cell, environment) for cell in group]
        self._began = time.monotonic()
        first, *others = (attempt / "log" for attempt in self._attempts)
        with open(first, "wb") as log:
            for other in others:
                os.link(first, other)
            self._child = subprocess.Popen(
                attempts.argv(group[0]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **slot.variables},
                start_new_session=True,  # Ctrl-C reaches the runner, which passes it on
            )
        if slot.cores is not None:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(self._child.pid, slot.cores)

    def ask_to_stop(self):
        self.asked = True
        self._child.send_signal(signal.SIGTERM)

    def ended(self):
        """Each cell and its status once the process has ended, before that None."""
        code = self._child.poll()
        if code is None:
            return None
        if code < 0:  # killed: as an unknown failure, unless we asked it to stop
            code = exits.PREEMPTED if self.asked else exits.UNKNOWN
        seconds = time.monotonic() - self._began
        self.code, share = code, seconds / len(self.group)
        with self._leases:
            return [
                (cell, attempts.finish(cell, attempt, code, share))
                for cell, attempt in zip(self.group, self._attempts, strict=True)
            ]


@contextlib.contextmanager
def _stop_requested():
    """A list that is empty until SIGTERM or SIGINT arrives."""
    asked = []
    names = (signal.SIGTERM, signal.SIGINT)
    before = {n: signal.signal(n, lambda n, _: asked.append(n)) for n in names}
    try:
        yield asked
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
