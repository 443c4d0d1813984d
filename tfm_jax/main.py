r"""Train a model, or use one that was trained.

Usage:
  python -m tfm_jax.main --workdir=DIR --config=NAME[:SIZE] [--config.KNOB=VALUE ...]
  python -m tfm_jax.main --workdir=DIR --mode=MODE [FLAG ...] [--config.KNOB=VALUE ...]

  --workdir=DIR         where the run lives: checkpoints, logs, config.json
  --config=NAME[:SIZE]  what to train: a name, which --config= lists, or FILE.py; not
                        needed once the workdir has a run: what it was trained with is
                        in its config.json
  --config=DIR          what the run in another workdir, or checkpoint, was; here it
                        begins anew, with what --config.KNOB changes
  --config.KNOB=VALUE   another value for one knob: --config.model.norm=pre; several
                        values stand between commas, one with a comma in quotes

  --mode=train          (default) train, or go on where a stopped run left off
  --mode=dry_run        what would be trained: the configuration as --format=flags or
                        json, parameters, FLOPs, memory, the first batch; no --workdir
  --mode=compile        compile the steps of a run for --topology=KIND:SHAPE, such as
                        v5e:4x4, which need not be here: memory, FLOPs, collectives, an
                        estimate; no --workdir. --sweep_mesh=true tries every mesh
  --mode=eval           score the test set, or --input=FILE: translations against
                        --reference=FILE, other tasks as one of their validation files
  --mode=translate      one sentence per line, from standard input to standard output
  --mode=classify       image files, a path per line of standard input, or those of
                        --input=FILE,FOLDER,...: the likeliest labels of each, and how
                        probable they are, between tabs
  --mode=caption        image files, named as for classify: a caption of each or, with
                        --question=TEXT, the answer to it, behind a tab
  --mode=retrieve       image files --input=FILE,FOLDER,...: of the texts, one a line of
                        --texts=FILE or standard input, the --count=N that are most
                        similar to each, and their cosines, between tabs; --rerank=K
                        goes by matching among the K most similar
  --mode=sample         images that a model of task=denoise draws, --count=N of them, of
                        the classes --labels=NAME,... in turn, into --output=FILE.png
                        or FILE.npz
  --mode=prompt         put the labelled texts of --task_file=TSV to a language model,
                        see below
  --mode=average        average the parameters of the --last=K checkpoints
  --mode=replay         compute the update again that a diverged run stopped at
  --each.KNOB=V1,V2,... train: several runs in one program, one for each value; knob is
                        seed or optim.peak_lr, and --workdir=DIR1,DIR2,... as many
  --extend=STEPS        train: so many steps more of a run that has finished; says what
                        the learning rate does. Stopped before their end, it goes on
                        by the same command, or without --extend
  --profile=FROM,STEPS  train: trace so many steps from step FROM on, for TensorBoard
                        and Perfetto, into profile/ of the workdir
  --trust_data=true     train and eval: read the files that the configuration of a
                        workdir from elsewhere names
  --checkpoint=STEP     eval, translate, classify, caption, retrieve, sample and prompt:
                        this checkpoint, not the latest

  Prompts show --examples=K texts of --examples_file=TSV, by default 0. --template=TEXT
  says how: "{text}\nlabel: {label}"; --words=NAME=WORD,... what stands for labels;
  --scoring=HOW is sum, mean, normalised or generated. The columns are text and label,
  those of --table=TASK of GLUE, or --columns=TEXT,LABEL or TEXT,SECOND,LABEL by names
  of a header or numbers from 0

Examples:
  python -m tfm_jax.main --config=transformer_numerals --workdir=runs/n
  python -m tfm_jax.main --workdir=runs/n --mode=eval --config.eval.beam=1
  echo "twenty-one" | python -m tfm_jax.main --workdir=runs/n --mode=translate

Add --help to a command with --config, or with the --workdir of a run, to see every
knob with its value, what it may be and what it means; --version is the release.

Exit codes:
   0 done             65 data unreadable          69 machine failed, retry
  75 stopped, saved   78 command line or config   79 training diverged
   1 anything else, with a traceback
"""

import gc
import re
import sys
from collections.abc import Sequence
from os.path import expanduser
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from tfm_jax import __version__, terminal
from tfm_jax import config as configs
from tfm_jax.runs.process import exits

_PROMPT = ("task_file", "examples_file", "table", "columns", "template", "words")
_FILES = (
    *("config", "workdir", "input", "output", "reference"),
    *("task_file", "examples_file", "texts"),
)
MODES = {  # mode: the function that does it, the flags that only it reads
    "train": ("train", ("trust_data", "extend", "profile")),
    "dry_run": ("dry_run", ("trust_data", "format")),
    "compile": ("compile", ("format", "topology", "sweep_mesh")),
    "eval": ("evaluate", ("checkpoint", "input", "reference", "trust_data")),
    "translate": ("translate", ("checkpoint",)),
    "classify": ("classify", ("checkpoint", "input")),
    "caption": ("caption", ("checkpoint", "input", "question")),
    "retrieve": ("retrieve", ("checkpoint", "input", "texts", "count", "rerank")),
    "sample": ("sample", ("checkpoint", "labels", "count", "output")),
    "prompt": ("prompt", ("checkpoint", "examples", "scoring", *_PROMPT)),
    "average": ("average", ("last",)),
    "replay": ("replay", ()),
}
_NAMES = {"model_name", "task"}  # they say what knobs a configuration has
UNREAD = ("average", "replay")  # modes that take the checkpoint's configuration whole
NO_WORKDIR = ("dry_run", "compile")  # modes that need none, and read no run
HELP = {"--help", "-help", "-h"}


def parse(argv: Sequence[str]) -> tuple[flags.FlagValues, list[str]]:
    """``argv`` -> (plain flags, the ``--config.KNOB=VALUE`` and ``--each.`` ones)."""
    for flag in {"--trust_data", "--sweep_mesh"}.intersection(argv):
        raise configs.ConfigError(f"{flag} has no value; write {flag}=true")
    argv = configs.check_argv(argument for argument in argv if argument not in HELP)
    knobs = [flag for flag in argv if flag.startswith(("--config.", "--each."))]
    for flag in argv:
        name = flag.partition("=")[0].removeprefix("--")
        if "." in name and flag not in knobs:
            raise configs.ConfigError(f"{flag}; did you mean --config.{name}?")
    values = flags.FlagValues()
    flags.DEFINE_enum("mode", "train", list(MODES), "", values)
    flags.DEFINE_enum("format", "flags", ["flags", "json"], "", values)
    named = ("config", "workdir", "input", "output", "reference", "scoring", "labels")
    for name in (*named, "question", "texts", "topology", *_PROMPT):
        flags.DEFINE_string(name, None, "", values)
    flags.DEFINE_string("profile", "", "", values)
    for name in ("trust_data", "sweep_mesh"):
        flags.DEFINE_enum(name, "false", ["true", "false"], "", values)
    flags.DEFINE_integer("extend", None, "", 1, flag_values=values)  # at least 1
    flags.DEFINE_integer("checkpoint", None, "", 0, flag_values=values)  # at least 0
    flags.DEFINE_integer("count", None, "", 1, flag_values=values)  # at least 1
    flags.DEFINE_integer("rerank", 0, "", 0, flag_values=values)
    flags.DEFINE_integer("last", 5, "", 1, flag_values=values)  # at least 1
    flags.DEFINE_integer("examples", 0, "", 0, flag_values=values)
    try:
        values(["main", *(flag for flag in argv if flag not in knobs)])
    except flags.Error as error:  # a value of the wrong type
        reason = re.sub("invalid literal for int.*: ", "no whole number: ", str(error))
        raise configs.ConfigError(reason) from error
    for name in _FILES:
        if (file := values[name].value) is not None:
            values[name].value = expanduser(file)
    for _, names in MODES.values():
        for name in set(names) - set(MODES[values.mode][1]):
            if values[name].present:
                raise configs.ConfigError(f"--{name} is not for --mode={values.mode}")
    if values.extend:
        _check_extend(values, knobs)
    if knobs and values.mode in UNREAD:
        raise configs.ConfigError(f"{knobs[0]} is not for --mode={values.mode}")
    return values, knobs


def _check_extend(values, knobs):
    flags_given = {flag.partition("=")[0] for flag in knobs}
    flags_given |= {"--config"} if values.config is not None else set()
    length = {f"--config.train.{knob}" for knob in ("total_steps", "extended_at")}
    for flag in sorted(flags_given & {"--config", *length}):
        raise configs.ConfigError(
            f"--extend={values.extend} goes on with the run in --workdir from the step "
            f"it has reached; take {flag} back"
        )


def load_config(
    values: flags.FlagValues, knobs: Sequence[str], own: Sequence[str] = ()
) -> ConfigDict:
    """The config that ``--config`` or else the workdir names, with ``knobs`` set.

    Args: own: of one run of several, ``--each.KNOB=VALUE``.
    """
    from tfm_jax.runs.workdir import config_of

    fork = is_fork(values)
    load = configs.load if values.config is not None and not fork else config_of
    config = load(values.workdir if values.config is None else values.config)
    if fork and _NAMES <= set(config):
        from tfm_jax.runs import forks

        config = forks.recipe(config, values.config)
    if not knobs and not own:
        return config.lock()
    types = {}
    if _NAMES <= set(config):
        from tfm_jax.settings import experiment

        types = experiment.knob_types(config.model_name, config.task)
    given = configs.check_overrides(knobs, config, types)
    given |= configs.check_overrides(own, config, types, prefix="--each.")
    return configs.override(config, given)


def is_fork(values: flags.FlagValues) -> bool:
    """Whether ``--config`` names a run, or a checkpoint of one, and no file."""
    return values.config is not None and configs.is_run(values.config)


def check_elsewhere(values: flags.FlagValues, workdirs: Sequence[str]) -> None:
    """Refuses a run like another one in the workdir of that one."""
    if is_fork(values):
        from tfm_jax.runs import forks

        for workdir in workdirs:
            forks.check_elsewhere(values.config, workdir)


def check_given(
    values: flags.FlagValues, knobs: Sequence[str], config: ConfigDict
) -> None:
    """Refuses a flag that the other knobs of the run in the workdir ignore.

    Raises: ConfigError naming both; of new runs that is for ``loop.train``.
    """
    judge = "eval.judge" in _knobs_of(knobs) and config.eval.judge
    if judge and values.input is not None:
        raise configs.ConfigError(
            f"--input={values.input} is scored alone: no images are drawn that "
            f"eval.judge={judge!r} could judge; take one of both back"
        )
    if values.config or not knobs or not _NAMES <= set(config):
        return
    from tfm_jax.settings import experiment, new_runs

    new_runs.check_read(experiment.resolve(config), _knobs_of(knobs), whole=False)


def check_named(
    values: flags.FlagValues, knobs: Sequence[str], config: ConfigDict
) -> None:
    """Refuses to read files that nobody but a workdir from elsewhere names."""
    if values.config and not is_fork(values):
        return
    if "trust_data" not in MODES[values.mode][1]:
        return
    if values.input is not None:
        return  # what the user has named is all that is read
    if not _NAMES <= set(config):
        return
    from tfm_jax.runs import named_data
    from tfm_jax.settings import experiment

    made = experiment.resolve(config)
    if values.trust_data == "true":
        named_data.remember(made)
    else:
        named_data.check(made, _knobs_of(knobs), values.workdir)


def _knobs_of(given):
    return {flag.partition("=")[0].removeprefix("--config.") for flag in given}


def members(
    values: flags.FlagValues, knobs: Sequence[str]
) -> tuple[list[ConfigDict], tuple[str, ...]]:
    """``--each.KNOB=V1,V2`` and ``--workdir=DIR1,DIR2`` -> configs and workdirs.

    Raises: ConfigError if their numbers differ, or what else is wrong with the flags.
    """
    if not values.config or values.mode != "train":
        raise configs.ConfigError("--each needs --config and --mode=train")
    workdirs = _several(values.workdir, "--workdir")
    shared = [flag for flag in knobs if flag.startswith("--config.")]
    own: list[list[str]] = [[] for _ in workdirs]
    for flag in set(knobs) - set(shared):
        name, _, text = flag.partition("=")
        words, knob = _several(text, name), name.removeprefix("--each.")
        if len(words) != len(workdirs):
            raise configs.ConfigError(
                f"{flag} has {len(words)} values, --workdir={values.workdir} names "
                f"{len(workdirs)}; give as many"
            )
        if knob in _knobs_of(shared):
            raise configs.ConfigError(f"{name} and --config.{knob} both say what it is")
        for flags_of_one, word in zip(own, words, strict=True):
            flags_of_one.append(f"{name}={configs.to_flag(word)}")
    if len({Path(workdir).resolve() for workdir in workdirs}) < len(workdirs):
        raise configs.ConfigError(
            f"--workdir={values.workdir} names one twice; each run needs its own"
        )
    return [load_config(values, shared, mine) for mine in own], workdirs


def _several(text, flag):
    return tuple(map(expanduser, configs.from_flag(text, tuple[str, ...], flag)))


def show_help(values: flags.FlagValues, knobs: Sequence[str]) -> None:
    """The text above, and every knob as soon as there is a config."""
    terminal.say(__doc__)
    if values.config is not None or values.workdir:
        shared = [flag for flag in knobs if flag.startswith("--config.")]
        config = load_config(values, shared)
        from tfm_jax import manual
        from tfm_jax.settings import experiment

        terminal.say(manual.describe(experiment.resolve(config)._asdict()))


def run(values: flags.FlagValues, knobs: Sequence[str]) -> Any:
    """Does what the mode says; JAX is imported once the command line is right."""
    if values.config == "":
        configs.load("")  # says which there are
    if not values.workdir and not (values.config and values.mode in NO_WORKDIR):
        raise configs.ConfigError("--workdir=DIR is missing: where does the run live?")
    flags.FLAGS.mark_as_parsed()  # the worker processes of Grain ask for it
    if any(flag.startswith("--each.") for flag in knobs):
        if values.profile:
            raise configs.ConfigError("--profile is for one run, not for --each")
        from tfm_jax.train import population

        made, workdirs = members(values, knobs)
        check_elsewhere(values, workdirs)
        check_named(values, knobs, made[0])  # they differ in seed and rate
        return population.train(made, workdirs, **_beginning(knobs))
    check_elsewhere(values, [values.workdir] * bool(values.workdir))
    if values.workdir and values.config and values.mode in NO_WORKDIR:
        terminal.say(f"--workdir={values.workdir} is not read", file=sys.stderr)
    config = load_config(values, knobs)
    check_given(values, knobs, config)
    check_named(values, knobs, config)
    if values.extend:
        from tfm_jax.runs import extend

        config = extend.extended(config, values.workdir, values.extend)
    if values.mode == "train":
        from tfm_jax.train import loop

        options = _beginning(knobs) | {"profile": values.profile}
        return loop.train(config, values.workdir, **options)
    if values.mode == "dry_run":
        from tfm_jax.train.costs import dry_run

        return dry_run.dry_run(config, format=values.format, **_beginning(knobs))
    if values.mode == "compile":
        from tfm_jax.train.aot import mode

        sweeps = values.sweep_mesh == "true"
        asked = dict(topology=values.topology, format=values.format, sweep_mesh=sweeps)
        return mode.compile_run(config, given=_knobs_of(knobs), **asked)
    from tfm_jax.train import modes

    function, names = MODES[values.mode]
    options = {n: values[n].value for n in names if n != "trust_data"}
    if values.mode in ("translate", "classify", "caption", "retrieve"):
        options |= dict(stdin=sys.stdin, stdout=sys.stdout)
    return getattr(modes, function)(values.workdir, config=config, **options)


def _beginning(knobs):
    """What a run that begins is told besides its configuration."""
    from tfm_jax.interop import read_initial

    return {"given": _knobs_of(knobs), "read_initial": read_initial}


@exits.command("tfm_jax")
def main(argv: Sequence[str]) -> None:
    """Exit code of the command ``argv``; an unknown exception keeps its traceback."""
    if [*argv] == ["--version"]:
        terminal.say(f"tfm_jax {__version__}")
    else:
        (show_help if HELP & set(argv) else run)(*parse(argv))


def program() -> None:
    """The command of this process."""
    exits.end_when_asked()
    terminal.install()
    # what is imported and traced stays: collections should not walk it again and again
    gc.set_threshold(*gc.get_threshold()[:2], 200)
    code = main(sys.argv[1:])
    gc.freeze()  # nor when Python ends, which takes a second
    sys.exit(code)


if __name__ == "__main__":
    program()
