"""Workdirs: which runs are meant, and what each has left, read with care."""

import glob
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.report.text import shortened, visible
from experiments.runs import attempts, files, outcomes
from tfm_jax.api import ConfigError, nearest, one_line, read_knobs

LONGEST = 40  # characters of a name of a model, or of what it learns


class Workdir(NamedTuple):
    """A run as its files tell it.

    Attributes:
        name: the end of its path by which it is told from the others.
        knobs, roles: see ``api.read_knobs``.
        status: done, running, diverged, failed, stopped or not started.
        step: the last one recorded.
        lines: (kind, score) -> [P, 2] steps and values, finite ones.
        scores: ``split/score`` -> value, of the evaluation after training.
        environment: what it ran on, in words; {} of a run that has not recorded it.
    """

    path: Path
    name: str
    knobs: Mapping[str, Any]
    roles: Mapping[str, str]
    status: str
    step: int
    lines: Mapping[tuple[str, str], np.ndarray]
    scores: Mapping[str, float]
    environment: Mapping[str, str]

    @property
    def kind(self) -> str:
        """The model and what it learns."""
        words = (self.knobs.get(knob, "?") for knob in ("model_name", "task"))
        return " ".join(shortened(str(word), LONGEST) for word in words)


def read(runs: Any) -> list[Workdir]:
    """Runs of workdirs, patterns such as ``runs/*`` and loaded runs, each once.

    What is no run, or cannot be read, is left out with a warning.

    Raises: ConfigError for a path where nothing is, and if no run is left.
    """
    given = [runs] if isinstance(runs, str | Path) else list(runs)
    settings = {}
    for path in _find(given):
        try:
            settings[path] = read_knobs(path)
        except ConfigError as error:
            _leave_out(one_line(error))
    if not settings:
        raise ConfigError(f"{' '.join(map(str, given)) or 'nothing'}: no run is there")
    names = _names([*settings])
    return [
        _read(path, name, *settings[path])
        for path, name in zip(settings, names, strict=True)
    ]


def _find(given):
    """The workdirs, in the order given."""
    workdirs = {}  # resolved -> absolute
    for one in given:
        path = Path(getattr(one, "workdir", one)).expanduser()
        there, matched = path.exists(), []
        if there and not _is_run(path):
            inside = any(map(_is_run, path.glob("*")))
            hint = f"; its runs are {path}/*" if inside else ""
            _leave_out(f"{path} is no run, it has no config.json{hint}")
        elif there:
            matched = [path]
        elif glob.has_magic(str(path)):
            matched = filter(_is_run, map(Path, glob.iglob(str(path), recursive=True)))
            matched = sorted(matched, key=_natural)
        else:
            siblings = [p.name for p in path.parent.glob("*") if _is_run(p)]
            raise ConfigError(f"{one}: no such run{nearest(path.name, siblings)}")
        for match in matched:
            whole = match.resolve()
            if whole in workdirs:
                named = workdirs[whole].name
                _leave_out(f"{match}, the run {named}, is named twice")
            workdirs.setdefault(whole, match.absolute())
    return [*workdirs.values()]


def _is_run(path):
    return (path / "config.json").is_file() or (path / "checkpoints").is_dir()


def _natural(path):
    """Sorts ``s2`` before ``s10``."""
    words = re.split("([0-9]+)", str(path))  # every second one is a number
    return [(len(w), w) if place % 2 else (0, w) for place, w in enumerate(words)]


def _leave_out(reason):
    warnings.warn(f"left out: {one_line(visible(reason))}", stacklevel=2)


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest end of each path that no other one has."""

    def ends(path):
        return ["/".join(path.parts[-n:]) for n in range(1, len(path.parts) + 1)]

    everywhere = [set(ends(path)) for path in paths]
    return [
        next(e for e in ends(path) if sum(e in others for others in everywhere) == 1)
        for path in paths
    ]


def _read(path, name, knobs, roles):
    history, results = files.history(path), files.results(path) or {}
    step = max((record["step"] for record in history), default=0)
    scores = {name: _number(x) for name, x in files.scores(results).items()}
    return Workdir(
        *(path, visible(name), _shown(knobs), roles),
        *(_status(path, knobs, history, results), step),
        lines=_lines(history),
        scores=_shown(scores),
        environment=_environment(path, history),
    )


def _status(path, knobs, history, results):
    status = attempts.status(path).name
    if status not in ("missing", "stopped"):  # of a study, or under way
        return status
    if not history:
        return "done" if results else status.replace("missing", "not started")
    if results.get("step") == history[-1]["step"]:
        return "done"
    streaks = [_number(r.get("streak")) for r in history if r["kind"] == "train"]
    lost = streaks and streaks[-1] >= _number(knobs.get("train.skip_limit"))
    return "diverged" if lost else "stopped"


def _environment(path, history):
    """Of all its starts, the different ones with a bar between."""
    starts = [r.get("environment") for r in history if r["kind"] == "start"]
    starts = [s for s in starts if isinstance(s, dict)] or outcomes.attempted_in(path)
    report = files.read(path / "data_report.json") or {}
    if isinstance(report.get("fingerprint"), str):
        starts = [{**s, "data": report["fingerprint"][:12]} for s in starts or [{}]]
    fields = dict.fromkeys(field for start in starts for field in start)
    return _shown(
        {
            field: " | ".join(dict.fromkeys(_brief(s.get(field)) for s in starts))
            for field in fields
        }
    )


def _shown(values):
    """Names and texts as they can be printed, written and put into a table."""
    return {
        visible(name): visible(value) if isinstance(value, str) else value
        for name, value in values.items()
    }


def _brief(value):
    """Of a sha of git its beginning."""
    return re.sub("^([0-9a-f]{12})[0-9a-f]{28}$", r"\1", str(value))


def _lines(history):
    """(kind, score) -> steps and values, of training and of evaluations."""
    points = {}
    for record in history:
        step = _number(record["step"])
        for score in record if record["kind"] in ("train", "valid") else ():
            if math.isfinite(step + (value := _number(record[score]))):
                key = record["kind"], visible(score)
                points.setdefault(key, []).append((step, value))
    return {key: np.array(line) for key, line in points.items() if key[1] != "step"}


def _number(value):
    """A float, NaN of what is none."""
    try:
        return float(value) if files.is_number(value) else math.nan
    except OverflowError:  # an integer beyond every float
        return math.nan
