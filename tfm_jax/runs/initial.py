"""Initial: parameters that a run starts from because another one learnt them."""

import dataclasses
import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from tfm_jax.config import (
    ConfigError,
    flatten,
    replaced,
    roles_of,
    spread,
    to_flag,
)
from tfm_jax.layers.layout import to_scanned, to_unrolled
from tfm_jax.models import MODELS
from tfm_jax.runs.sources import VOCABULARIES, Source
from tfm_jax.settings import new_runs
from tfm_jax.settings.experiment import Experiment, resolve


class Report(NamedTuple):
    """Paths of parameters.

    Attributes:
        loaded: as they are. grown: with new rows. fitted: see ``Family.fit``.
        new: not in the source. unused: not in the run.
        parts: part of the model -> how many are from what it starts from.
    """

    loaded: list[str]
    grown: list[str]
    fitted: list[str]
    new: list[str]
    unused: list[str]
    parts: dict[str, int]

    def __str__(self):
        parts = [f"{len(self.loaded)} parameters loaded"]
        parts += [f"{count} of {part}" for part, count in self.parts.items()]
        for name in ("grown", "fitted", "new", "unused"):
            paths = getattr(self, name)
            if paths:
                parts.append(f"{len(paths)} {name} ({', '.join(_first_names(paths))})")
        return ", ".join(parts)


def adopt(
    experiment: Experiment, model: Any, given: Collection[str]
) -> tuple[Experiment, dict[str, tuple]]:
    """``experiment`` with the architecture of ``model``, but for what is ``given``.

    Vocabularies, what belongs to a head, and what its parameters are fitted to, are the
    run's own.

    Args: model: configuration of what it starts from. given: dotted knobs.
    Returns: (experiment, field -> (value here before, value there) of what was taken).
    Raises: ConfigError if that does not fit the rest of ``experiment``.
    """
    if type(model) is not type(experiment.model):
        return experiment, {}
    differ = _differences(experiment, model)
    taken = {k: v for k, v in differ.items() if f"model.{k}" not in given}
    if not taken:
        return experiment, {}
    values = {name: there for name, (_, there) in taken.items()}
    try:
        model = replaced(experiment.model, values)
        adopted = resolve(experiment._replace(model=model).as_dict())
        new_runs.check_read(adopted, given, whole=False)
    except ValueError as error:
        raise ConfigError(
            f"with the architecture of init_from={experiment.init_from!r}: {error}"
        ) from error
    return adopted, taken


def _differences(experiment, model):
    """Field -> (value here, value there) of what another architecture has."""
    family = MODELS[experiment.model_name]
    free = family.task_fields | family.fitted
    here, there = (
        dict(flatten(dataclasses.asdict(each))) for each in (experiment.model, model)
    )
    return {
        name: (here[name], there[name])
        for name, role in roles_of(type(model)).items()
        if role == "architecture"
        and name not in free
        and name.rpartition(".")[2] not in VOCABULARIES
        and here[name] != there[name]
    }


def check(experiment: Experiment, source: Source) -> None:
    """Refuses a source that computes something else than the model will.

    Raises: ConfigError naming every field that differs, with both values.
    """
    if source.model_name != experiment.model_name:
        starts = MODELS[experiment.model_name].starts
        parts = [
            name
            for name, start in starts.items()
            if source.model_name in (*start.families, *start.inside)
        ]
        named = "".join(f"; init_from={k}={source.path} is for its {k}" for k in parts)
        raise ConfigError(
            f"init_from={source.path!r} holds model_name={source.model_name!r}, "
            f"not {experiment.model_name!r}{named}"
        )
    kind = getattr(experiment.tokenizer, "kind", "published")
    reads = not source.parts or any(
        spread(part.model, side)
        for part in source.parts.values()
        for side in VOCABULARIES
    )
    if source.tokenizer is None and reads and kind != "published":
        raise ConfigError(
            f"init_from={source.path!r} has no tokenizer that is read here, and "
            f"tokenizer.kind={kind!r} would train another; name the one of its "
            "parameters: tokenizer.kind=published, tokenizer.file=PATH "
            f"({source.without})"
        )
    differ = _differences(experiment, source.model)
    if differ:
        fields = (f"model.{k}={h!r}, there {t!r}" for k, (h, t) in differ.items())
        raise ConfigError(
            f"init_from={source.path!r} is another model: {'; '.join(fields)}; give "
            "both the same values"
        )


def check_labels(source: Source, labels: Sequence[str]) -> None:
    """Refuses a head whose outputs are the labels of the data in another order.

    Raises: ConfigError with both orders.
    """
    labels = tuple(labels)
    if source.labels != labels and sorted(source.labels) == sorted(labels):
        raise ConfigError(
            f"init_from={source.path!r} has labels in the order "
            f"{','.join(source.labels)}, the data in {','.join(labels)}; "
            f"set data.labels={to_flag(source.labels)}"
        )


def merge(
    experiment: Experiment, source: Source, fresh: dict[str, Any]
) -> tuple[dict, Report]:
    """``fresh`` with the parameters of ``source`` where both have them.

    Words that the vocabulary has gained keep their fresh vectors.

    Args: fresh: nested dict of arrays on the host, of the run's own layout.
    Returns: (nested dict of the same, report).
    Raises: ConfigError listing every parameter that is not explained by another head.
    """
    ours = flatten_dict(to_unrolled(fresh), sep="/")
    family, theirs = MODELS[experiment.model_name], _taken(experiment, source)
    report, problems = Report([], [], [], [], [], {}), []
    owned = [family.starts[part].owns for part in source.parts] or [""]
    for path, x in ours.items():
        is_head = path.partition("/")[0] in family.task_parameters
        if path not in theirs:
            report.new.append(path)
            if not is_head and any(re.search(pattern, path) for pattern in owned):
                problems.append(f"{path} is new")
            continue
        their_x, part, fitted, before, _ = theirs[path]
        if their_x.shape == x.shape:
            ours[path] = np.asarray(their_x, x.dtype)
            (report.fitted if fitted else report.loaded).append(path)
        elif _gained(their_x, x, before, experiment.model):
            ours[path] = np.concatenate([their_x, x[len(their_x) :]]).astype(x.dtype)
            report.grown.append(path)
        elif is_head:
            report.new.append(path)  # such as another number of classes
            report.unused.append(path)
            continue
        else:
            problems.append(f"{path} has shape {x.shape} here, there {their_x.shape}")
        if part:
            report.parts[part] = report.parts.get(part, 0) + 1
    unused = sorted(set(theirs) - set(ours))
    report.unused.extend(unused)
    problems += [f"{path} is unused" for path in unused if not theirs[path].is_head]
    if problems:
        raise ConfigError(
            f"init_from={source.path!r} does not fit: {'; '.join(problems)}"
        )
    merged = unflatten_dict(ours, sep="/")
    if experiment.model.layout == "scanned":
        merged = jax.tree.map(np.asarray, to_scanned(merged))
    return merged, report


class _Taken(NamedTuple):
    """A parameter of a source: which of its parts has it, the config that it is of."""

    value: np.ndarray
    part: str
    fitted: bool
    before: Any
    is_head: bool


def _taken(experiment, source):
    """Path here -> ``_Taken``. Raises: ConfigError for one that two parts have."""
    family, taken = MODELS[experiment.model_name], {}
    for name, part in (source.parts or {"": source}).items():
        stored = flatten_dict(part.params, sep="/")
        take = family.starts[name].take if name else family.fit
        heads = MODELS[part.model_name].task_parameters
        of_heads = {id(x) for k, x in stored.items() if k.partition("/")[0] in heads}
        kept = {id(x) for x in stored.values()}
        for path, x in take(dict(stored), part.model, experiment.model).items():
            if path in taken:
                raise ConfigError(
                    f"init_from={source.path}: {name} and {taken[path].part} both "
                    f"have {path}"
                )
            whose = name, id(x) not in kept, part.model, id(x) in of_heads
            taken[path] = _Taken(x, *whose)
    return taken


def _gained(their_x, x, before, now):
    """Whether only a vocabulary grew between two shapes."""
    old, new = (spread(cfg, "vocab").values() for cfg in (before, now))
    return (
        their_x.shape[1:] == x.shape[1:]
        and len(their_x) in old
        and len(x) in new
        and len(their_x) < len(x)
    )


def _first_names(paths):
    """First names of paths, each once."""
    return dict.fromkeys(path.partition("/")[0] for path in paths)


def place(values: Any, placed: Any) -> Any:
    """Host arrays as global ones that lie as ``placed``, a tree of shardings, says."""
    return jax.tree.map(
        lambda x, s: jax.make_array_from_callback(x.shape, s, x.__getitem__),
        values,
        placed,
    )
