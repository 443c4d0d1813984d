"""Experiment: the sections of a configuration, built and checked together."""

import dataclasses
import logging
import re
from collections.abc import Mapping
from os.path import expanduser
from typing import Any, NamedTuple

from flax import linen as nn
from ml_collections import ConfigDict

from tfm_jax import mesh
from tfm_jax.config import (
    ConfigError,
    build,
    flatten,
    no_choice,
    replaced,
    roles_of,
    spread,
    types_of,
    with_defaults,
)
from tfm_jax.models import MODELS
from tfm_jax.ops.attention import KERNELS
from tfm_jax.ops.kernels.cudnn import PACKED
from tfm_jax.ops.platform import platform
from tfm_jax.optim import optimizers
from tfm_jax.renamed import modern
from tfm_jax.settings import files, starts, variants
from tfm_jax.settings.sections import CheckpointConfig, EvalConfig, TrainConfig
from tfm_jax.workloads import WORKLOADS, Workload

_SECTIONS = {
    "optim": optimizers.Config,
    "train": TrainConfig,
    "eval": EvalConfig,
    "checkpoint": CheckpointConfig,
    "mesh": mesh.Config,
}
SECTIONS = ("model", "data", "tokenizer", *_SECTIONS)


class Experiment(NamedTuple):
    """One run: what ``config.json`` of a workdir holds.

    Attributes:
        tokenizer: None if what it learns has no text.
        init_from: workdir, checkpoint or folder of transformers whose parameters the
            run starts from, or such of several parts, see `starts`; "": from scratch.
        freeze: parts of the model between commas, or a regular expression; parameters
            that are of one, or whose path ("encoder/embedding/...") has a match, stay
            as they are; "": none.
    """

    seed: int
    model_name: str
    task: str
    model: Any
    data: Any
    tokenizer: Any | None
    optim: optimizers.Config
    train: TrainConfig
    eval: EvalConfig
    checkpoint: CheckpointConfig
    mesh: mesh.Config
    init_from: str = ""
    freeze: str = ""

    def roles(self) -> dict[str, str]:
        """Dotted knob -> key of ``knobs.ROLES``."""
        roles = dict.fromkeys(("model_name", "task"), "architecture")
        roles |= {"seed": "training", "freeze": "training", "init_from": "initial"}
        for name in section_types(self.model_name, self.task):
            roles |= roles_of(type(getattr(self, name)), f"{name}.")
        return roles

    @property
    def sources(self) -> dict[str, str]:
        """Part of the model -> path that ``init_from`` names, "" of the whole."""
        return starts.sources(self.init_from, MODELS[self.model_name].starts)

    @property
    def frozen_parts(self) -> tuple[str, ...]:
        """Parts of the model that ``freeze`` names; () if it is an expression."""
        names = tuple(name.strip() for name in self.freeze.split(","))
        return names if {*names} <= MODELS[self.model_name].starts.keys() else ()

    @property
    def frozen(self) -> tuple[str, ...]:
        """Regular expressions of the frozen parameters, one for each part."""
        parts = MODELS[self.model_name].starts
        owned = tuple(parts[name].owns for name in self.frozen_parts)
        return owned or tuple(filter(None, [self.freeze]))

    @property
    def workload(self) -> Workload:
        """What it learns."""
        return WORKLOADS[self.task]

    @property
    def objective(self) -> Any:
        """What is minimised, see ``Workload``."""
        workload = self.workload
        of_sections = workload.objective_of
        return of_sections(self) if of_sections else workload.objective

    def build_model(self, **changes: Any) -> nn.Module:
        """The Linen module, with some fields of its configuration changed."""
        family = MODELS[self.model_name]
        parts = {"frozen_parts": self.frozen_parts} if family.starts else {}
        return family.model(dataclasses.replace(self.model, **changes), **parts)

    def reading(self, data: Any) -> "Experiment":
        """The same on another data section, without variants."""
        evaluation = dataclasses.replace(self.eval, variants=())
        return self._replace(data=data, eval=evaluation)

    def variants(self) -> dict[str, "Experiment"]:
        """Name -> the same on a variant of the data. Raises: ConfigError."""
        sections = variants.read(self.eval.variants, self.data)
        return {name: self.reading(data) for name, data in sections.items()}

    def complete(self, tokenizer: Any = None, start: Any = None) -> "Experiment":
        """The same with the vocabularies that the configuration leaves open.

        They are as large as the tokenizer's, and as those of the model that the run
        starts from: published tables may have rows that no token uses.

        Args: start: configuration of that model, or None.
        Raises: ConfigError for a vocabulary that is smaller than the tokenizer's.
        """
        sizes = {}
        for knob, (wanted, attribute) in self.vocabularies().items():
            there = getattr(tokenizer, attribute, 0)
            if wanted and wanted < there:
                raise ConfigError(
                    f"model.{knob}={wanted} is below the tokenizer's {there}; 0 takes "
                    "that"
                )
            before = spread(start, knob.rpartition(".")[2]) if start else {}
            least = before.get(knob, max(before.values(), default=0))
            sizes[knob] = wanted or max(there, least)
        try:
            model = replaced(self.model, sizes)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return self._replace(model=model)

    def vocabularies(self) -> dict[str, tuple[int, str]]:
        """Dotted knob of the model -> (its value, attribute of the tokenizer)."""
        return {
            knob: (size, attribute)
            for side, attribute in self.workload.vocabularies.items()
            for knob, size in spread(self.model, side).items()
        }

    def check_kernel(self, *, train: bool = False) -> None:
        """Refuses an implementation of attention that lacks what the run needs.

        Args: train: in training, too; runs of before were let begin.
        Raises: ConfigError naming it, where it is, and what it lacks there.
        """
        if lacking := self._unsupported("", train):
            device = KERNELS[self.model.attention].device
            raise ConfigError(
                f"model.attention={self.model.attention!r} needs {device}, and cannot "
                f"do {lacking} there; choose from (auto, xla)"
            )

    def say_if_rows_cost_the_kernel(self) -> None:
        """Warns where a GPU's kernel could do all of the training but packed rows."""
        if platform() == "gpu" and self.model.attention == "auto":
            if self._unsupported("cudnn", train=True) == PACKED:
                logging.warning(
                    "model.attention=auto is xla here: cuDNN's kernel cannot do %s, "
                    "but those of data.batching=bucket or data.layout=joined or single",
                    PACKED,
                )

    def _unsupported(self, kernel, train):
        causal = MODELS[self.model_name].causal
        packed = getattr(self.data, "batching", "") == "pack"
        packed |= getattr(self.data, "layout", "joined") in ("packed", "cut")
        asked = dict(causal=causal, packed=packed, train=train)
        return self.model.unsupported(kernel, **asked)

    def shared(self) -> dict[str, Any]:
        """What the processes of one run have in common: all but places of files."""
        knobs = self.knobs()
        return {k: value for k, value in knobs.items() if k not in files.DATA_FILES}

    def knobs(self) -> dict[str, Any]:
        """Dotted knob -> its value."""
        return dict(flatten(self.as_dict()))

    def as_dict(self) -> dict:
        """Plain nested dict, as ``resolve`` takes it."""
        return {
            name: dataclasses.asdict(value)
            if dataclasses.is_dataclass(value) and not isinstance(value, type)
            else value
            for name, value in self._asdict().items()
            if value is not None
        }


def resolve(config: ConfigDict | Mapping[str, Any]) -> Experiment:
    """Checks a ConfigDict or plain dict whole and builds its sections.

    A knob that a section lacks has its default, and one under its former name counts:
    the configuration of a run from before still says what that run was.

    Raises: ConfigError naming the knob, its value and the legal choices.
    """
    config = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    config = _with_homes(Experiment._field_defaults | modern(config))
    for name, table in (("model_name", MODELS), ("task", WORKLOADS)):
        if config.get(name) not in [*table]:  # a section is no key of a table
            raise ConfigError(no_choice(name, config.get(name), tuple(table)))
    classes = section_types(config["model_name"], config["task"])
    fields = Experiment._fields
    known = [name for name in fields if name in classes or name not in SECTIONS]
    unknown = sorted(set(config) ^ set(known))
    if unknown:
        raise ConfigError(
            f"sections {unknown} are unknown or missing; a configuration has {known}"
        )
    seed = config["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**31:
        raise ConfigError(f"seed={seed!r} must be an integer in [0, 2**31)")
    if config["task"] not in MODELS[config["model_name"]].learns:
        able = [n for n, family in MODELS.items() if config["task"] in family.learns]
        raise ConfigError(
            f"model_name={config['model_name']!r} cannot learn "
            f"task={config['task']!r}; choose from ({', '.join(able)})"
        )
    sections: dict[str, Any] = dict.fromkeys(SECTIONS)
    owner = {"model": "model_name", "data": "task"}
    of = {n: f" of {name}={config[name]!r}" for n, name in owner.items()}
    sections |= {
        n: _section(cls, config[n], n, of.get(n, "")) for n, cls in classes.items()
    }
    texts = {name: _text(name, config[name]) for name in Experiment._field_defaults}
    parts = MODELS[config["model_name"]].starts
    texts["init_from"] = starts.at_home(texts["init_from"], parts)
    names = {name: config[name] for name in ("model_name", "task")}
    experiment = Experiment(seed=seed, **names, **sections, **texts)
    _check(experiment)
    return experiment


def section_types(model_name: str, task: str) -> dict[str, type]:
    """Section -> its dataclass; there is a tokenizer where there is text."""
    kind = WORKLOADS[task].data
    text = {"tokenizer": kind.tokenizer.Config} if kind.tokenizer else {}
    model = MODELS[model_name].config
    return {"model": model, "data": kind.Config, **text, **_SECTIONS}


def knob_types(model_name: str, task: str) -> dict[str, Any]:
    """Dotted knob -> its type; none of a model or task that there is not."""
    if model_name not in MODELS or task not in WORKLOADS:
        return {}
    types = {"seed": int, "model_name": str, "task": str}
    types |= dict.fromkeys(Experiment._field_defaults, str)
    for name, cls in section_types(model_name, task).items():
        types |= types_of(cls, f"{name}.")
    return types


def _at_home(value: Any) -> Any:
    """A path, or several, with ``~`` spelled out; all else as it is."""
    if isinstance(value, tuple | list):
        return tuple(map(_at_home, value))
    return expanduser(value) if isinstance(value, str) else value


def _with_homes(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration whose files and folders have ``~`` spelled out."""
    return {
        name: _with_homes(value, f"{prefix}{name}.")
        if isinstance(value, Mapping)
        else _at_home(value)
        if prefix + name in files.PLACES
        else value
        for name, value in config.items()
    }


def _text(name, value):
    if not isinstance(value, str):
        raise ConfigError(f"{name}={value!r}; expected string")
    return value


def _section(cls, values, path, of):
    if isinstance(values, Mapping):
        values = with_defaults(cls, values)
    return build(cls, values, path=path, of=of)


def _check(experiment):
    """What no section can see alone."""
    data, model, workload = experiment.data, experiment.model, experiment.workload
    experiment.check_kernel()
    longest = workload.longest(data)
    if 0 < model.longest < longest:
        ((knob, most), *_) = spread(model, "max_length").items()
        beside = most - model.longest
        raise ConfigError(
            f"model.{knob}={most} is below the {longest} tokens of a row of data"
            f"{f' and the {beside} vectors in front of them' if beside else ''}, and "
            "the model has no more positions"
        )
    sentences = workload.sentences(data)
    if getattr(model, "types", sentences) < sentences:
        raise ConfigError(
            f"model.types={model.types} cannot tell the {sentences} sentences of a row "
            "of data apart"
        )
    family = MODELS[experiment.model_name]
    heads = family.learns[experiment.task]
    if heads and model.head not in heads:
        raise ConfigError(
            f"model.head={model.head!r} cannot learn task={experiment.task!r}; "
            f"choose from ({', '.join(heads)})"
        )
    lacking = [name for name in workload.samples_by if not hasattr(family.model, name)]
    if experiment.eval.samples and lacking:
        raise ConfigError(
            f"eval.samples={experiment.eval.samples}: model_name="
            f"{experiment.model_name!r} has no {' and '.join(lacking)} to draw them "
            "by; set it to 0"
        )
    workload.check(experiment)
    names = [name.strip() for name in experiment.freeze.split(",")]
    if {*names} & family.starts.keys():  # then all of them are parts
        for name in names:
            if name not in family.starts:
                raise ConfigError(
                    f"freeze={experiment.freeze}: "
                    f"{no_choice('part', name, tuple(family.starts))}"
                )
    try:
        re.compile(experiment.freeze)
    except re.error as error:
        raise ConfigError(
            f"freeze={experiment.freeze!r} is no regular expression: {error}"
        ) from error
    scores = dict.fromkeys(s for each in WORKLOADS.values() for s in each.scores)
    ranked_by = {
        "checkpoint.metric": experiment.checkpoint.metric,
        "train.stop_metric": experiment.train.stop_metric,
    }
    for knob, metric in ranked_by.items():
        if metric not in ("loss", *scores):
            raise ConfigError(no_choice(knob, metric, ("loss", *scores)))
    for name, variant in experiment.variants().items():
        try:
            _check(variant)
        except ConfigError as error:
            raise ConfigError(f"eval.variants, {name!r}: {error}") from error
    if experiment.train.auxiliary_weight != 1.0 and not workload.auxiliary:
        raise ConfigError(
            f"train.auxiliary_weight={experiment.train.auxiliary_weight} has no "
            f"effect: task={experiment.task!r} has one loss; leave it at 1"
        )
