"""What a run says: ``metrics.jsonl`` (the record), trackers, a progress bar."""

import contextlib
import functools
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from tfm_jax import bounded_json
from tfm_jax.data.errors import DataError
from tfm_jax.runs.trackers import follow
from tfm_jax.runs.trackers.redact import redacted
from tfm_jax.runs.workdir import replacing, require_held
from tfm_jax.terminal import say, shown

NAME = "metrics.jsonl"
MOST_BYTES = 2**30
NOT_FINITE = ("nan", "inf", "-inf")  # JSON has no such numbers: written as strings


class MetricsLog:
    """Appends one JSON object per line: ``{"step": 10, "kind": "train", ...}``.

    Opening it at the step a run continues from drops the records after that step and
    the final scores, which will be written again, and a last line torn by a kill: one
    run, one history. Where the run was extended, or ``extends`` now, its former final
    scores stay. Trackers are told of every record, too. Of the processes of one run
    only one ``writes``.

    Args:
        step: that the run goes on from. trackers: keys of ``trackers.TRACKERS``.
        knobs: of the run, dotted, for the tables of trackers.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        step: int = 0,
        extends: bool = False,
        writes: bool = True,
        trackers: Collection[str] = ("tensorboard",),
        knobs: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(workdir) / NAME if writes else Path(os.devnull)
        if writes and os.path.lexists(self.path):
            lines = _lines(self.path)
            ends = {r["step"] for _, r in lines if r and r["kind"] == "extended"}
            ends |= {step} if extends else set()
            kept = [
                line + b"\n"
                for line, record in lines
                if record is None
                or record["step"] <= step
                and (record["step"] in ends or not record["kind"].startswith("final_"))
            ]
            with replacing(self.path) as file:
                file.writelines(kept)
        self._file, self._last = open(self.path, "a", encoding="utf-8"), step
        names = trackers if writes else ()
        self._followers = follow(names, self.path.parent, step, knobs or {})

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close(finished=exc_info[0] is None)

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Append one record; numbers may be scalars of numpy or JAX."""
        require_held(self.path.parent)
        self._last, plain = int(step), {n: _plain(x) for n, x in values.items()}
        self._file.write(_line({"step": self._last, "kind": kind} | plain))
        self._file.flush()
        for follower in self._followers:
            follower.add(self._last, kind, redacted(plain))

    def close(self, *, finished: bool = False) -> None:
        """Force the record to the disk; trackers are told whether the run is done."""
        if not self._file.closed:
            if self.path.is_file():
                os.fsync(self._file.fileno())
            self._file.close()
        for follower in self._followers:
            follower.add(self._last, "end", {"finished": finished})
        for follower in self._followers:
            follower.close()


def read_history(workdir: str | os.PathLike) -> list[dict]:
    """All records of a run, in the order written; a torn last line is left out.

    So are damaged lines, with one warning; they stay in the file.

    Raises: DataError if it is no file of lines.
    """
    lines = _lines(Path(workdir) / NAME)
    return [record for _, record in lines if record is not None]


def _lines(path: Path) -> list[tuple[bytes, dict | None]]:
    """The complete lines of a record, and what they say; None: damaged."""
    try:
        content = bounded_json.read_bytes(path, most=MOST_BYTES)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    *complete, _torn = content.split(b"\n")
    lines = [(line, _record(line)) for line in complete]
    damaged = [n for n, (_, record) in enumerate(lines, 1) if record is None]
    if damaged:
        _warn_of(path, tuple(damaged))
    return lines


@functools.cache
def _warn_of(path, damaged):
    logging.warning(
        "%s: %d damaged line(s) skipped, the first is line %d",
        *(path, len(damaged), damaged[0]),
    )


def _record(line: bytes) -> dict | None:
    try:
        record = bounded_json.unsealed(bounded_json.loads(line, dict))
    except ValueError:
        return None
    if type(record.get("step")) is not int or type(record.get("kind")) is not str:
        return None
    return {k: float(v) if v in NOT_FINITE else v for k, v in record.items()}


def _plain(value: Any) -> Any:
    # Scalars of numpy and JAX have item(); what Python itself has passes as it is.
    return value.item() if hasattr(value, "item") else value


def _finite(value: Any) -> bool:
    return isinstance(value, float | int) and math.isfinite(value)


def _line(record: Mapping[str, Any]) -> str:
    safe = {
        name: str(value) if isinstance(value, float) and not _finite(value) else value
        for name, value in record.items()
    }
    return json.dumps(bounded_json.sealed(safe), allow_nan=False) + "\n"


class Progress:
    """A bar in a terminal; elsewhere one line every ``every_seconds``."""

    def __init__(
        self,
        total_steps: int,
        *,
        start: int = 0,
        every_seconds: float = 30,
        shown: bool = True,
        counted: str = "tokens",
    ) -> None:
        self.shown, self.counted = shown, counted
        self.total_steps = total_steps
        self.every_seconds = every_seconds
        self._first: Any = None  # (time, step) of the first update: compilation is over
        self._printed = -math.inf
        self._started = not shown or start >= total_steps  # nothing is compiled
        shown_as_bar = shown and sys.stdout.isatty()
        text = "" if self._started else "compiling"
        self._bar = _bar(total_steps, start, text) if shown_as_bar else None

    def __enter__(self):
        if self._bar:
            self._bar.start()
        elif not self._started:
            say("compiling the train step")
        return self

    def __exit__(self, *exc_info):
        if self._bar:
            self._bar.stop()

    def first_step(self, seconds: float) -> None:
        """Say once how long it took from the start to the end of the first step."""
        if not self._started:
            say(f"first step done {seconds:.1f} s after the start")
            if self._bar:
                self._bar.update(self._bar.task_ids[0], text="")
        self._started = True

    def update(self, step: int, *, loss: float, tokens_per_second: float = 0.0) -> None:
        """Show where the run is.

        Args:
            step: steps done.
            tokens_per_second: how many of what is ``counted``; 0: not known.
        """
        now = time.monotonic()
        self._first = self._first or (now, step)
        text = f"loss {loss:.4f}"
        if tokens_per_second:
            text += f"  {tokens_per_second:,.0f} {self.counted}/s"
        text += f"  {self._left(now, step)} left"
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=step, text=text)
        elif self.shown and self._due(now, step):
            self._printed = now
            say(f"step {step}/{self.total_steps}  {text}")

    def evaluation(self, step: int, scores: Mapping[str, Any], name: str = "") -> None:
        """Show what an evaluation found, of the run ``name`` if there are several."""
        if self.shown:
            split = f"{name} valid".strip()
            text = f"step {step}/{self.total_steps}  {split}: {spoken(scores)}"
            if self._bar:
                self._bar.console.print(shown(text), markup=False)
            else:
                say(text)

    def _due(self, now, step):
        return now - self._printed >= self.every_seconds or step == self.total_steps

    def _left(self, now: float, step: int) -> str:
        then, first = self._first
        if step == first and step < self.total_steps:
            return "?"
        per_step = (now - then) / max(step - first, 1)
        minutes, seconds = divmod(round(per_step * (self.total_steps - step)), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours:d}:{minutes:02d}:{seconds:02d}"


def spoken(scores: Mapping[str, Any]) -> str:
    """The numbers of ``scores`` in a line: counts whole, four digits of the others."""
    return "  ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:.4g}"
        for name, value in scores.items()
        if not isinstance(value, str)
    )


@contextlib.contextmanager
def counted(
    total: int, *, least: int = 256, every_seconds: float = 30
) -> Iterator[Callable[[int], None]]:
    """Yields a function that is told how much more of ``total`` is done.

    From ``least`` on this is shown, as by ``Progress``.
    """
    bar = _bar(total, 0) if total >= least and sys.stdout.isatty() else None
    done, printed = 0, time.monotonic()

    def advance(count):
        nonlocal done, printed
        done, now = done + count, time.monotonic()
        if bar:
            bar.update(bar.task_ids[0], completed=done)
        elif total >= least and now - printed >= every_seconds:
            printed = now
            say(f"{done:,} of {total:,}")

    with bar or contextlib.nullcontext():
        yield advance


def _bar(total_steps: int, start: int, text: str = "") -> Any:
    from rich import progress

    columns = (
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[text]}"),
    )
    bar = progress.Progress(*columns)
    bar.add_task("train", total=total_steps, completed=start, text=text)
    return bar
