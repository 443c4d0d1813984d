"""Cells: the runs of a study, what each is called, and where it stands on disk."""

import collections
import contextlib
import dataclasses
import functools
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments import space
from experiments.runs.identity import identity
from experiments.stages import FIRST
from experiments.study import Study, Typed
from tfm_jax import api
from tfm_jax.api import (
    ConfigError,
    DataError,
    check_new,
    check_population,
    read_command,
    to_flag,
    typed_knobs,
    unread,
)

if TYPE_CHECKING:
    from tfm_jax.api import Experiment

TUNE, FINAL, IDENTICAL, OTHER_SEEDS = PHASES = (
    "tune",
    "final",
    "identical",
    "other_seeds",
)
FINISHED = ("done", "diverged")
START = 8  # trials of an arm before a proposer has results to learn from
CONFIG = "config"  # what an arm calls the file it starts from


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
    experiment: "Experiment"
    first: "Experiment | None" = None

    @property
    def costly(self) -> "Experiment":
        """What is measured where arms shall cost the same."""
        return self.first or self.experiment

    @property
    def shown(self) -> str:
        """The command as one pastes it."""
        return shlex.join(["python", *self.command])


def flags(settings: Mapping[str, Any], name: str = "config") -> tuple[str, ...]:
    """``--NAME.KNOB=VALUE`` for each setting, as the command line takes it."""
    return tuple(
        f"--{name}.{knob}={value if isinstance(value, Typed) else to_flag(value)}"
        for knob, value in settings.items()
    )


def seeds_flag(seeds: Sequence[int]) -> str:
    """As ``--seeds`` lists them; a number alone would count."""
    return to_flag(seeds) + ("," if len(seeds) == 1 else "")


def configure(config: str, settings: Mapping[str, Any]) -> "Experiment":
    """The experiment that the command line would run, checked as it would be.

    Raises: ConfigError naming the flag, the value and the legal choices.
    """
    argv = [f"--config={config}", "--workdir=.", *flags(settings)]
    return read_command(argv).experiment


def trials(study: Study, root: Path) -> list[Cell]:
    """The runs of the tuning, in a fixed order; none of a study without.

    Of a proposer that learns from results they are the first, see ``proposals``.

    Args: root: the study's directory.
    Raises: ConfigError if any of them is not a legal configuration, DataError if its
        data cannot be prepared.
    """
    return tried(study, root, study.arms, tuning_grid(study) if study.tune else ())


def tried(
    study: Study, root: Path, arms: Iterable[str], settings: Sequence[Mapping[str, Any]]
) -> list[Cell]:
    """The runs of ``arms`` that try ``settings``, with all seeds of the tuning.

    Raises: as ``trials``.
    """
    planned = [
        (arm, knobs, seed, TUNE)
        for arm in arms
        for knobs in settings
        for seed in study.tune_seeds
    ]
    return _cells(study, root, planned)


def finals(study: Study, root: Path, chosen: Mapping[str, Mapping]) -> list[Cell]:
    """The runs with the study's seeds and its controls, in a fixed order.

    Args: chosen: arm -> tuned knobs. The runs of an arm that is not in it are not yet
        known; an arm without tuning needs none.
    Raises: as ``trials``.
    """
    planned = [(arm, seed, FINAL) for arm in study.arms for seed in study.seeds]
    planned += [(study.baseline, seed, IDENTICAL) for seed in study.identical]
    planned += [(study.baseline, seed, OTHER_SEEDS) for seed in study.other_seeds]
    known = [
        (arm, chosen.get(arm, {}), seed, phase)
        for arm, seed, phase in planned
        if not study.tune or arm in chosen
    ]
    return _cells(study, root, known)


def _cells(study, root, planned):
    made = [_cell(study, root, *each) for each in planned]
    return list(_together(study, made)) if study.vmapped else made


def _together(study, made):
    """The runs of an arm with one command."""
    groups = {}
    for cell in made:
        groups.setdefault(cell.arm, []).append(cell)
    for arm, group in groups.items():
        try:
            may_differ = check_population([cell.experiment for cell in group])
        except ConfigError as error:
            raise ConfigError(f"arm {arm!r} cannot be vmapped: {error}") from error
        first = stages_of(group[0].settings)[0]
        own = [
            k
            for k in may_differ
            if any(c.settings.get(k) != first.get(k) for c in group)
        ]
        shared = {k: v for k, v in first.items() if k not in own}
        each = (f"--each.{k}={to_flag([c.settings[k] for c in group])}" for k in own)
        command = (
            *("-m", "tfm_jax.main", f"--config={study.settings_of(arm)[CONFIG]}"),
            f"--workdir={to_flag([str(c.directory) for c in group])}",
            *flags(shared),
            *each,
        )
        for cell in group:
            yield cell._replace(command=command)


def budget(study: Study) -> int:
    """How many settings are tried for every arm."""
    return study.trials or math.prod(map(len, study.tune.values()))


def tuning_grid(study: Study) -> list[dict[str, Any]]:
    """What is tried for every arm alike, whatever comes out.

    Raises: ConfigError for a range of no such knob, or of too few settings.
    """
    if study.trials:
        first = START if study.proposer == "optuna" else study.trials
        count = min(first, study.trials)
        try:
            return space.points(study.tune, whole(study), count, study.tune_seeds[0])
        except ValueError as error:
            raise ConfigError(str(error)) from error
    combinations = [{}]
    for knob, values in study.tune.items():
        combinations = [c | {knob: value} for c in combinations for value in values]
    return combinations


def whole(study: Study) -> frozenset[str]:
    """Knobs with a range that take integers. Raises: ConfigError for one of text."""
    stages, integers = study.settings_of(study.baseline), set()
    for knob, values in study.tune.items():
        if not isinstance(values, space.Range):
            continue
        first = knob.startswith(f"{FIRST}.")
        config, own = stages[FIRST if first else CONFIG], knob.removeprefix(f"{FIRST}.")
        ends = [f"{own}={to_flag([values.low, values.high])}"]
        typed = typed_knobs(config, ends, "tune: ", several=True)[own]
        kinds = {type(end) for end in typed}
        if not kinds <= {int, float}:
            raise ConfigError(f"tune: {knob}={values}: it takes no numbers; try choice")
        integers |= {knob} if kinds == {int} else set()
    return frozenset(integers)


def legal(cell: Cell, knob: str) -> tuple[float, float]:
    """The smallest and the largest number that a knob of a run takes."""
    run = cell.first if knob.startswith(f"{FIRST}.") else cell.experiment
    *sections, name = knob.removeprefix(f"{FIRST}.").split(".")
    section: Any = functools.reduce(getattr, sections, run)
    ranges = {f.name: f.metadata.get("range") for f in dataclasses.fields(section)}
    return ranges.get(name) or (-math.inf, math.inf)


def _cell(study, root, arm, knobs, seed, phase):
    settings = {**study.settings, **study.arms[arm], **knobs, "seed": seed}
    own, before = stages_of(settings)
    config, config_first = (study.settings_of(arm)[name] for name in (CONFIG, FIRST))
    if not (study.probe or study.vmapped):
        own = {"eval.pictures": False} | own  # the report draws what there is to see
    try:
        experiment = configure(config, own)
        first = configure(config_first, before) if config_first else None
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
    elif config_first:
        stage = f"--{FIRST}={config_first}"
        program = ["experiments.stages", stage, *flags(before, FIRST)]
    command = (
        "-m",
        *program,
        f"--config={config}",
        f"--workdir={directory}",
        *flags(own),
    )
    return Cell(name, arm, seed, phase, settings, directory, command, experiment, first)


def check_read(cell: Cell) -> None:
    """Refuses settings of a run, or of the one before it, that have no effect.

    Raises: ConfigError naming the arm, the knob and that which ignores it.
    """
    own, before = stages_of(cell.settings)
    with _of_arm(cell):
        check_new(cell.experiment, own)
        if cell.first:
            check_new(cell.first, before)


def unsaid(study: Study, planned: Iterable[Cell]) -> str:
    """In what data an arm differs from the baseline though neither sets it.

    Arms that start from several configurations may. Returns: "" if they do not.
    """
    one = {cell.arm: cell for cell in planned}
    data = {arm: _data(cell) for arm, cell in one.items()}
    base, differ = data[study.baseline], {}
    for arm, own in data.items():
        said = {*study.tune, *study.arms[arm], *study.arms[study.baseline]}
        for knob in (own.keys() & base.keys()) - said:
            if own[knob] != base[knob]:
                values = differ.setdefault(knob, {study.baseline: base[knob]})
                values[arm] = own[knob]
    words = ", ".join(
        f"{knob} ({', '.join(f'{arm} {to_flag(x)}' for arm, x in values.items())})"
        for knob, values in sorted(differ.items())
    )
    return f"Arms differ in {words}, which they do not set." if words else ""


def duplicates(planned: Iterable[Cell]) -> str:
    """Which arms have identical runs, as their settings come to the same; or ""."""
    first: dict[str, str] = {}  # arm -> id of its first run
    for cell in planned:
        first.setdefault(cell.arm, cell.id)
    arms = collections.defaultdict(list)
    for arm, of_arm in first.items():
        arms[of_arm].append(arm)
    return " ".join(
        f"Arms {', '.join(others)} and {last} have identical runs."
        for *others, last in arms.values()
        if others
    )


def _data(cell):
    """Knobs of the data that are read, and those of the first run as "first.KNOB"."""
    read = {}
    for before, run in (("", cell.experiment), (f"{FIRST}.", cell.first)):
        ignored = unread(run) if run else ()
        for knob, value in run.knobs().items() if run else ():
            if knob.startswith(("data.", "tokenizer.")) and knob not in ignored:
                read[before + knob] = value
    return read


def check_start(cell: Cell) -> None:
    """Refuses an ``init_from`` whose architecture a run would take for its own.

    What it is called and what it costs are those of its configuration.

    Raises: ConfigError naming the arm and every field that differs.
    """
    with _of_arm(cell):
        api.check_start(cell.experiment)


@contextlib.contextmanager
def _of_arm(cell):
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"arm {cell.arm!r}: {error}") from error


def stages_of(settings: Mapping[str, Any]) -> tuple[dict, dict]:
    """Knobs of the run itself, and of the one made before it; both have the seed."""
    stages = (CONFIG, FIRST)
    own = {k: v for k, v in settings.items() if k.split(".")[0] not in stages}
    prefix = f"{FIRST}."
    before = {
        k.removeprefix(prefix): v for k, v in settings.items() if k.startswith(prefix)
    }
    return own, before | {k: v for k, v in own.items() if k == "seed"}


def _short(knob, value):
    text = f"{knob.rpartition('.')[2]}{value}"
    return re.sub(r"[/\x00-\x1f\x7f]", "-", text)[:80]  # as the name of a folder
