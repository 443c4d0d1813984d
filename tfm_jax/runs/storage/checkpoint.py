"""Checkpoints that are whole or absent: atomic, verified, strict, asynchronous.

``checkpoints/000100/`` holds ``state/`` (see ``shards``), what describes the run
(``config.json``, ``tokenizer.json``, ...), ``metrics.json`` and ``manifest.json``; what
no step changes lies beside all checkpoints, see ``frozen``. All of it is written into
``000100.tmp-*``, forced to the disk and renamed, so that a directory with a plain
number is complete. Nothing here is ever unpickled or imported.
"""

import functools
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

from tfm_jax.runs.process.exits import (
    CheckpointMismatch,
    CorruptCheckpoint,
    InfrastructureError,
)
from tfm_jax.runs.storage import arrays, commit, frozen, manifest, metadata, weights
from tfm_jax.runs.storage.collective import Collective
from tfm_jax.runs.storage.weights import average, find, load_params, verify
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


class Checkpointer:
    """The checkpoints of one run, in one directory.

    With several processes every one calls every method at the same point, and each
    writes, verifies and reads a part; what fails in one of them fails in all. Process 0
    names, renames and deletes. The directory must be shared by them.
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
        self._processes = Collective()
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
        files = {
            name: metadata.encode(name, value) for name, value in (extras or {}).items()
        }
        files["metrics.json"] = metadata.encode_metrics(metrics or {})
        moving, groups = self._split(named)
        if "step" in named and not np.all(_local(named["step"]) == step):
            made = _local(named["step"])
            raise ValueError(f"refusing to save step {step}: state.step={made}")
        contents = commit.Contents(
            step=step,
            tree=arrays.describe(moving),
            host=arrays.to_host(moving),
            held=[] if self._is_stored() else [*map(arrays.to_host, groups)],
            stored=self._stored,
            files=files,
        )
        self._last = step
        self._pending = self._writer.submit(self._write, step, contents)
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

        def there():
            return all((self._store / name).is_dir() for name in self._stored)

        return not self._still or bool(self._stored) and self._processes.first(there)

    def wait(self) -> None:
        """Return when the last save is committed.

        Raises: InfrastructureError if it failed; once, the next call is silent.
        """
        self._finish()
        self._processes.meet()

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
        while True:
            newest, lost = self._processes.first(self._newest)
            if newest is None:
                break
            path = self.path(newest)
            wrong = self._wrong(manifest.problems, path)
            if not wrong:
                break
            self._processes.first(functools.partial(self._set_aside, path, wrong))
        if lost:
            raise CorruptCheckpoint(lost)
        self._last = -1 if newest is None else newest
        if newest is None:
            return None
        names = manifest.read(path).get("frozen", ())
        if wrong := self._wrong(frozen.problems, self._store, names):
            # the checkpoints themselves are sound
            raise CorruptCheckpoint(
                f"checkpoint {path}: {'; '.join(wrong)}; another run that "
                f"has frozen the same has it, too: copy it to {self._store}"
            )
        self._verified.add(newest)
        return newest

    def _newest(self) -> tuple[int | None, str]:
        """The newest step or None, and ``weights.lost``."""
        return max(self.steps(), default=None), weights.lost(self.directory)

    def _wrong(self, problems: Callable, *of: Any) -> list[str]:
        """What ``problems`` finds when the processes divide the files among them."""
        share = jax.process_index(), jax.process_count()
        how = dict(contents=self.cfg.verify, share=share)
        parts = self._processes.all(lambda: problems(*of, **how))
        return [*dict.fromkeys(problem for part in parts for problem in part)]

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
        if step not in self._verified and (
            wrong := self._wrong(weights.problems, path)
        ):
            raise CorruptCheckpoint(f"checkpoint {path}: {'; '.join(wrong)}")
        body, wanted = manifest.read(path), arrays.leaves(target)
        still = frozen.tree(self._store, body.get("frozen", ()))
        held = {f"params/{name}": leaf for name, leaf in still.items()}
        saved = {  # runs of before have averages of what is frozen
            name: leaf
            for name, leaf in body["tree"].items()
            if name in wanted or name[:4] != "ema/" or self._pattern(name) is None
        }
        lines = arrays.differences(saved | held, arrays.describe(wanted))
        if lines:
            shown = "\n  ".join(lines[:20] + lines[20:][-1:])
            raise CheckpointMismatch(
                f"checkpoint {path} does not fit this run ({len(lines) - 1} "
                f"differences):\n  {shown}"
            )
        values: dict[str, Any] = {}

        def read():
            values.update(arrays.read(path / "state", saved, wanted))
            like = {name: wanted[f"params/{name}"] for name in still}
            frozen_ones = frozen.read(self._store, body.get("frozen", ()), like)
            values.update({f"params/{name}": x for name, x in frozen_ones.items()})

        self._processes.all(read)
        placed = [values[path] for path in wanted]
        return jax.tree.unflatten(jax.tree.structure(target), placed)

    def extras(self, step: int) -> dict[str, Any]:
        """What was saved beside the state: JSON files parsed, other files as bytes.

        Whatever else lies in the directory by now is ignored.
        """
        path = self.path(step)
        names = [name for name in manifest.read(path)["files"] if "/" not in name]
        return {
            n: metadata.decode(path / n)
            for n in sorted(names)
            if n not in metadata.RESERVED
        }

    def metrics(self, step: int) -> dict[str, float]:
        """The metrics that were passed to ``save``."""
        return metadata.decode_metrics(self.path(step))

    def _write(self, step: int, contents: commit.Contents) -> None:
        how = self._processes, self.path(step), self._store
        self._stored = commit.write(*how, contents) or self._stored
        if jax.process_index() == 0:
            try:
                self._retain()
            except OSError as error:  # the checkpoint is saved, and that counts
                logging.warning("old checkpoints are kept: %s", error)

    def _retain(self) -> None:
        """Delete all but the newest ``keep`` and the best ``keep_best``."""
        values, metric = {}, self.cfg.metric
        if metric == "loss":
            metric = next(iter(self._scores))
        for step in self.steps():
            path = self.path(step)
            try:
                values[step] = metadata.decode_metrics(path).get(metric, math.nan)
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
        self.wait()

        def delete():
            for step in self.steps():
                if step >= first:
                    self._delete(step)

        self._processes.first(delete)
        self._last = max(self.steps(), default=-1)

    def _delete(self, step: int) -> None:
        # Renamed first: a deletion that is killed half-way leaves no numbered rest.
        doomed = self.path(step).with_suffix(".tmp-delete")
        os.rename(self.path(step), doomed)
        _remove(doomed)


def _local(leaf: Any) -> np.ndarray:
    """What every device has."""
    return np.asarray(leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf)


def _remove(path: Path) -> None:
    """Delete a directory, a file, or a link and not what it points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
