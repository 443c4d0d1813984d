"""Experiment: the sections of a configuration, built and checked together."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from tfm_jax import mesh
from tfm_jax.config import (
    ConfigError,
    build,
    no_choice,
    roles_of,
    types_of,
    with_defaults,
)
from tfm_jax.data.prepared import Kind
from tfm_jax.data.rows import causal, labelled, masked, pairs, spans, tagged
from tfm_jax.data.tokenizers import bilingual, vocabularies
from tfm_jax.models import MODELS
from tfm_jax.objectives import (
    causal_lm,
    classify,
    masked_lm,
    replaced_tokens,
    restored_words,
    span,
    tag,
    translation,
)
from tfm_jax.optim import optimizers
from tfm_jax.runs import checkpoint
from tfm_jax.settings import variants
from tfm_jax.settings.files import with_homes
from tfm_jax.settings.sections import EvalConfig, TrainConfig


class Task(NamedTuple):
    """What the sections of an experiment are.

    Attributes:
        losses: module of ``tasks``, or a variant that it offers.
        data: kind of data, with the ``Config`` of that section.
        auxiliary: ``train.auxiliary_weight`` weighs a second loss.
        tokenizer: class of the section.
        vocabularies: field of the model -> attribute of the tokenizer that fills it.
        longest: tokens of a row, of a data section.
        sentences: how many a row has, of a data section.
    """

    losses: Any
    data: Kind
    auxiliary: bool = False
    tokenizer: type = vocabularies.Config
    vocabularies: Mapping[str, str] = MappingProxyType({"vocab": "vocab"})
    longest: Callable[[Any], int] = lambda data: data.length
    sentences: Callable[[Any], int] = lambda data: 1


def _of_pairs(data):
    return 1 if data.pairs.kind == "none" else 2


def _joint(losses):
    return Task(losses, masked.KIND, auxiliary=True, sentences=_of_pairs)


TASKS = {
    "translation": Task(
        translation,
        pairs.KIND,
        tokenizer=bilingual.Config,
        vocabularies={"source_vocab": "source_vocab", "target_vocab": "target_vocab"},
        longest=lambda data: max(data.source_length, data.target_length),
    ),
    "causal_lm": Task(causal_lm, causal.KIND),
    "masked_lm": Task(masked_lm, masked.KIND, auxiliary=True, sentences=_of_pairs),
    "replaced_tokens": _joint(replaced_tokens.ALL),
    "replaced_asked_tokens": _joint(replaced_tokens.ASKED),
    "replace_mlm": _joint(restored_words.ASKED),
    "all_tokens_mlm": _joint(restored_words.ALL),
    "classify": Task(
        classify,
        labelled.KIND,
        auxiliary=True,
        sentences=lambda data: 2 if data.layout().second else 1,
    ),
    "tag": Task(tag, tagged.KIND),
    "span": Task(span, spans.KIND, sentences=lambda data: 2),
}

_SECTIONS = {
    "optim": optimizers.Config,
    "train": TrainConfig,
    "eval": EvalConfig,
    "checkpoint": checkpoint.Config,
    "mesh": mesh.Config,
}


class Experiment(NamedTuple):
    """One run: what ``config.json`` of a workdir holds.

    Attributes:
        init_from: workdir, checkpoint or folder of transformers whose parameters the
            run starts from; "": from scratch.
        freeze: regular expression; parameters whose path ("encoder/embedding/...") has
            a match stay as they are; "": none.
    """

    seed: int
    model_name: str
    task: str
    model: Any
    data: Any
    tokenizer: Any
    optim: optimizers.Config
    train: TrainConfig
    eval: EvalConfig
    checkpoint: checkpoint.Config
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
    config = with_homes(Experiment._field_defaults | config)
    unknown = sorted(set(config) ^ set(Experiment._fields))
    if unknown:
        raise ConfigError(
            f"sections {unknown} are unknown or missing; a configuration has "
            f"{Experiment._fields}"
        )
    for name, table in (("model_name", MODELS), ("task", TASKS)):
        if config[name] not in table:
            raise ConfigError(no_choice(name, config[name], tuple(table)))
    seed = config["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**31:
        raise ConfigError(f"seed={seed!r} must be an integer in [0, 2**31)")
    if config["task"] not in MODELS[config["model_name"]].learns:
        able = tuple(
            n for n, family in MODELS.items() if config["task"] in family.learns
        )
        raise ConfigError(
            f"model_name={config['model_name']!r} cannot learn "
            f"task={config['task']!r}; choose from {able}"
        )
    classes = section_types(config["model_name"], config["task"])
    sections = {n: _section(cls, config[n], n) for n, cls in classes.items()}
    texts = {name: _text(name, config[name]) for name in Experiment._field_defaults}
    names = config["model_name"], config["task"]
    experiment = Experiment(seed, *names, **sections, **texts)
    _check(experiment)
    return experiment


def section_types(model_name: str, task: str) -> dict[str, type]:
    """Section -> its dataclass."""
    return {
        "model": MODELS[model_name].config,
        "data": TASKS[task].data.Config,
        "tokenizer": TASKS[task].tokenizer,
        **_SECTIONS,
    }


def knob_types(model_name: str, task: str) -> dict[str, Any]:
    """Dotted knob -> its type; none of a model or task that there is not."""
    if model_name not in MODELS or task not in TASKS:
        return {}
    types = {"seed": int, "model_name": str, "task": str}
    types |= dict.fromkeys(Experiment._field_defaults, str)
    for name, cls in section_types(model_name, task).items():
        types |= types_of(cls, f"{name}.")
    return types


def _text(name, value):
    if not isinstance(value, str):
        raise ConfigError(f"{name}={value!r}; expected string")
    return value


def _section(cls, values, path):
    if isinstance(values, Mapping):
        values = with_defaults(cls, values)
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
    return MODELS[experiment.model_name].model(cfg)


def alone(experiment: Experiment, data) -> Experiment:
    """The experiment on a variant of its data, which has no variants itself."""
    evaluation = dataclasses.replace(experiment.eval, variants=())
    return experiment._replace(data=data, eval=evaluation)


def _check(experiment):
    """What no section can see alone."""
    data, model, task = experiment.data, experiment.model, TASKS[experiment.task]
    check_kernel(experiment)
    longest = task.longest(data)
    if 0 < model.longest < longest:
        raise ConfigError(
            f"model.max_length={model.longest} is below the {longest} tokens of a "
            "row of data, and the model has no more positions"
        )
    sentences = task.sentences(data)
    if getattr(model, "types", sentences) < sentences:
        raise ConfigError(
            f"model.types={model.types} cannot tell the {sentences} sentences of a row "
            "of data apart"
        )
    heads = MODELS[experiment.model_name].learns[experiment.task]
    if heads and model.head not in heads:
        raise ConfigError(
            f"model.head={model.head!r} cannot learn task={experiment.task!r}; "
            f"choose from {heads}"
        )
    if hasattr(data, "pairs") and "masked_lm" in heads:
        wanted = "masked_lm" if data.pairs.kind == "none" else "pretraining"
        if model.head != wanted:
            raise ConfigError(
                f"model.head={model.head!r} does not fit data.pairs.kind="
                f"{data.pairs.kind!r}, which needs model.head={wanted!r}"
            )
    try:
        re.compile(experiment.freeze)
    except re.error as error:
        raise ConfigError(
            f"freeze={experiment.freeze!r} is no regular expression: {error}"
        ) from error
    if experiment.eval.variants and experiment.task == "translation":
        raise ConfigError(
            f"eval.variants={experiment.eval.variants}: task='translation' has none"
        )
    for name, changed in variants.read(experiment.eval.variants, data).items():
        try:
            _check(alone(experiment, changed))
        except ConfigError as error:
            raise ConfigError(f"eval.variants, {name!r}: {error}") from error
    if experiment.train.auxiliary_weight != 1.0 and not task.auxiliary:
        raise ConfigError(
            f"train.auxiliary_weight={experiment.train.auxiliary_weight} has no "
            f"effect: task={experiment.task!r} has one loss; leave it at 1"
        )


def check_kernel(experiment: Experiment, *, train: bool = False) -> None:
    """Refuses an implementation of attention that lacks what the run needs.

    Args: train: in training, too; runs of before were let begin.
    Raises: ConfigError naming it and what it lacks.
    """
    model = experiment.model
    causal = MODELS[experiment.model_name].causal
    packed = getattr(experiment.data, "batching", "") == "pack"
    lacking = model.unsupported(causal=causal, packed=packed, train=train)
    if lacking:
        raise ConfigError(
            f"model.attention={model.attention!r} cannot do {lacking}; choose from "
            "(auto, xla)"
        )
