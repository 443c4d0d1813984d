"""Slurm itself on this machine alone: munged, slurmctld and slurmd in a folder."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthInfo=socket={folder}/munged.socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=1
SlurmdParameters=config_overrides
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs=8
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def lacking() -> str:
    """Why it cannot run here; "" if it can."""
    if absent := [name for name in DAEMONS if not _find(name)]:
        return f"no {', '.join(absent)} (Debian packages slurm-wlm and munge)"
    return "" if os.geteuid() == 0 else "slurmd must be started by root"


@contextlib.contextmanager
def cluster():
    """Yields the path for SLURM_CONF once a node is idle."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a short path: of a socket
    try:
        configuration = folder / "slurm.conf"
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            two.bind(("127.0.0.1", 0))
            ports = one.getsockname()[1], two.getsockname()[1]
        text = CONFIGURATION.format(
            host=socket.gethostname(), ports=ports, folder=folder
        )
        configuration.write_text(text)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munged.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        own = [f"--{w.split('.')[0]}-file={folder}/munged.{w}" for w in ("pid", "seed")]
        own += [f"--key-file={key}", f"--log-file={folder}/munged.log"]
        _start(
            configuration, "munged", "--force", f"--socket={folder}/munged.socket", *own
        )
        _start(configuration, "slurmctld", "-L", folder / "slurmctld.log")
        _start(configuration, "slurmd", "-L", folder / "slurmd.log")
        _wait_until_idle(configuration)
        yield configuration
        _run(configuration, "scancel", "--user=root")
    finally:
        for name in reversed(DAEMONS):
            _stop(folder / f"{name}.pid")
        shutil.rmtree(folder, ignore_errors=True)


def _find(name):
    return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")


def _start(configuration, name, *arguments):
    _run(configuration, _find(name), *map(str, arguments))


def _run(configuration, *argv):
    environment = os.environ | {"SLURM_CONF": str(configuration)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _wait_until_idle(configuration):
    end = time.monotonic() + 30
    while "idle" not in _run(configuration, "sinfo", "--noheader", "--format=%T"):
        assert time.monotonic() < end
        time.sleep(0.2)


def _stop(path):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        pid = int(path.read_text())
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            os.kill(pid, 0)
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
