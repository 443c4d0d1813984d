"""Checkpoints that are whole or absent: atomic, verified, strict, asynchronous.

``checkpoints/000100/`` holds ``state/`` (arrays, Orbax), what describes the run
(``config.json``, ``tokenizer.json``, ...), ``metrics.json`` and ``manifest.json``; what
no step changes lies beside all checkpoints, see ``frozen``. All of it is written into
``000100.tmp-*``, forced to the disk and renamed, so that a directory with a plain
number is complete. Nothing here is ever unpickled or imported.
"""

import json
import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from tfm_jax import bounded_json
from tfm_jax.runs.process.exits import (
    CheckpointMismatch,
    CorruptCheckpoint,
    InfrastructureError,
)
from tfm_jax.runs.storage import arrays, frozen, manifest, weights
from tfm_jax.runs.storage.weights import average, find, load_params, verify
from tfm_jax.runs.workdir import require_held
from tfm_jax.settings.sections import CheckpointConfig as Config

__all__ = [
    "Checkpointer",
    "Config",
    "average",
    "find",
    "load_params",
    "verify",
]

PATIENCE = 60  # seconds until a word is said of a checkpoint that is not yet written
RESERVED = ("state", "metrics.json", manifest.NAME)


class Checkpointer:
    """The checkpoints of one run, in one directory.

    With several processes every one calls every method at the same point; process 0
    touches the disk and decides, all read. The directory must be shared by them.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        cfg: Config,
        scores: Mapping[str, Callable] = MappingProxyType({"nll": min}),
        still: Sequence[str] = (),
    ) -> None:
        """Args.

        scores: of the workload, score -> min or max; the first one is its own loss.
        still: regular expressions of paths whose parameters never change; those of each
            are stored together, once.
        """
        self.directory = Path(directory).absolute()
        self.cfg, self._scores, self._still = cfg, scores, tuple(still)
        self._store = self.directory.parent / frozen.DIRECTORY
        self._stored: list[str] = []
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError as error:
            raise InfrastructureError(
                f"{self.directory} is no directory, or a link to one that is not there"
            ) from error
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future | None = None
        self._verified: set[int] = set()
        if jax.process_index() == 0:
            for leftover in self.directory.glob("[0-9]*.tmp-*"):
                _remove(leftover)
            if self._still and self.directory.name == weights.DIRECTORY:
                frozen.remove_leftovers(self._store)
        self._last = max(self.steps(), default=-1)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def path(self, step: int) -> Path:
        """The directory of one checkpoint."""
        return self.directory / f"{step:06d}"

    def steps(self) -> list[int]:
        """Steps of the committed checkpoints, ascending, sound or not."""
        return [int(path.name) for path in weights.numbered(self.directory)]

    def save(
        self,
        step: int,
        state: Any,
        *,
        extras: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        wait: bool = False,
    ) -> None:
        """Save ``state``; it may be donated as soon as this returns.

        Args:
            step: steps done so far; must be what ``state.step`` says, if it has one.
            state: pytree of arrays, on any devices.
            extras: file name -> bytes, text, or a value that is written as JSON.
            metrics: values of the latest evaluation; ``cfg.metric`` ranks checkpoints.
            wait: return only when the checkpoint is committed.

        Raises:
            ValueError: the step is not above the last one, or not the state's.
            InfrastructureError: this save failed, or the one before in the background.
        """
        self.wait()
        if step <= self._last:
            raise ValueError(
                f"refusing to save step {step}: {self.directory} is at {self._last}"
            )
        named = arrays.leaves(state)
        files = {name: _encode(name, value) for name, value in (extras or {}).items()}
        files["metrics.json"] = _encode_metrics(metrics or {})
        moving, groups = self._split(named)
        host = arrays.to_host(moving)
        held = [] if self._is_stored() else [*map(arrays.to_host, groups)]
        if "step" in host and not np.all(host["step"] == step):
            raise ValueError(f"refusing to save step {step}: state.step={host['step']}")
        self._last = step
        if jax.process_index() == 0:
            parts = step, host, arrays.describe(moving), files, held
            self._pending = self._writer.submit(self._write, *parts)
        if wait or not self.cfg.asynchronous:
            self.wait()

    def _split(self, named):
        """(leaves that change, for each of ``still`` the parameters that do not)."""
        moving, groups = {}, {pattern: {} for pattern in self._still}
        for path, leaf in named.items():
            pattern = self._pattern(path)
            if pattern is None:
                moving[path] = leaf
            else:
                groups[pattern][path.partition("/")[2]] = leaf
        return moving, [*filter(None, groups.values())]

    def _pattern(self, path):
        """The first of ``still`` that a parameter, or its average, matches, or None."""
        kind, _, name = path.partition("/")
        still = self._still if kind in ("params", "ema") else ()
        return next((pattern for pattern in still if re.search(pattern, name)), None)

    def _is_stored(self):
        """Whether the frozen parameters need not be looked at again."""
        there = all((self._store / name).is_dir() for name in self._stored)
        there = bool(self._stored) and there
        if self._still and jax.process_count() > 1:
            there = bool(multihost_utils.broadcast_one_to_all(np.asarray(there)))
        return there

    def wait(self) -> None:
        """Return when the last save is committed.

        Raises: InfrastructureError if it failed; once, the next call is silent.
        """
        self._finish()
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("checkpoint")

    def _finish(self) -> None:
        pending, self._pending = self._pending, None
        while pending is not None:
            try:
                return pending.result(PATIENCE)
            except TimeoutError:  # of our wait: what the writer raises is wrapped
                logging.warning(
                    "a checkpoint in %s is still being written after %d more seconds",
                    *(self.directory, PATIENCE),
                )

    def close(self) -> None:
        """Wait for the last save, not for other processes, and stop the thread."""
        try:
            self._finish()
        finally:
            self._writer.shutdown()

    def latest_good(self) -> int | None:
        """The newest step that passes verification; None in a fresh directory.

        A checkpoint that fails is renamed to ``NNNNNN.corrupt``, with one warning.

        Raises: CorruptCheckpoint if there are checkpoints and all are bad: starting
            again from step 0 must be somebody's decision.
        """
        self.wait()
        nothing, all_bad = -1, -2
        found: Any = self._newest_sound() if jax.process_index() == 0 else None
        if jax.process_index() == 0 and found is None:
            found = all_bad if any(self.directory.glob("[0-9]*.corrupt*")) else nothing
        if jax.process_count() > 1:
            found = int(multihost_utils.broadcast_one_to_all(np.int32(found or 0)))
        if found == all_bad:
            raise CorruptCheckpoint(
                f"every checkpoint in {self.directory} is corrupt; to train again "
                "from step 0 delete that directory"
            )
        self._last = found
        if found == nothing:
            return None
        names = manifest.read(self.path(found)).get("frozen", ())
        wrong = frozen.problems(self._store, names, contents=self.cfg.verify)
        if wrong:  # the checkpoints themselves are sound
            raise CorruptCheckpoint(
                f"checkpoint {self.path(found)}: {'; '.join(wrong)}; another run that "
                f"has frozen the same has it, too: copy it to {self._store}"
            )
        self._verified.add(found)
        return found

    def _newest_sound(self) -> int | None:
        for step in reversed(self.steps()):
            path = self.path(step)
            problems = manifest.problems(path, contents=self.cfg.verify)
            if not problems:
                return step
            self._set_aside(path, problems)
        return None

    def _set_aside(self, path: Path, problems: list[str]) -> None:
        bad = path.with_name(f"{path.name}.corrupt")
        while os.path.lexists(bad):
            bad = bad.with_name(f"{bad.name}+")
        os.rename(path, bad)
        logging.warning(
            "checkpoint %s is corrupt and now called %s: %s",
            *(path, bad.name, "; ".join(problems)),
        )

    def restore(self, step: int, target: Any) -> Any:
        """The state saved at ``step``, bit for bit, with the structure of ``target``.

        Args:
            step: of a checkpoint, most often ``latest_good()``.
            target: state of arrays or ``ShapeDtypeStruct``; each leaf lands on the
                sharding of its target, whatever devices it was saved from.

        Raises:
            CorruptCheckpoint: the checkpoint fails verification.
            CheckpointMismatch: a leaf is missing, unexpected, or of another shape or
                dtype; nothing is ever skipped, padded or cast.
        """
        self.wait()
        path = self.path(step)
        if step not in self._verified:
            weights.require_sound(path, contents=self.cfg.verify)
        body, wanted = manifest.read(path), arrays.leaves(target)
        still = frozen.read(self._store, body.get("frozen", ()))
        held = {f"params/{name}": value for name, value in still.items()}
        saved = {  # runs of before have averages of what is frozen
            name: leaf
            for name, leaf in body["tree"].items()
            if name in wanted or name[:4] != "ema/" or self._pattern(name) is None
        }
        there = saved | arrays.describe(held)
        lines = arrays.differences(there, arrays.describe(wanted))
        if lines:
            shown = "\n  ".join(lines[:20] + lines[20:][-1:])
            raise CheckpointMismatch(
                f"checkpoint {path} does not fit this run ({len(lines) - 1} "
                f"differences):\n  {shown}"
            )
        host = arrays.read(path / "state", saved) | held
        placed = [arrays.place(host[path], like) for path, like in wanted.items()]
        return jax.tree.unflatten(jax.tree.structure(target), placed)

    def extras(self, step: int) -> dict[str, Any]:
        """What was saved beside the state: JSON files parsed, other files as bytes.

        Whatever else lies in the directory by now is ignored.
        """
        path = self.path(step)
        names = [name for name in manifest.read(path)["files"] if "/" not in name]
        return {n: _decode(path / n) for n in sorted(names) if n not in RESERVED}

    def metrics(self, step: int) -> dict[str, float]:
        """The metrics that were passed to ``save``."""
        return _decode_metrics(self.path(step))

    def _write(
        self, step: int, host: Mapping, tree: Mapping, files: Mapping, held: Sequence
    ) -> None:
        final = self.path(step)
        temporary = final.with_name(f"{final.name}.tmp-{os.getpid()}")
        try:
            _remove(temporary)
            temporary.mkdir(mode=0o700)
            for name, content in files.items():
                (temporary / name).write_bytes(content)
            arrays.write(temporary / "state", host)
            if held:  # before anything refers to them
                self._stored = [frozen.write(self._store, group) for group in held]
            manifest.write(temporary, step=step, tree=tree, frozen=self._stored)
            manifest.sync_tree(temporary)
            require_held(self.directory.parent)
            os.rename(temporary, final)
            manifest.sync(self.directory)
        except Exception as error:
            shutil.rmtree(temporary, ignore_errors=True)
            message = f"checkpoint {final} was not saved: {error}"
            raise InfrastructureError(message) from error
        try:
            self._retain()
        except OSError as error:  # the checkpoint is saved, and that is what counts
            logging.warning("old checkpoints are kept: %s", error)

    def _retain(self) -> None:
        """Delete all but the newest ``keep`` and the best ``keep_best``."""
        values, metric = {}, self.cfg.metric
        if metric == "loss":
            metric = next(iter(self._scores))
        for step in self.steps():
            path = self.path(step)
            try:
                values[step] = _decode_metrics(path).get(metric, math.nan)
            except (ValueError, FileNotFoundError, NotADirectoryError) as error:
                self._set_aside(path, [str(error)])
        steps, best_of = list(values), self._scores.get(metric, min)
        ranked = sorted(
            (step for step in steps if math.isfinite(values[step])),
            key=values.__getitem__,
            reverse=best_of is max,
        )
        kept = {*steps[-self.cfg.keep :], *ranked[: self.cfg.keep_best]}
        for step in set(steps) - kept:
            self._delete(step)

    def discard(self, first: int) -> None:
        """Delete the checkpoints from step ``first`` on, which can be made again."""
        for step in self.steps():
            if step >= first:
                self._delete(step)
        self._last = max(self.steps(), default=-1)

    def _delete(self, step: int) -> None:
        # Renamed first: a deletion that is killed half-way leaves no numbered rest.
        doomed = self.path(step).with_suffix(".tmp-delete")
        os.rename(self.path(step), doomed)
        _remove(doomed)


def _encode(name: str, value: Any) -> bytes:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name) or name in RESERVED:
        raise ValueError(f"{name!r} cannot be the name of a file in a checkpoint")
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode()


def _decode(path: Path) -> Any:
    if path.suffix != ".json":
        return path.read_bytes()
    try:
        return bounded_json.read(path)
    except ValueError as error:
        raise CorruptCheckpoint(str(error)) from error


def _remove(path: Path) -> None:
    """Delete a directory, a file, or a link and not what it points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _encode_metrics(metrics: Mapping[str, float]) -> bytes:
    values = {name: float(value) for name, value in metrics.items()}
    finite = {k: v if math.isfinite(v) else str(v) for k, v in values.items()}
    return _encode("metrics", finite)


def _decode_metrics(checkpoint: Path) -> dict[str, float]:
    values = bounded_json.read(checkpoint / "metrics.json", dict)
    try:
        return {name: float(value) for name, value in values.items()}
    except (TypeError, OverflowError) as error:
        raise ValueError(f"metrics.json: {error}") from error
