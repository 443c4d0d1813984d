"""Sources: the runs that ``init_from`` names, one or one for each part of a model."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from tfm_jax.config import (
    ConfigError,
    flatten,
    replaced,
    roles_of,
    spread,
    types_of,
)
from tfm_jax.models import MODELS
from tfm_jax.runs import saved
from tfm_jax.settings.experiment import Experiment
from tfm_jax.terminal import say

# a vocabulary may have grown, see ``merge``
VOCABULARIES = {"vocab", "source_vocab", "target_vocab"}


class Source(NamedTuple):
    """What a run starts from: unrolled parameters, and a tokenizer if there is one.

    Attributes:
        model: configuration; of a model that starts in parts, its own with theirs.
        without: why there is no tokenizer.
        labels: names of the outputs of its head, in order; () if they have none.
        parts: part of the model -> what that starts from, which has the parameters.
    """

    path: str
    model_name: str
    model: Any
    params: dict
    tokenizer: Any
    without: str = ""
    labels: tuple[str, ...] = ()
    parts: Mapping[str, "Source"] = MappingProxyType({})


def read(path: str) -> Source:
    """A workdir, or a checkpoint of one; says if that run has steps left.

    Raises: ConfigError if it is neither.
    """
    try:
        run = saved.load(Path(path).expanduser())
        labels = saved.label_names(run)
    except (OSError, ValueError) as error:
        raise ConfigError(f"init_from={path!r}: {error}") from error
    total, step = run.experiment.train.total_steps, run.path.name
    done = Path(path).expanduser().joinpath("results.json").exists()
    if step.isdigit() and 0 < int(step) < total and not done:
        if jax.process_index() == 0:
            say(f"init_from={path}: step {int(step)} of {total}")
    return Source(
        path,
        model_name=run.experiment.model_name,
        model=run.experiment.model,
        params=run.params,
        tokenizer=run.tokenizer,
        labels=tuple(labels),
    )


def check_frozen(experiment: Experiment) -> None:
    """Refuses a part that is frozen at its initial values.

    Raises: ConfigError naming it.
    """
    paths, starts = experiment.sources, MODELS[experiment.model_name].starts
    if "" in paths:
        return
    trained = {*paths, *(name for part in paths for name in starts[part].brings)}
    for part in experiment.frozen_parts:
        if part not in trained:
            raise ConfigError(
                f"freeze={experiment.freeze}: {part} would stay as random as it is "
                f"drawn; name a run that it starts from, init_from={part}=PATH, or "
                "take it back"
            )


def read_all(experiment: Experiment, read: Callable[[str], Source] = read) -> Source:
    """What ``init_from`` of an experiment names, in one or in parts.

    Raises: ConfigError naming the path that is nothing to start from.
    """
    paths = experiment.sources
    if "" in paths:
        return read(paths[""])
    parts = {}
    for part, path in paths.items():
        try:
            parts[part] = _part(experiment, part, read(path))
        except ConfigError as error:
            raise ConfigError(f"{part} of init_from: {error}") from error
    return _composed(experiment, parts)


def _part(experiment, name, source):
    """``source``, or what it has inside that ``name`` starts from."""
    start = MODELS[experiment.model_name].starts[name]
    if source.model_name not in start.inside:
        return source
    take = start.inside[source.model_name]
    model_name, model, params = take(source.model, source.params)
    reads = any(spread(model, side) for side in VOCABULARIES)
    return source._replace(
        model_name=model_name,
        model=model,
        params=params,
        tokenizer=source.tokenizer if reads else None,
        labels=(),
    )


def _composed(experiment, parts):
    """The model of ``experiment`` with the architecture of its ``parts``."""
    family, values = MODELS[experiment.model_name], {}
    ordered = {name: parts[name] for name in family.starts if name in parts}
    for name, part in ordered.items():
        start = family.starts[name]
        if part.model_name not in start.families:
            raise ConfigError(
                f"init_from={name}={part.path} holds model_name={part.model_name!r}; "
                f"{name} starts from {(*start.families, *start.inside)}"
            )
        values = _of_part(experiment.model, start, name, part) | values
    try:
        model = replaced(experiment.model, values)
    except ValueError as error:
        raise ConfigError(
            f"with the architecture of init_from={experiment.init_from}: {error}"
        ) from error
    tokenizers = [x.tokenizer for x in ordered.values() if x.tokenizer is not None]
    return Source(
        experiment.init_from,
        model_name=experiment.model_name,
        model=model,
        params={},
        tokenizer=next(iter(tokenizers), None),
        without="; ".join(x.without for x in ordered.values() if x.without),
        parts=parts,
    )


def _of_part(model, start, name, part):
    """Dotted field of ``model`` -> its value in a part's source.

    Raises: ConfigError for a field that has another value in all such models.
    """
    own = functools.reduce(getattr, filter(None, start.section.split(".")), model)
    prefix = f"{start.section}." if start.section else ""
    family, there = MODELS[part.model_name], types_of(type(own))
    values, taken = dict(flatten(dataclasses.asdict(part.model))), {}
    for field, role in roles_of(type(part.model)).items():
        if role != "architecture" or field in family.task_fields | family.fitted:
            continue
        if field in there:
            taken[prefix + field] = values[field]
        elif field in VOCABULARIES & types_of(type(model)).keys():  # of the whole
            taken[field] = values[field]
        elif getattr(own, field, values[field]) != values[field]:
            raise ConfigError(
                f"init_from={name}={part.path} has model.{field}={values[field]!r}; "
                f"{name} is a model with {getattr(own, field)!r}"
            )
    return taken
