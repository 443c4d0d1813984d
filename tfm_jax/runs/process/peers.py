"""Peers: the other processes of a run; joined, agreed with, missed when they end."""

import contextlib
import json
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax._src import distributed  # whose key-value store has no public name
from jax.experimental import multihost_utils

from tfm_jax.config import ConfigError
from tfm_jax.runs.process import exits
from tfm_jax.terminal import say

BEAT = 1.0  # seconds between two signs of life
PATIENCE = 60.0  # seconds without one until a peer is believed dead
# JAX's own, of which it asks for a sign every half: it aborts the process, and wordless
JAX_PATIENCE = 4 * PATIENCE
GRACE = 5.0  # seconds that peers have to fail for the same reason
ARRIVAL = 1800  # seconds until all have come: pods wait for nodes and images
# what a launcher tells a process if JAX does not know that launcher
ADDRESS, ME = "JAX_COORDINATOR_ADDRESS", "JAX_PROCESS_ID"
BIND_ADDRESS = "JAX_COORDINATOR_BIND_ADDRESS"
ENDED = "ended"
_FAILED = re.compile(f"{ENDED} with code ([0-9]+): ")
# what XLA raises when a collective loses its peer
_LOST = re.compile("gloo|nccl|rccl|connection|coordination|heartbeat|barrier", re.I)


def join(processes: int) -> None:
    """Finds the other processes: as told, or as ``jax.distributed.initialize()`` does.

    JAX_PROCESS_ID and JAX_COORDINATOR_ADDRESS, HOST:PORT of process 0, tell it where no
    launcher does that JAX knows. Process 0 then listens at that address alone, or at
    JAX_COORDINATOR_BIND_ADDRESS where it knows its host by another name.

    Raises: ConfigError if there are not so many, or if a variable is no address or
        number. InfrastructureError if they cannot be reached; JAX itself aborts the
        process if they do not come in time.
    """
    told = _told(processes)
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=int(JAX_PATIENCE), **told)
    except jax.errors.JaxRuntimeError as error:
        raise exits.InfrastructureError(
            f"mesh.processes={processes}, but the others are not reached: {error}"
        ) from error
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"mesh.processes={processes}, but jax.distributed finds no others: {error} "
            f"Start all with srun or mpirun, or each with {ADDRESS}=HOST:PORT of "
            f"process 0 and {ME}=0 to {processes - 1}"
        ) from error
    if jax.process_count() != processes:
        raise ConfigError(
            f"mesh.processes={processes}, but {jax.process_count()} were started"
        )


def _told(processes: int) -> dict[str, Any]:
    """Arguments of ``jax.distributed.initialize`` that it does not find out itself."""
    given = os.environ
    for name in (ADDRESS, BIND_ADDRESS):
        if given.get(name) and not re.fullmatch(r".+:[0-9]{1,5}", given[name]):
            raise ConfigError(f"{name}={given[name]!r}; write HOST:PORT of process 0")
    address, me = given.get(ADDRESS), given.get(ME)
    if me and not (me.isascii() and me.isdecimal() and int(me) < processes):
        raise ConfigError(
            f"{ME}={me!r}; of mesh.processes={processes} it is from 0 to "
            f"{processes - 1}"
        )
    if address and me:
        return {
            "coordinator_address": address,
            "num_processes": processes,
            "process_id": int(me),
            "coordinator_bind_address": given.get(BIND_ADDRESS, address),  # or all
            "cluster_detection_method": "deactivate",  # Kubernetes: needs API rights
            "initialization_timeout": ARRIVAL,
        }
    nodes = given.get("SLURM_STEP_NUM_NODES")
    if nodes and given.get("SLURM_NTASKS") == nodes:
        if "JAX_LOCAL_DEVICE_IDS" not in given:
            return {"local_device_ids": []}  # all of the node; JAX would take one GPU
    return {}


def require_agreement(what: str, settings: Mapping) -> None:
    """All processes call it, with the same plain dict.

    Raises: ConfigError in all of them if it is not the same, naming what differs.
    """
    if jax.process_count() == 1:
        return
    text = json.dumps(settings, indent=0, sort_keys=True)
    mine = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(mine.size))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: mine.size] = mine
    rows = multihost_utils.process_allgather(padded)
    texts = [bytes(row[:n]).decode() for row, n in zip(rows, sizes, strict=True)]
    for process, text in enumerate(texts):
        one, other = _only(texts[0], text), _only(text, texts[0])
        if one != other:
            raise ConfigError(
                f"the processes of the run have different {what}: process 0 has {one}, "
                f"process {process} has {other}"
            )


def exchange(key: str, text: str) -> list[str]:
    """``text`` of every process, in order; none returns before all have called it.

    Through the key-value store of JAX and without a collective, which another thread
    may have under way. ``key`` must be a new one each time.

    Raises: InfrastructureError if one has ended and did not call it.
    """
    processes = range(jax.process_count())
    if len(processes) == 1:
        return [text]
    client: Any = distributed.global_state.client
    client.key_value_set(f"{key}/{jax.process_index()}", text)
    return [_await(client, key, process) for process in processes]


def _await(client: Any, key: str, process: int) -> str:
    """What a process says; one that is killed is ``watched``'s to miss."""
    while True:
        ended = _said(client, process).startswith(ENDED)
        try:
            return client.blocking_key_value_get(
                f"{key}/{process}", int(PATIENCE * 1000)
            )
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
        if ended:
            raise exits.InfrastructureError(f"process {process} of the run has ended")


def forget(key: str) -> None:
    """Frees what all have read of an ``exchange``."""
    if jax.process_count() > 1 and jax.process_index() == 0:
        client: Any = distributed.global_state.client
        client.key_value_delete(key)


def _only(text, other):
    """The lines that ``other`` lacks."""
    others = set(other.splitlines())
    only = [line for line in text.splitlines() if line not in others]
    return " ".join(only).rstrip(",")


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Ends this process with 69 and a word when another one of the run has ended.

    With that one's code if no retry can help. And an error that it alone has ends it
    with its own code, once the others know: JAX would first wait for them for minutes.

    Raises: PeerFailed instead of what followed from another's failure for good.
    """
    if jax.process_count() == 1:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(stop,), name="peers", daemon=True)
    thread.start()

    def leave():
        """No sign of life follows the word that this process has ended."""
        stop.set()
        thread.join(GRACE)

    try:
        yield
    except (exits.Preempted, exits.Diverged):  # all of them, at the same step
        raise
    except Exception as error:
        leave()
        if isinstance(error, jax.errors.JaxRuntimeError) and _LOST.search(str(error)):
            _end(_announced(), f"another process of the run has ended: {error}")
        told = exits.exit_code(error)
        _tell(f"{ENDED} with code {told}: {exits.one_line(error)}")
        together = _all_ended(time.monotonic() + 2 * GRACE)
        code = _announced() if told == exits.INFRASTRUCTURE else told
        if not together:
            if code == exits.UNKNOWN:
                traceback.print_exc()
            _end(code, str(error))
        if code != told:
            raise exits.PeerFailed(str(error), code) from error
        raise
    finally:
        leave()
        _tell(ENDED)


def _watch(stop: threading.Event) -> None:
    """Gives signs of life and looks for those of the others."""
    client: Any = distributed.global_state.client
    me = jax.process_index()
    others = [p for p in range(jax.process_count()) if p != me]
    beats, seen = 0, dict.fromkeys(others, ("", time.monotonic()))
    failed_at, grace = None, GRACE
    if me == 0:  # it keeps the store: that one ends before
        grace = 3 * GRACE
    while not stop.wait(BEAT):
        beats += 1
        try:
            client.key_value_set(_key(me), str(beats), allow_overwrite=True)
            said = {p: _said(client, p) for p in others}
        except jax.errors.JaxRuntimeError as error:
            if not stop.wait(BEAT):  # process 0 keeps the store
                _end(exits.INFRASTRUCTURE, f"process 0 of the run has ended: {error}")
            return
        now = time.monotonic()
        for process, text in said.items():
            if text != seen[process][0]:
                seen[process] = text, now
            elif not text.startswith(ENDED) and now - seen[process][1] > PATIENCE:
                _end(
                    exits.INFRASTRUCTURE,
                    f"process {process} of the run gives no sign of life since "
                    f"{PATIENCE:.0f} s",
                )
            if _FAILED.match(text):
                failed_at = failed_at or now
                if now - failed_at > grace:
                    _end(_code(text), f"process {process} of the run {text}")


def _tell(text: str) -> None:
    client: Any = distributed.global_state.client
    key = _key(jax.process_index())
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        if not _said(client, jax.process_index()).startswith(ENDED):
            client.key_value_set(key, text[:1000], allow_overwrite=True)


def _said(client: Any, process: int) -> str:
    try:
        return client.key_value_try_get(_key(process))
    except jax.errors.JaxRuntimeError as error:
        if "NOT_FOUND" not in str(error):
            raise
        return ""


def _code(*said: str) -> int:
    """Of a process that ends since others did: theirs if no retry can help, or 69."""
    codes = {int(found[1]) for text in said if (found := _FAILED.match(text))}
    return min(codes.intersection(exits.FINAL), default=exits.INFRASTRUCTURE)


def _announced() -> int:
    client: Any = distributed.global_state.client
    try:
        return _code(*(_said(client, p) for p in range(jax.process_count())))
    except jax.errors.JaxRuntimeError:  # process 0 keeps the store
        return exits.INFRASTRUCTURE


def _all_ended(deadline: float) -> bool:
    client = distributed.global_state.client
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        while time.monotonic() < deadline:
            everyone = range(jax.process_count())
            if all(_said(client, process).startswith(ENDED) for process in everyone):
                return True
            time.sleep(BEAT / 4)
    return False


def _key(process: int) -> str:
    return f"tfm_jax/process/{process}"


def _end(code: int, text: str) -> None:
    """Ends the process; what ends it otherwise would wait for the others."""
    say(f"tfm_jax: {exits.one_line(text)}", file=sys.stderr)
    sys.stdout.flush()
    os._exit(code)
