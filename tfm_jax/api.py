"""Public face: what a program beside this package may use; ``experiments`` has no more.

A run is described by an ``Experiment``, which ``read_command`` makes of a command line.
Importing this module imports no JAX; what needs it does when it is asked for.
"""

import functools
import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tfm_jax import bounded_json, main, renamed
from tfm_jax.config import (
    ConfigError,
    check_overrides,
    flatten,
    nearest,
    no_choice,
    to_flag,
    to_json,
)
from tfm_jax.data.errors import DataError
from tfm_jax.data.progress import progress
from tfm_jax.flags.parser import Parser
from tfm_jax.runs.log import read_history
from tfm_jax.runs.process import exits
from tfm_jax.runs.process.environment import describe as environment
from tfm_jax.runs.process.exits import AlreadyRunning, InfrastructureError, one_line
from tfm_jax.runs.workdir import Lease, config_of, preflight, replace
from tfm_jax.settings.files import DATA_FILES
from tfm_jax.terminal import install, say, shown, spelled

if TYPE_CHECKING:
    import jax
    from flax import linen as nn

    from tfm_jax.audit import audit_transformer
    from tfm_jax.layers.embed import TokenEmbedding
    from tfm_jax.ops.attention import SCORES, attention_weights
    from tfm_jax.settings.experiment import Experiment
    from tfm_jax.train.aot.mode import compile_each
    from tfm_jax.train.aot.topologies import describe_topology
    from tfm_jax.train.costs.critical_path import longest_chain
    from tfm_jax.train.costs.first_step import Start

__all__ = [
    # errors, and what the exit code of a command says
    "AlreadyRunning",
    "ConfigError",
    "DataError",
    "InfrastructureError",
    "exits",
    "one_line",
    # knobs and their text
    "DATA_FILES",
    "nearest",
    "no_choice",
    "renamed",
    "to_flag",
    "to_json",
    # commands and what they print
    "Parser",
    "install",
    "progress",
    "say",
    "shown",
    "spelled",
    # the directory of a run
    "Lease",
    "environment",
    "preflight",
    "read_history",
    "read_knobs",
    "read_object",
    "replace",
    "score_goals",
    # runs as the command line describes them
    "Command",
    "check_new",
    "check_population",
    "check_start",
    "counted",
    "default_metric",
    "judge_name",
    "prepare",
    "read_command",
    "run_command",
    "score_names",
    "set_up",
    "typed_knobs",
    # models and train steps; these import JAX
    "SCORES",
    "Experiment",
    "Start",
    "TokenEmbedding",
    "audit_transformer",
    "attention_weights",
    "compile_each",
    "count_flops",
    "describe_topology",
    "initial_params",
    "leave_accelerators",
    "logits",
    "longest_chain",
    "mean_loss",
    "measure",
    "start",
]
_OF_JAX = {  # name -> its module, which imports JAX
    "Experiment": "settings.experiment",
    "SCORES": "ops.attention",
    "attention_weights": "ops.attention",
    "Start": "train.costs.first_step",
    "compile_each": "train.aot.mode",
    "describe_topology": "train.aot.topologies",
    "TokenEmbedding": "layers.embed",
    "longest_chain": "train.costs.critical_path",
    "audit_transformer": "audit",
}


def __getattr__(name: str) -> Any:
    if name not in _OF_JAX:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"tfm_jax.{_OF_JAX[name]}"), name)


class Command(NamedTuple):
    """What a command line of ``tfm_jax.main`` asks for.

    Attributes: workdir: as it was given; None: nowhere.
    """

    experiment: "Experiment"
    workdir: str | None


def read_command(argv: Sequence[str]) -> Command:
    """What ``python -m tfm_jax.main ARGV`` would run, checked as it would be.

    Raises: ConfigError naming the flag, the value and the legal choices.
    """
    from tfm_jax.settings.experiment import resolve

    values, knobs = main.parse(argv)
    config = main.load_config(values, knobs)
    if main.is_fork(values):  # its data will be read
        main.check_named(values, knobs, config)
    return Command(resolve(config), values.workdir)


def typed_knobs(
    config: str, given: Sequence[str], flag: str, *, several: bool = False
) -> dict[str, Any]:
    """Knob -> value of each ``KNOB=VALUE``, as ``FILE.py[:size]`` types its knobs.

    Args: flag: what they were given with. several: ``KNOB=V1,V2,...``, a tuple each.
    Raises: ConfigError for an unknown knob and a value of another type.
    """
    from tfm_jax.settings.experiment import knob_types

    loaded = main.load_config(main.parse([f"--config={config}"])[0], [])
    types = knob_types(loaded.get("model_name", ""), loaded.get("task", ""))
    argv = [f"{flag}{text}" for text in given]
    return check_overrides(argv, loaded, types, prefix=flag, several=several)


def run_command(argv: Sequence[str]) -> int:
    """``python -m tfm_jax.main ARGV`` in this process.

    Returns: its exit code, see ``exits``; a mistake is printed, not raised.
    """
    return main.main(argv)


def check_new(experiment: "Experiment", given: Collection[str]) -> None:
    """Refuses what a run that has not begun is refused for.

    Args: given: dotted knobs set besides the configuration file.
    Raises: ConfigError naming the knob, and the one that ignores it.
    """
    from tfm_jax.settings import new_runs

    new_runs.check_settings(experiment)
    new_runs.check_read(experiment, given)


def unread(experiment: "Experiment") -> set[str]:
    """Dotted knobs that the value of another one ignores."""
    from tfm_jax.settings import new_runs

    return new_runs.unread(experiment)


def check_start(experiment: "Experiment") -> None:
    """Refuses an ``init_from`` that is another model than the configuration says.

    Raises: ConfigError naming every field that differs.
    """
    from tfm_jax.interop import read_initial
    from tfm_jax.runs import initial, sources

    initial.check(experiment, sources.read_all(experiment, read_initial))


def check_population(experiments: Sequence["Experiment"]) -> tuple[str, ...]:
    """The knobs in which runs may differ that one program trains.

    Raises: ConfigError naming others in which these do.
    """
    from tfm_jax.train import population

    population.check_alike(experiments)
    return population.MAY_DIFFER


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file that ``replace`` or somebody else wrote.

    Raises: OSError; ValueError if it is damaged, too long or no object.
    """
    return bounded_json.read_sealed(path)


def read_knobs(workdir: str | Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What a run was started with: (knob -> value, knob -> its role), dotted.

    In the names of now, and with the defaults of knobs that there were not yet. What
    cannot be built here, such as a family that lies elsewhere, is as its file says, and
    its knobs have no roles.

    Raises: ConfigError for a workdir without run, or with an unreadable configuration.
    """
    from tfm_jax.settings.experiment import resolve

    config = config_of(workdir)
    try:
        experiment = resolve(config)
    except ConfigError:
        return dict(flatten(config)), {}
    return experiment.knobs(), experiment.roles()


def score_goals() -> dict[str, Callable]:
    """Score of held-out data -> min or max, whichever is better."""
    from tfm_jax.workloads import WORKLOADS

    goals = {"loss": min}
    for workload in WORKLOADS.values():
        goals |= workload.scores
    return goals


def counted(task: str) -> str:
    """What ``tokens_per_second`` of a task's runs counts: tokens, or images."""
    from tfm_jax.workloads import WORKLOADS

    workload = WORKLOADS.get(task)
    return workload.counted if workload else "tokens"


def prepare(experiment: "Experiment") -> Any:
    """The prepared data, with ``fingerprint`` and ``tokenizer``; kept for other runs.

    In this process for the next call, on disk in the user's cache.

    Raises: DataError if it cannot be prepared.
    """
    return _prepared(experiment.task, experiment.data, experiment.tokenizer)


@functools.lru_cache(maxsize=8)
def _prepared(task, data, tokenizer):
    from tfm_jax.workloads import WORKLOADS

    return WORKLOADS[task].read(data, tokenizer)


def judge_name(path: str) -> str:
    """Of a classifier for ``eval.judge``, by what it learnt; "" if none is there."""
    from tfm_jax.runs.storage import weights

    try:
        return _judge_name(weights.find(path))
    except (OSError, ValueError):
        return ""


@functools.lru_cache(maxsize=8)
def _judge_name(checkpoint):
    from tfm_jax.runs import judges, saved

    return judges.name_of(saved.load(checkpoint))


def score_names(experiment: "Experiment") -> list[str]:
    """``split/score`` of all that ``results.json`` will hold, such as ``valid/nll``.

    The data is prepared; nothing is compiled.

    Raises: ConfigError, DataError if it cannot be run.
    """
    from tfm_jax.train import scored

    return list(scored.names(experiment, prepare(experiment)))


def leave_accelerators() -> None:
    """For what only plans and waits: JAX of this process takes the CPU alone.

    Called before its first array.
    """
    import jax

    jax.config.update("jax_platforms", "cpu")


def default_metric(experiment: "Experiment") -> str:
    """``valid/SCORE`` that ranks the checkpoints of a run."""
    return f"valid/{experiment.workload.score_of(experiment.checkpoint.metric)}"


def set_up(experiment: "Experiment") -> None:
    """Devices and the cache of compiled programs, before the first array exists.

    Raises: ConfigError if there are not so many devices as ``mesh`` says.
    """
    from tfm_jax.runs.process import runtime

    runtime.prepare(experiment.mesh.cpu_devices)


def start(experiment: "Experiment") -> "Start":
    """Prepares the data and takes the first batch.

    Raises: ConfigError, DataError if it cannot be run.
    """
    from tfm_jax.train.costs import first_step

    return first_step.start(experiment, prepare(experiment))


def measure(experiment: "Experiment") -> dict[str, Any]:
    """Parameters, and FLOPs and tokens of a train step, see ``first_step.measure``."""
    from tfm_jax.train.costs import first_step

    return first_step.measure(start(experiment))


def count_flops(function: Callable, *arguments: Any) -> int:
    """FLOPs of ``function(*arguments)``, a loop's body as often as it runs.

    Args: arguments: arrays or ``jax.ShapeDtypeStruct``.
    Raises: ValueError for a loop of unknown length and for an opaque kernel.
    """
    from tfm_jax.train.costs import flops

    return flops.count(function, *arguments).total()


def initial_params(experiment: "Experiment", model: "nn.Module") -> dict[str, Any]:
    """Parameters of ``experiment.build_model(...)`` as a run begins with them.

    Returns: nested dict of float32 arrays; equal seeds give equal values.
    """
    import jax

    from tfm_jax.layers.layout import init_params

    key = jax.random.key(experiment.seed)
    return init_params(model, key, experiment.objective.example())


def logits(model: "nn.Module", params: Mapping[str, Any], batch: Any) -> "jax.Array":
    """Logits [B, T, V], or of labels [B, C], without dropout.

    Args: batch: of the type that the model's objective reads, see ``start``.
    """
    from tfm_jax.workloads.evaluator import apply

    return apply(model, params, batch, rng=None, train=False)


def mean_loss(
    experiment: "Experiment", model: "nn.Module", params: Mapping[str, Any], batch: Any
) -> "jax.Array":
    """Loss per prediction target without dropout, in nats: a float32 scalar.

    Args: model: ``experiment.build_model(...)``. batch: as ``start`` returns one.
    """
    from tfm_jax.workloads.evaluator import apply

    run = functools.partial(apply, model)
    objective = experiment.objective
    total, weight = objective.loss_sum(run, params, batch, train=False)
    return total / weight
