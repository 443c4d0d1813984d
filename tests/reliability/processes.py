"""Commands of ``tfm_jax.main`` as processes, without the seconds each would import.

So are kernels of notebooks, and programs in Python. They are forked from one process
that has imported everything and started nothing: the fixture ``commands``.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import jax

from tfm_jax.runs.log import read_history

ROOT = Path(__file__).resolve().parents[2]
# PYTHONPATH of processes that only train
WITHOUT_TORCH = os.pathsep.join([str(ROOT / "tests" / "without_torch"), str(ROOT)])

ZYGOTE = """
import functools, gc, importlib, json, os, sys, tempfile
from jax._src.interpreters import mlir
from tests import shared_programs
from tfm_jax import main
from tfm_jax.train import finish, loop, modes
import grain, matplotlib.pyplot, num2words, optax, tensorboardX

os.environ["JPY_PARENT_PID"] = str(os.getpid())  # with which a kernel ends
for name in sys.argv[1:]:
    importlib.import_module(name)
shared_programs.share()
mlir.make_ir_context = functools.cache(mlir.make_ir_context)  # as in conftest.py
finish._draw = lambda *_: None  # pictures have a test of their own
gc.set_threshold(20_000, 10, 10)
gc.collect()
gc.freeze()  # no collection in a child walks, and copies, what is here

def run_kernel(argv):
    from ipykernel import kernelapp
    matplotlib.rcParams["backend"] = "module://matplotlib_inline.backend_inline"
    return kernelapp.launch_new_instance(argv)

def run_program(argv):
    sys.argv = ["-c", *argv[1:]]
    exec(argv[0], {"__name__": "__main__"})

runs = dict(command=main.main, kernel=run_kernel, program=run_program)
codes = {}
for line in sys.stdin:
    request = json.loads(line)
    if "pid" in request:
        pid = request["pid"]
        if pid not in codes:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                codes[pid] = os.waitstatus_to_exitcode(status)
        answer = codes.get(pid)
    else:
        answer = os.fork()
        codes.pop(answer, None)  # of an earlier process that had this number
        if answer and request["runs"] == "kernel":
            os.setpgid(answer, answer)  # who ends a kernel ends its group
        if not answer:
            os.environ.update(request["variables"])
            os.chdir(request["cwd"])
            tempfile.tempdir = None  # what its variables say
            for number, name in ((1, "output"), (2, "errors")):
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                os.dup2(os.open(request[name], flags), number)
            os.close(0)
            sys.exit(runs[request["runs"]](request["argv"]))
    print(json.dumps(answer), flush=True)
"""


def free_port():
    """Of this machine, which nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(**changes):
    """Variables of a process on one CPU device, with this one's compiled programs."""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }
    alone = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": WITHOUT_TORCH}
    return os.environ | alone | cache | changes


class Commands:
    """Context that starts commands, which need not import ``modules`` either.

    At its end all of them end that have not. Their hashes are not this process's.
    """

    def __init__(self, *modules):
        self._zygote = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE, *modules],
            **dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True),
            **dict(env=environment(PYTHONHASHSEED="1"), cwd=ROOT),
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        os.killpg(self._zygote.pid, signal.SIGKILL)
        self._zygote.communicate()

    def start(self, argv, output, errors=None, **variables) -> int:
        """Starts ``tfm_jax.main argv``; its pid.

        What it prints is appended to files, ``errors`` to ``output`` too if not given.
        Variables are those that matter after the imports.
        """
        return self._start("command", argv, output, errors, variables)

    def start_program(self, argv, output, errors=None) -> int:
        """Starts ``python -c argv``; its pid."""
        return self._start("program", argv, output, errors)

    def popen(self, argv, *, stdout, env, **_):
        """As ``subprocess.Popen`` of ``python -m tfm_jax.main``."""
        assert argv[:3] == [sys.executable, "-m", "tfm_jax.main"]
        return Forked(self, self.start(argv[3:], stdout.name, **env))

    def as_subprocess(self):
        """The module ``subprocess`` with that ``Popen``."""
        return SimpleNamespace(**vars(subprocess) | {"Popen": self.popen})

    def launch_kernel(self, argv, *, env, cwd, **_):
        """As that of ``jupyter_client``, of kernels of this Python."""
        assert argv[:3] == [sys.executable, "-m", "ipykernel_launcher"]
        pid = self._start("kernel", argv[3:], os.devnull, None, dict(env), cwd)
        return Forked(self, pid)

    def wait(self, pid, seconds=300) -> int:
        """The exit code; -9 if killed, as is what goes on for longer."""
        deadline = time.monotonic() + seconds
        while (code := self.poll(pid)) is None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                raise AssertionError(f"process {pid} goes on after {seconds} s")
            time.sleep(0.01)
        return code

    def poll(self, pid) -> int | None:
        """The exit code, None of a process that goes on."""
        return self._ask(pid=pid)

    def kill(self, pid):
        """Ends a process that may have ended."""
        if self.poll(pid) is None:
            os.kill(pid, signal.SIGKILL)

    def wait_for_step(self, pid, workdir, step, seconds=300):
        """Returns once a process that trains in ``workdir`` has logged ``step``."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.poll(pid) is None:
            if (workdir / "metrics.jsonl").exists():
                history = read_history(workdir)
                if history and history[-1]["step"] >= step:
                    return
            time.sleep(0.01)
        raise AssertionError(f"step {step} was not reached")

    def _start(self, runs, argv, output, errors, variables=None, cwd="."):
        words = [str(word) for word in argv]
        files = dict(output=str(output), errors=str(errors or output), cwd=str(cwd))
        return self._ask(runs=runs, argv=words, variables=variables or {}, **files)

    def _ask(self, **request):
        self._zygote.stdin.write(json.dumps(request) + "\n")
        self._zygote.stdin.flush()
        return json.loads(self._zygote.stdout.readline())


class Forked(NamedTuple):
    """What is used of a ``subprocess.Popen``."""

    commands: Commands
    pid: int
    stdin = stdout = stderr = None

    def poll(self):
        return self.commands.poll(self.pid)

    def wait(self):
        return self.commands.wait(self.pid)

    def send_signal(self, number):
        os.kill(self.pid, number)
