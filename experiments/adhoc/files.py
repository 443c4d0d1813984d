"""Study files that are written: of an ad-hoc study, and to begin with."""

import argparse
import itertools
import re
import shlex
from pathlib import Path

from experiments import registration, study_file
from experiments.adhoc import questions, study_text
from experiments.runs import attempts
from experiments.runs.cells import seeds_flag
from tfm_jax.api import ConfigError, InfrastructureError, preflight, say

SAID = (  # fields that the command line says of a study
    "config",
    "settings",
    "arms",
    "baseline",
    "seeds",
    "tune",
    "tune_seeds",
    "trials",
    "proposer",
    "metric",
    "goal",
    "sesoi",
    "looks",
)
_BREAKS = re.compile(r"[\n\r\ud800-\udfff]")  # a line, or is in no text file
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")


def write(options: argparse.Namespace) -> None:
    """Writes the file of the study; from here on ``options`` are those of its name.

    The command that it was written for goes on with the file, edited or not. What says
    another study replaces it, if nobody has edited it and nothing has run.
    Raises: ConfigError for what is no study, and for a file that says another one.
    """
    study = questions.asked(options)
    name = legal(options.name or _default_name(options.config, study))
    path, command = study_file.path_of(name, options.out), _command(options, name)
    if not path.is_file() or _replaced(path, name, options.out, study, command):
        _put(path, study_text.write(study, questions.in_words(study), command))
    options.study, options.settings, options.seeds = name, [], ()
    options.until_decided = None


def _replaced(path, name, out, study, command):
    """Whether what another command has written gives way to this one."""
    kept = study_file.read(name, out)
    if study_text.command_of(path.read_text("utf-8")) == command:
        if not kept.command:
            say(f"{path} has been edited; what it says is run")
        return False
    said = [f for f in SAID if f != "looks" or study.looks]  # they are not said again
    differing = [f for f in said if getattr(kept.study, f) != getattr(study, f)]
    root = path.parent.parent / f"{name}-{kept.scale}"
    begun = any(attempts.ran(directory) for directory in root.glob("*"))
    if differing and (begun or not kept.command):
        field = differing[0]
        raise ConfigError(
            f"--name={name}: {path} says {field}={getattr(kept.study, field)!r}, this "
            f"command {getattr(study, field)!r}; `python -m experiments.run {name}` "
            "goes on with the file, with --seeds and --set, too; another --name asks "
            "anew"
        )
    if differing:  # of what was refused after it had been written down nothing remains
        root.joinpath(registration.FILE).unlink(missing_ok=True)
    return bool(differing)


def new(name: str, out: Path) -> None:
    """Writes a commented study file to begin with.

    Args: name: of a study, or a path that ends in ``.py``.
    """
    from experiments.adhoc import template

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


def _default_name(config, study):
    leaves = [knob.rpartition(".")[2] for knob in study.arms[study.baseline]]
    stem = re.sub(r"[^A-Za-z0-9_]+", "_", Path(config.partition(":")[0]).stem)
    return "-".join([stem, *leaves])[:60]


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
    most = options.until_decided
    argv += [] if most is None else [f"--until-decided={most}"]
    for flag in ("trials", "proposer", "metric", "goal", "sesoi"):
        value = getattr(options, flag)
        argv += [f"--{flag}={value}"] if value else []
    argv += [f"--name={name}"]
    argv += [f"--out={options.out}"] if options.out != study_file.ROOT else []
    for word in filter(_BREAKS.search, argv):
        raise ConfigError(
            f"{word!r} does not fit on a line of the study's file; a value that stands "
            "in quotes may have it as \\n, \\r or \\udce9"
        )
    return f"python -m experiments.run {shlex.join(argv)}"
