"""Ad-hoc studies: a question asked on the command line, and the file it becomes."""

import argparse
import itertools
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import study_file, study_text
from experiments.runs.cells import configure, seeds_flag
from experiments.study import Study
from tfm_jax.api import (
    ConfigError,
    InfrastructureError,
    default_metric,
    no_choice,
    preflight,
    say,
    score_goals,
    score_names,
    to_flag,
    typed_knobs,
)

FLAGS = ("axes", "tune", "zip", "name", "metric", "goal", "sesoi")  # all of them
SAID = (  # fields that the command line says of a study
    *("config", "settings", "arms", "baseline", "seeds", "tune", "tune_seeds"),
    *("metric", "goal", "sesoi"),
)
SEEDS = (0, 1, 2, 3, 4)
TUNE_SEED = 1_000  # the first that may be one
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")
_LONGEST = 60  # of the name of an arm


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Of a question that no file asks."""
    parser.add_argument("--config", default="")
    parser.add_argument("--axis", action="append", default=[], dest="axes")
    parser.add_argument("--tune", action="append", default=[])
    parser.add_argument("--zip", action="store_true")
    parser.add_argument("--name", default="")
    parser.add_argument("--metric", default="")
    parser.add_argument("--goal", choices=("min", "max"), default="")
    parser.add_argument("--sesoi", type=float, default=0.0)


def pairs(flag: str, texts: Sequence[str], form: str = "NAME=VALUE") -> dict[str, str]:
    """Name -> value of a flag ``NAME=VALUE`` that may be repeated.

    Raises: ConfigError for a text that is none, and for a name that is given twice.
    """
    given: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"{flag} {text}: write {flag} {form}")
        if name in given:
            raise ConfigError(f"{flag} {text}: {name} is given twice")
        given[name] = value
    return given


def check(options: argparse.Namespace) -> None:
    """Refuses flags of an ad-hoc study without a configuration."""
    for name in FLAGS if not options.config else ():
        if getattr(options, name):
            flag = "--axis" if name == "axes" else f"--{name}"
            raise ConfigError(
                f"{flag} needs --config=FILE[:SIZE], which arms start from"
            )


def write(options: argparse.Namespace) -> None:
    """Writes the file of the study; from here on ``options`` are those of its name.

    The command that it was written for goes on with the file, edited or not. What says
    another study replaces it, if nobody has edited it and nothing has run.
    Raises: ConfigError for what is no study, and for a file that says another one.
    """
    study = _study(options)
    name = legal(options.name or _default_name(options.config, study))
    path, command = study_file.path_of(name, options.out), _command(options, name)
    if not path.is_file() or _replaced(path, name, options.out, study, command):
        _put(path, study_text.write(study, _question(study), command))
    options.study, options.settings, options.seeds = name, [], ()


def _replaced(path, name, out, study, command):
    """Whether what another command has written gives way to this one."""
    kept = study_file.read(name, out)
    if study_text.command_of(path.read_text("utf-8")) == command:
        if not kept.command:
            say(f"{path} has been edited; what it says is run")
        return False
    differing = [f for f in SAID if getattr(kept.study, f) != getattr(study, f)]
    begun = (path.parent.parent / f"{name}-{kept.scale}" / "study.json").exists()
    if differing and (begun or not kept.command):
        field = differing[0]
        raise ConfigError(
            f"--name={name}: {path} says {field}={getattr(kept.study, field)!r}, this "
            f"command {getattr(study, field)!r}; `python -m experiments.run {name}` "
            "goes on with the file, with --seeds and --set, too; another --name asks "
            "anew"
        )
    return bool(differing)


def new(name: str, out: Path) -> None:
    """Writes a commented study file to begin with.

    Args: name: of a study, or a path that ends in ``.py``.
    """
    from experiments import template

    path, again = Path(name).expanduser(), [name]
    if not name.endswith(".py"):
        path = study_file.path_of(legal(name), out)
        again += [f"--out={out}"] if out != study_file.ROOT else []
    if path.exists():
        raise ConfigError(f"new {name}: {path} is there already")
    _put(path, Path(template.__file__).read_text("utf-8"))
    say(f"`python -m experiments.run {shlex.join(again)}` runs it")


def _put(path, text):
    preflight(path.parent)
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise InfrastructureError(f"{path} cannot be written: {error}") from error
    say(f"wrote {path}")


def _study(options):
    if not options.axes:
        raise ConfigError(
            f"--config={options.config}: give the question, --axis KNOB=VALUE,VALUE"
        )
    axes = _read(options, "--axis", options.axes)
    tune = _read(options, "--tune", options.tune)
    given = [text.removeprefix("config.") for text in options.settings]
    settings = typed_knobs(options.config, given, "--set config.")
    _check_owners({"--axis": axes, "--tune": tune, "--set": settings})
    for knob, values in axes.items():
        if len(values) < 2:
            raise ConfigError(
                f"--axis {knob}={to_flag(values)}: one value is no axis; for every "
                f"arm it is --set config.{knob}={to_flag(values)}"
            )
    arms = _arms(axes, options.zip)
    baseline, *_ = arms
    seeds = options.seeds or SEEDS
    experiment = configure(options.config, settings | arms[baseline])
    for knobs in arms.values():
        configure(options.config, settings | knobs)
    metric, goal = _metric(options, experiment)
    fresh = next(n for n in itertools.count(TUNE_SEED) if n not in seeds)
    try:
        return Study(
            config=options.config,
            settings=settings,
            arms=arms,
            baseline=baseline,
            seeds=seeds,
            tune=tune,
            tune_seeds=(fresh,) if tune else (),
            metric=metric,
            goal=goal,
            sesoi=options.sesoi,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _metric(options, experiment):
    """The metric and its goal, as the flags say or else the configuration."""
    metric = options.metric or default_metric(experiment)
    best = score_goals().get(metric.rpartition("/")[2])
    if best or options.goal:
        return metric, options.goal or best.__name__
    if metric not in (names := score_names(experiment)):
        raise ConfigError(no_choice("metric", metric, tuple(names)))
    raise ConfigError(
        f"--metric={metric}: is less of it better? say --goal=min or --goal=max"
    )


def _read(options, flag, texts):
    """Knob -> its distinct values, of a flag ``KNOB=VALUE,VALUE``."""
    texts = [text.removeprefix("config.") for text in texts]
    given = pairs(flag, texts, "KNOB=VALUE,VALUE")
    if "seed" in given:
        raise ConfigError(f"{flag} seed={given['seed']}: seeds are given with --seeds")
    typed = typed_knobs(options.config, texts, f"{flag} ", several=True)
    for knob, values in typed.items():
        if not values or len(set(values)) < len(values):
            raise ConfigError(
                f"{flag} {knob}={to_flag(values)}: values must be distinct"
            )
    return typed


def _check_owners(given: Mapping[str, Mapping]) -> None:
    for (flag, knobs), (other, others) in itertools.combinations(given.items(), 2):
        for knob in knobs.keys() & others.keys():
            raise ConfigError(f"{knob} is in {flag} and in {other}; choose one of them")


def _arms(axes: Mapping[str, Sequence], zipped: bool) -> dict[str, dict[str, Any]]:
    """Name -> knobs: the values of the axes, in the order in which they were given."""
    lengths = {knob: len(values) for knob, values in axes.items()}
    if zipped and len(set(lengths.values())) > 1:
        counts = ", ".join(f"{knob} has {n}" for knob, n in lengths.items())
        raise ConfigError(f"--zip: {counts} values; give as many of each")
    join = zip if zipped else itertools.product
    arms = {}
    for values in join(*axes.values()):
        knobs = dict(zip(axes, values, strict=True))
        words = (_word(*item, alone=len(axes) == 1) for item in knobs.items())
        arms[_free("-".join(words), arms)] = knobs
    return arms


def _word(knob, value, alone):
    """A value in letters of a name; after its knob, unless it is a word or alone."""
    text = "+".join(map(str, value)) if isinstance(value, tuple) else to_flag(value)
    text = re.sub(r"[^A-Za-z0-9_.+-]+", "_", text)
    plain = re.match(r"[A-Za-z0-9]", text) and (alone or isinstance(value, str))
    return text if plain else knob.rpartition(".")[2] + text


def _free(name, taken):
    """``name``, or what tells it from those that are spelled alike."""
    endings = ("", *(f".{n}" for n in range(2, len(taken) + 2)))
    names = (name[: _LONGEST - len(ending)] + ending for ending in endings)
    return next(each for each in names if each not in taken)


def _question(study):
    values = {}
    for knobs in study.arms.values():
        for knob, value in knobs.items():
            values.setdefault(knob, {})[to_flag(value)] = None
    axes = [f"{knob} ({', '.join(texts)})" for knob, texts in values.items()]
    *first, last = axes
    listed = f"{', '.join(first)} and {last}" if first else last
    return f"How does {study.metric} depend on {listed}?"


def _default_name(config, study):
    leaves = [knob.rpartition(".")[2] for knob in study.arms[study.baseline]]
    stem = re.sub(r"[^A-Za-z0-9_]+", "_", Path(config.partition(":")[0]).stem)
    return "-".join([stem, *leaves])[:_LONGEST]


def legal(name: str) -> str:
    """The name of a study that may be written. Raises: ConfigError if it may not."""
    if not _NAME.fullmatch(name) or name.endswith(".py"):
        raise ConfigError(
            f"--name={name}: letters, digits, and after the first of them . _ and -; "
            "at most 60"
        )
    if name in study_file.shipped():
        raise ConfigError(
            f"--name={name}: there is a study of this name in experiments/studies; "
            "choose another one"
        )
    return name


def _command(options, name):
    """The flags that say the study, in one order."""
    argv = [f"--config={options.config}"]
    for flag in ("axis", "tune", "set"):
        texts = getattr(options, {"axis": "axes", "set": "settings"}.get(flag, flag))
        argv += itertools.chain.from_iterable((f"--{flag}", text) for text in texts)
    argv += ["--zip"] if options.zip else []
    argv += ["--seeds", seeds_flag(options.seeds)] if options.seeds else []
    for flag in ("metric", "goal", "sesoi"):
        value = getattr(options, flag)
        argv += [f"--{flag}={value}"] if value else []
    argv += [f"--name={name}"]
    argv += [f"--out={options.out}"] if options.out != study_file.ROOT else []
    return f"python -m experiments.run {shlex.join(argv)}"
