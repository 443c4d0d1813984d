"""Two processes, one run: both agree, both stop, and each misses the other."""

import json
import os
import random
import signal
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.reliability import processes, tiny
from tfm_jax.config import ConfigError
from tfm_jax.runs.log import read_history
from tfm_jax.runs.process import exits, peers
from tfm_jax.train import loop

CONFIG = Path(__file__).with_name("tiny.py")
SHORT = dict(train__total_steps=12, eval__every_steps=6, checkpoint__every_steps=5)
SHORT |= dict(mesh__data=2)
SHORT |= dict(optim__schedule="plateau")  # evaluations decide, and both know them


def flags(workdir, **changes):
    knobs = {**SHORT, **changes, "mesh__cpu_devices": 1, "mesh__processes": 2}
    named = (f"--config.{k.replace('__', '.')}={v}" for k, v in knobs.items())
    return [f"--config={CONFIG}", f"--workdir={workdir}", *named]


def slurm(me, job):
    """What ``srun`` sets in process ``me`` of two on this machine."""
    given = dict(JOB_ID=job, NTASKS=2, PROCID=me, LOCALID=me, STEP_NUM_NODES=1)
    variables = {f"SLURM_{name}": str(value) for name, value in given.items()}
    return variables | {"SLURM_STEP_NODELIST": "localhost"}


def told(me, port):
    """What a launcher sets that JAX does not know, as of pods of Kubernetes."""
    address = f"localhost:{port}"
    return {"JAX_COORDINATOR_ADDRESS": address, "JAX_PROCESS_ID": str(me)}


def losses(workdir):
    return {
        (r["step"], r["kind"]): r.get("loss", r.get("nll"))
        for r in read_history(workdir)
        if r["kind"] in ("train", "valid")
    }


@pytest.mark.slow
def test_a_run_of_two_processes_is_that_of_one_with_two_devices(
    commands, compiled_once, tmp_path
):
    """Started as Slurm would; stopped by a signal to one of them, then resumed.

    Each has half of every parameter, when it translates, too. In between the run goes
    on in one process, on devices that have whole copies, as that one's have, and is
    stopped there.
    """
    one, two = tmp_path / "one", tmp_path / "two"
    halves = dict(mesh__data=1, mesh__fsdp=2)
    copies = tiny.get_config(**SHORT, eval__pictures=False)
    loop.train(copies, one)
    job = random.randrange(4_096)  # JAX takes its port from it
    outputs = [tmp_path / "0", tmp_path / "1"]
    for stop in (True, False):
        pids = [
            commands.start(flags(two, **halves), output, **slurm(me, job))
            for me, output in enumerate(outputs)
        ]
        if stop:
            commands.wait_for_step(pids[0], two, 3)
            os.kill(pids[1], signal.SIGTERM)
        codes = [commands.wait(pid) for pid in pids]
        said = [output.read_text() for output in outputs]
        assert codes == [exits.PREEMPTED if stop else 0] * 2, said
        if stop:
            assert not tiny.run(two, copies, stop=(9,))
    assert "first step" in said[0] and "first step" not in said[1], "one speaks"
    ours, theirs = losses(two), losses(one)
    assert ours.keys() == theirs.keys() and len(ours) > 4
    np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=1e-5)
    assert not (two / "lease.json").exists()
    results = [json.loads((p / "results.json").read_text()) for p in (one, two)]
    assert results[0]["test"]["tokens"] == results[1]["test"]["tokens"]
    written = [(p / "translations-test.txt").read_text() for p in (one, two)]
    assert written[0] == written[1]


def start_two(commands, tmp_path, *changes):
    """Pids and files of output of two processes, each with some other knobs."""
    port, outputs = processes.free_port(), [tmp_path / "0", tmp_path / "1"]
    pids = [
        commands.start(flags(tmp_path / "run", **changes[me]), output, **told(me, port))
        for me, output in enumerate(outputs)
    ]
    return pids, outputs


ALONE = {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_NODES": "2"}


@pytest.mark.parametrize(
    "variables, given",
    [
        ({}, {}),
        ({**slurm(0, 1)}, {}),
        (ALONE, {"local_device_ids": []}),
        (ALONE | {"JAX_LOCAL_DEVICE_IDS": "1"}, {}),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, {}),
        (told(1, 5), {"coordinator_bind_address": "localhost:5", "process_id": 1}),
        (
            told(0, 5) | {"JAX_COORDINATOR_BIND_ADDRESS": "me:5"},
            {"coordinator_bind_address": "me:5", "process_id": 0},
        ),
    ],
)
def test_who_the_others_are_is_told_or_found(monkeypatch, variables, given):
    """And where it is told, nothing listens at more addresses than those named.

    A process that is alone on a node of Slurm has all its GPUs; JAX would take one.
    """
    asked = []
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_PROCESS_ID", *ALONE):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(jax.distributed, "initialize", lambda **how: asked.append(how))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    peers.join(2)
    [how] = asked
    heartbeats = how.pop("heartbeat_timeout_seconds")
    assert heartbeats / 2 > peers.PATIENCE + 2 * peers.BEAT, "JAX aborts us before"
    assert {name: how[name] for name in given} == given
    if "process_id" in given:
        assert how["coordinator_address"] == "localhost:5"
        assert how["num_processes"] == 2
    else:
        assert how == given


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"JAX_COORDINATOR_ADDRESS": "host"},
            "JAX_COORDINATOR_ADDRESS='host'; write",
        ),
        ({"JAX_COORDINATOR_ADDRESS": "a:b"}, "HOST:PORT of process 0"),
        (
            {"JAX_COORDINATOR_BIND_ADDRESS": "0.0.0.0"},
            "BIND_ADDRESS='0.0.0.0'; wr",
        ),
        ({"JAX_PROCESS_ID": "x"}, "JAX_PROCESS_ID='x'; of mesh.processes=2"),
        ({"JAX_PROCESS_ID": "2"}, "from 0 to 1"),
        (
            {},
            "JAX_COORDINATOR_ADDRESS=HOST:PORT of process 0 and JAX_PROCESS_ID=0 to 1",
        ),
        ({"JAX_COORDINATOR_ADDRESS": ""}, "srun"),
    ],
)
def test_what_a_launcher_should_have_told_is_named(monkeypatch, variables, words):
    def fail(**told):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    for name, value in (told(0, 1) | variables).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=words):
        peers.join(2)


def test_others_that_are_not_reached_are_no_mistake_of_the_settings(monkeypatch):
    def fail(**_):
        raise jax.errors.JaxRuntimeError("UNAVAILABLE: connection refused")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(exits.InfrastructureError, match="mesh.processes=2.*refused"):
        peers.join(2)


def test_processes_with_different_settings_end_before_the_first_step(
    commands, tmp_path
):
    pids, outputs = start_two(commands, tmp_path, {}, dict(optim__peak_lr=0.5))
    assert [commands.wait(pid) for pid in pids] == [exits.BAD_CONFIG] * 2
    for output in outputs:
        (line,) = [x for x in output.read_text().splitlines() if "tfm_jax: " in x]
        for words in ('process 0 has "optim.peak_lr": 0.01', "process 1 has"):
            assert words in line


@pytest.mark.slow
def test_a_killed_process_ends_the_other_with_69_and_a_word(commands, tmp_path):
    """Each has a copy of all parameters."""
    long = dict(train__total_steps=100_000)
    pids, outputs = start_two(commands, tmp_path, long, long)
    commands.wait_for_step(pids[0], tmp_path / "run", 3)
    os.kill(pids[1], signal.SIGKILL)
    killed = time.monotonic()
    assert [commands.wait(pid) for pid in pids] == [exits.INFRASTRUCTURE, -9]
    assert time.monotonic() - killed < 30
    assert "another process of the run has ended" in outputs[0].read_text()


class Store:
    """The key-value store of JAX, and process 1, which says some things in turn."""

    def __init__(self, *said):
        self.said, self.asked = said, 0

    def key_value_set(self, key, value, allow_overwrite):
        pass

    def key_value_try_get(self, key):
        self.asked += 1
        said = self.said[min(self.asked, len(self.said)) - 1]
        if isinstance(said, Exception):
            raise said
        return said


@pytest.mark.parametrize(
    ("said", "words", "its"),
    [
        (("1",), "process 1 of the run gives no sign of life since", 69),
        (("1", "2", "ended with code 1: x"), "process 1 of the run ended with", 69),
        (("1", "ended with code 65: x"), "process 1 of the run ended with", 65),
        (("1", jax.errors.JaxRuntimeError("UNAVAILABLE")), "process 0 of the run", 69),
        ((*map(str, range(30)), "ended"), "", 0),
    ],
)
def test_a_peer_that_hangs_or_fails_is_missed(monkeypatch, said, words, its):
    ended, stop = [], threading.Event()

    def end(code, text):
        ended.append((code, text))
        stop.set()

    monkeypatch.setattr(peers.distributed.global_state, "client", Store(*said))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(peers, "_end", end)
    for name, value in dict(BEAT=0.005, PATIENCE=0.1, GRACE=0.02).items():
        monkeypatch.setattr(peers, name, value)
    thread = threading.Thread(target=peers._watch, args=(stop,))
    thread.start()
    thread.join(0.5)
    stop.set()
    thread.join()
    assert [text[: len(words)] for _, text in ended] == [words] * bool(words)
    assert all(code == its for code, _ in ended)


@pytest.mark.parametrize(("its", "ours"), [(65, 65), (78, 78), (1, 69), (69, 69)])
def test_what_follows_from_anothers_failure_ends_as_that_does(monkeypatch, its, ours):
    said = Store(f"ended with code {its}: x")
    monkeypatch.setattr(peers.distributed.global_state, "client", said)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(peers, "_watch", lambda stop: None)
    with pytest.raises(exits.InfrastructureError, match="^process 1: x$") as error:
        with peers.watched():
            raise exits.InfrastructureError("process 1: x")
    assert exits.exit_code(error.value) == ours


@pytest.mark.parametrize("late", [True, False])
def test_nobody_waits_for_the_word_of_a_process_that_has_ended(monkeypatch, late):
    class Ended(Store):
        def blocking_key_value_get(self, key, milliseconds):
            assert self.asked == 1, "asked again"
            if not late:
                raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED")
            return "its word"

    if late:
        assert peers._await(Ended("ended"), "key", 1) == "its word"
        return
    with pytest.raises(exits.InfrastructureError, match="process 1 of the run has end"):
        peers._await(Ended("ended"), "key", 1)


def test_the_last_word_of_a_process_is_that_it_has_ended(monkeypatch):
    """A sign of life that was under way when it ended does not follow."""
    words, beats = [], threading.Event()

    class Slow(Store):
        def key_value_set(self, key, value, allow_overwrite):
            if value.isdigit():
                beats.set()
                time.sleep(0.05)
            words.append(value)

    monkeypatch.setattr(peers.distributed.global_state, "client", Slow("1"))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(peers, "BEAT", 0.001)
    with peers.watched():
        assert beats.wait(10)
    for thread in threading.enumerate():
        if thread.name == "peers":
            thread.join()
    assert words[-1] == "ended"


def test_processes_that_nobody_started_are_missed_in_words(commands, tmp_path):
    pid = commands.start(flags(tmp_path), tmp_path / "output")
    assert commands.wait(pid) == exits.BAD_CONFIG
    said = (tmp_path / "output").read_text()
    assert "mesh.processes=2" in said and "Traceback" not in said
