"""Experiment: the sections of a configuration, built and checked together."""

import dataclasses
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from tfm_jax.config import ConfigError, build
from tfm_jax.data import language, pipeline, tokenizers
from tfm_jax.models import MODELS
from tfm_jax.tasks import causal_lm, translation
from tfm_jax.train import checkpoint, mesh, optim
from tfm_jax.train.sections import EvalConfig, TrainConfig


class Task(NamedTuple):
    """What the sections of an experiment are.

    Attributes:
        losses: module of ``tasks``. models: keys of MODELS that can learn it.
        data, tokenizer: classes of the sections.
        vocabularies: field of the model -> attribute of the tokenizer that fills it.
        longest: tokens of a row, of a data section.
    """

    losses: ModuleType
    models: tuple[str, ...]
    data: type
    tokenizer: type
    vocabularies: Mapping[str, str]
    longest: Callable[[Any], int]


TASKS = {
    "translation": Task(
        translation,
        ("transformer",),
        pipeline.Config,
        tokenizers.Config,
        {"source_vocab": "source_vocab", "target_vocab": "target_vocab"},
        lambda data: max(data.source_length, data.target_length),
    ),
    "causal_lm": Task(
        causal_lm,
        ("gpt",),
        language.Config,
        language.TokenizerConfig,
        {"vocab": "vocab"},
        lambda data: data.length,
    ),
}

_SECTIONS = {
    "optim": optim.Config,
    "train": TrainConfig,
    "eval": EvalConfig,
    "checkpoint": checkpoint.Config,
    "mesh": mesh.Config,
}


class Experiment(NamedTuple):
    """One run: what ``config.json`` of a workdir holds."""

    seed: int
    model_name: str
    task: str
    model: Any
    data: Any
    tokenizer: Any
    optim: optim.Config
    train: TrainConfig
    eval: EvalConfig
    checkpoint: checkpoint.Config
    mesh: mesh.Config

    def as_dict(self) -> dict:
        """Plain nested dict, as ``resolve`` takes it."""
        return {
            name: dataclasses.asdict(value)
            if dataclasses.is_dataclass(value)
            else value
            for name, value in self._asdict().items()
        }


def resolve(config) -> Experiment:
    """Checks a ConfigDict or plain dict whole and builds its sections.

    A knob that a section lacks has its default: the configuration of a run from before
    the knob existed still says what that run was.

    Raises: ConfigError naming the knob, its value and the legal choices.
    """
    config = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    unknown = sorted(set(config) ^ set(Experiment._fields))
    if unknown:
        raise ConfigError(
            f"sections {unknown} are unknown or missing; a configuration has "
            f"{Experiment._fields}"
        )
    for name, table in (("model_name", MODELS), ("task", TASKS)):
        if config[name] not in table:
            raise ConfigError(f"{name}={config[name]!r}; choose from {tuple(table)}")
    seed = config["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**31:
        raise ConfigError(f"seed={seed!r} must be an integer in [0, 2**31)")
    task = TASKS[config["task"]]
    if config["model_name"] not in task.models:
        raise ConfigError(
            f"model_name={config['model_name']!r} cannot learn "
            f"task={config['task']!r}; "
            f"choose from {task.models}"
        )
    classes = {
        "model": MODELS[config["model_name"]].Config,
        "data": task.data,
        "tokenizer": task.tokenizer,
        **_SECTIONS,
    }
    sections = {n: _section(cls, config[n], n) for n, cls in classes.items()}
    experiment = Experiment(seed, config["model_name"], config["task"], **sections)
    _check(experiment)
    return experiment


def _section(cls, values, path):
    if isinstance(values, Mapping):
        known = {f.name: f.default for f in dataclasses.fields(cls)}
        new = {k: v for k, v in known.items() if v is not dataclasses.MISSING}
        values = new | values
    return build(cls, values, path=path)


def complete(experiment: Experiment, tokenizer) -> Experiment:
    """Fills in the vocabularies that the configuration leaves to the tokenizer."""
    filled = {}
    for side, attribute in TASKS[experiment.task].vocabularies.items():
        wanted, there = getattr(experiment.model, side), getattr(tokenizer, attribute)
        if wanted and wanted < there:
            raise ConfigError(
                f"model.{side}={wanted} is below the tokenizer's {there}; 0 takes that"
            )
        filled[side] = wanted or there
    try:
        model = dataclasses.replace(experiment.model, **filled)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return experiment._replace(model=model)


def build_model(experiment: Experiment, **changes):
    """The Linen module, with some fields of its configuration changed."""
    cfg = dataclasses.replace(experiment.model, **changes)
    return MODELS[experiment.model_name].Model(cfg)


def _check(experiment):
    """What no section can see alone."""
    data, model = experiment.data, experiment.model
    packed = getattr(data, "batching", "") == "pack"
    if model.attention == "cudnn" and packed:
        raise ConfigError(
            "model.attention='cudnn' cannot keep packed sentences apart; choose "
            "data.batching from (bucket, fixed) or model.attention from (auto, xla)"
        )
    longest = TASKS[experiment.task].longest(data)
    if model.positions == "learned" and model.max_length < longest:
        raise ConfigError(
            f"model.max_length={model.max_length} is below the {longest} tokens of a "
            "row of data, and model.positions='learned' has no more"
        )
