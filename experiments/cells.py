"""Cells: the runs of a study, what each is called, and where it stands on disk."""

import functools
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments import run_files
from experiments.identity import identity
from experiments.stages import FIRST
from experiments.study import Study, Typed
from tfm_jax.api import (
    ConfigError,
    DataError,
    Experiment,
    Lease,
    check_new,
    check_population,
    exits,
    read_command,
    replace,
    to_flag,
)

TUNE, FINAL, IDENTICAL, OTHER_SEEDS = PHASES = (
    "tune",
    "final",
    "identical",
    "other_seeds",
)
FINISHED = ("done", "diverged")
RETRIES = {exits.UNKNOWN: 2, exits.INFRASTRUCTURE: 2}  # of other failures: none


class Cell(NamedTuple):
    """One run.

    Attributes:
        id: content hash, see ``identity``. arm: of the study. phase: of ``PHASES``.
        settings: dotted knobs set besides the config file, seed included.
        directory: where it lives.
        command: after ``python``; it reproduces the run. Runs that train together in
            one process have the same.
        experiment: the resolved configuration. first: of the run made before it.
    """

    id: str
    arm: str
    seed: int
    phase: str
    settings: Mapping[str, Any]
    directory: Path
    command: tuple[str, ...]
    experiment: Experiment
    first: Experiment | None = None

    @property
    def costly(self) -> Experiment:
        """What is measured where arms shall cost the same."""
        return self.first or self.experiment

    @property
    def shown(self) -> str:
        """The command as one pastes it."""
        return shlex.join(["python", *self.command])


class Status(NamedTuple):
    """Where a cell stands: done, diverged, failed, running or missing.

    Attributes:
        retryable: whether a failed one may be tried again.
        attempts: how often it was started. seconds: that it computed, all attempts.
        error: last lines of its log if it failed.
    """

    name: str
    retryable: bool = False
    attempts: int = 0
    seconds: float = 0.0
    error: str = ""

    @property
    def unfinished(self) -> bool:
        """Whether it makes sense to start it, for the first time or once more."""
        return self.name not in FINISHED and (self.name != "failed" or self.retryable)


def flags(settings: Mapping[str, Any], name: str = "config") -> tuple[str, ...]:
    """``--NAME.KNOB=VALUE`` for each setting, as the command line takes it."""
    return tuple(
        f"--{name}.{knob}={value if isinstance(value, Typed) else to_flag(value)}"
        for knob, value in settings.items()
    )


def configure(config: str, settings: Mapping[str, Any]) -> Experiment:
    """The experiment that the command line would run, checked as it would be.

    Raises: ConfigError naming the flag, the value and the legal choices.
    """
    path = Path(config.partition(":")[0])
    content = path.read_bytes() if path.is_file() else b""
    return _configured(config, content, flags(settings))


@functools.lru_cache(maxsize=4096)  # a plan asks for each of its runs several times
def _configured(config, content, knobs):
    del content  # part of the key alone: a file that was changed is read again
    return read_command([f"--config={config}", "--workdir=.", *knobs]).experiment


def cells(study: Study, root: Path, chosen: Mapping[str, Mapping]) -> Iterator[Cell]:
    """Every run of ``study`` that can be named already, in a fixed order.

    Args:
        root: the study's directory.
        chosen: arm -> tuned knobs. The runs with the study's seeds of an arm that is
            not in it are not yet known; an arm without tuning needs none.
    Raises: ConfigError if any of them is not a legal configuration, DataError if its
        data cannot be prepared.
    """
    found = list(_each(study, root, chosen))
    return _together(study, found) if study.vmapped else iter(found)


def _together(study, found):
    """The runs of an arm with one command: those of its tuning, and the others."""
    groups = {}
    for cell in found:
        groups.setdefault((cell.arm, cell.phase == TUNE), []).append(cell)
    for (arm, _), group in groups.items():
        try:
            may_differ = check_population([cell.experiment for cell in group])
        except ConfigError as error:
            raise ConfigError(f"arm {arm!r} cannot be vmapped: {error}") from error
        first = group[0].settings
        own = [
            k
            for k in may_differ
            if any(c.settings.get(k) != first.get(k) for c in group)
        ]
        shared = {k: v for k, v in first.items() if k not in own}
        each = (f"--each.{k}={to_flag([c.settings[k] for c in group])}" for k in own)
        command = (
            *("-m", "tfm_jax.main", f"--config={study.config}"),
            f"--workdir={to_flag([str(c.directory) for c in group])}",
            *flags(shared),
            *each,
        )
        for cell in group:
            yield cell._replace(command=command)


def _each(study, root, chosen):
    tuned = bool(study.tune)
    for arm in study.arms if tuned else ():
        for knobs in tuning_grid(study):
            for seed in study.tune_seeds:
                yield _cell(study, root, arm, knobs, seed, TUNE)
    plan = [(arm, seed, FINAL) for arm in study.arms for seed in study.seeds]
    plan += [(study.baseline, seed, IDENTICAL) for seed in study.identical]
    plan += [(study.baseline, seed, OTHER_SEEDS) for seed in study.other_seeds]
    for arm, seed, phase in plan:
        if not tuned or arm in chosen:
            yield _cell(study, root, arm, chosen.get(arm, {}), seed, phase)


def tuning_grid(study: Study) -> list[dict[str, Any]]:
    """What is tried for every arm."""
    combinations = [{}]
    for knob, values in study.tune.items():
        combinations = [c | {knob: value} for c in combinations for value in values]
    return combinations


def _cell(study, root, arm, knobs, seed, phase):
    settings = {**study.settings, **study.arms[arm], **knobs, "seed": seed}
    own, before = stages_of(settings)
    config = settings.get(FIRST, study.first)
    try:
        experiment = configure(study.config, own)
        first = configure(config, before) if config else None
        name = identity(
            experiment,
            probe=study.probe,
            repeat=int(phase == IDENTICAL),
            vmapped=study.vmapped,
            first=first,
        )
    except (ConfigError, DataError) as error:
        kind = ConfigError if isinstance(error, ConfigError) else DataError
        raise kind(f"arm {arm!r}: {error}") from error
    label = "-".join([arm, *(_short(k, v) for k, v in knobs.items()), f"s{seed}", name])
    directory = root / label
    program = ["tfm_jax.main"]
    if study.probe:
        program = ["experiments.probes", f"--probe={study.probe}"]
    elif config:
        program = ["experiments.stages", f"--{FIRST}={config}", *flags(before, FIRST)]
    command = (
        "-m",
        *program,
        f"--config={study.config}",
        f"--workdir={directory}",
        *flags(own),
    )
    return Cell(name, arm, seed, phase, settings, directory, command, experiment, first)


def check_read(cell: Cell) -> None:
    """Refuses settings of a run, or of the one before it, that have no effect.

    Raises: ConfigError naming the arm, the knob and that which ignores it.
    """
    own, before = stages_of(cell.settings)
    for experiment, given in ((cell.experiment, own), (cell.first, before)):
        try:
            if experiment:
                check_new(experiment, given)
        except ConfigError as error:
            raise ConfigError(f"arm {cell.arm!r}: {error}") from error


def stages_of(settings: Mapping[str, Any]) -> tuple[dict, dict]:
    """Knobs of the run itself, and of the one made before it; both have the seed."""
    own = {k: v for k, v in settings.items() if k.split(".")[0] != FIRST}
    prefix = f"{FIRST}."
    before = {
        k.removeprefix(prefix): v for k, v in settings.items() if k.startswith(prefix)
    }
    return own, before | {k: v for k, v in own.items() if k == "seed"}


def _short(knob, value):
    text = f"{knob.rpartition('.')[2]}{value}"
    return re.sub(r"[/\x00-\x1f\x7f]", "-", text)[:80]  # as the name of a folder


def status(cell: Cell) -> Status:
    """Reads where a cell stands from its directory alone."""
    return status_of(cell.directory)


def status_of(directory: Path) -> Status:
    """``status`` of the run in a directory."""
    attempts = _attempts(directory)
    tried = len(attempts), sum(attempt.get("seconds", 0.0) for attempt in attempts)
    ended = run_files.read(directory / "DONE.json", lambda d: d["status"] in FINISHED)
    diverged = ended and ended["status"] == "diverged"
    if diverged or (ended and run_files.results(directory) is not None):
        return Status(ended["status"], False, *tried)
    failed = run_files.read(directory / "FAILED.json")
    if failed:
        again, error = failed.get("retryable") is True, str(failed.get("error", ""))
        return Status("failed", again, *tried, error)
    return Status("running" if _held(directory) else "missing", False, *tried)


def _held(directory):
    """Whether a process computes a run; its lease is asked, to read is not to run."""
    return any(Lease(place).held() for place in (directory, directory / FIRST))


def finish(cell: Cell, attempt: Path, code: int, seconds: float) -> Status:
    """Records how an attempt ended; which of DONE and FAILED follows, if any."""
    ended = {"code": code, "seconds": round(seconds, 3)}
    replace(attempt / "exit.json", ended)
    has_results = run_files.results(cell.directory) is not None
    held = _held(cell.directory)  # by a process that runs it
    # of runs that train together some may diverge and others leave results
    if code == exits.DIVERGED or (code == exits.OK and has_results):
        done = "done" if has_results else "diverged"
        replace(cell.directory / "DONE.json", {"status": done, **ended})
    elif code != exits.PREEMPTED and not (code == exits.OK and held):
        failures = [a for a in _attempts(cell.directory) if a.get("code") == code]
        failed = {
            "status": "failed",
            "retryable": len(failures) <= RETRIES.get(code, 0),
            "error": tail(attempt / "log"),
            **ended,
        }
        replace(cell.directory / "FAILED.json", failed)
    return status(cell)


def forget(cell: Cell) -> None:
    """A failure, so that the cell may be tried again whatever the reason was."""
    (cell.directory / "FAILED.json").unlink(missing_ok=True)


def begin(cell: Cell, environment: Mapping[str, str]) -> Path:
    """The directory of a new attempt at a cell."""
    forget(cell)
    before = [int(path.name) for path in attempts(cell.directory)]
    attempt = cell.directory / "attempts" / f"{max(before, default=0) + 1:03d}"
    attempt.mkdir(parents=True)
    replace(attempt / "environment.json", dict(environment))
    replace(attempt / "command", cell.shown + "\n")
    return attempt


def runner_lease(cell: Cell) -> Lease:
    """Held by the runner that works on a cell: two runners share a study."""
    directory = cell.directory / "runner"
    directory.mkdir(parents=True, exist_ok=True)
    return Lease(directory)


def progress(cell: Cell) -> tuple[int, int]:
    """Steps made, of how many."""
    history = run_files.history(cell.directory)
    step = max((record["step"] for record in history), default=0)
    return step, cell.experiment.train.total_steps


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log; "" if there is none."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-lines:])


def argv(cell: Cell) -> list[str]:
    """The command with this Python."""
    return [sys.executable, *cell.command]


def attempts(directory: Path) -> list[Path]:
    """Directories of the attempts at a run, in order."""
    found = (directory / "attempts").glob("*")
    return sorted(path for path in found if re.fullmatch("[0-9]{3,9}", path.name))


def _attempts(directory):
    """How each of them ended; {} of one that has not."""

    def legal(found):
        return type(found["code"]) is int and found["seconds"] >= 0

    paths = (path / "exit.json" for path in attempts(directory))
    return [run_files.read(path, legal) or {} for path in paths]
