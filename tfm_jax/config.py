"""The only bridge between ``ml_collections.ConfigDict`` and frozen dataclasses.

A dataclass declares the knobs of one part of the system: their names, types, defaults
and legal values. ``section`` shows all of them to the command line, ``build`` turns
what comes back into the dataclass or says in one line which knob is wrong.
"""

import collections
import contextlib
import dataclasses
import json
import re
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ml_collections import ConfigDict

from tfm_jax import bounded_json, renamed
from tfm_jax.config_files import is_run, load
from tfm_jax.flags.arguments import check_argv, check_overrides
from tfm_jax.flags.values import from_flag, to_flag
from tfm_jax.knobs import (
    SCALARS,
    Above,
    ConfigError,
    Reader,
    check_numbers,
    element_of,
    flatten,
    inherit,
    knob,
    nearest,
    no_choice,
    range_of,
    readers_of,
    role_of,
    roles_of,
    type_name,
    types_of,
)

__all__ = [
    "ConfigError",
    "build",
    "check_argv",
    "check_overrides",
    "Above",
    "Reader",
    "check_numbers",
    "element_of",
    "flatten",
    "inherit",
    "is_run",
    "knob",
    "range_of",
    "readers_of",
    "replaced",
    "role_of",
    "roles_of",
    "from_flag",
    "from_json",
    "load",
    "load_run",
    "nearest",
    "override",
    "section",
    "spread",
    "to_flag",
    "to_json",
    "type_name",
    "types_of",
    "widened",
    "with_defaults",
    "within",
]
T = TypeVar("T")


def section(cls: type, **overrides: Any) -> ConfigDict:
    """Every field of the dataclass ``cls``, so that each one is a command line flag.

    Raises:
        ConfigError: for an override that is no field, has the wrong type or no legal
            value, and for a field without default that is not given.
    """
    path = f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"
    knobs = _knobs(_checked(cls, with_defaults(cls, overrides), path))
    return ConfigDict(knobs).lock()  # a knob that there is not cannot be set


def with_defaults(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """``values``, and the default of every field of the dataclass ``cls`` they lack."""
    found = dict(values)
    types = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(types[field.name]):
            inner = found.get(field.name, {})
            if isinstance(inner, Mapping):
                usual: Any = field.default  # may have other values than its class
                usual = dataclasses.asdict(usual) if _is_built(usual) else {}
                found[field.name] = with_defaults(types[field.name], {**usual, **inner})
        elif field.default is not dataclasses.MISSING:
            found.setdefault(field.name, field.default)
    return found


def build(
    cls: type[T], section: Mapping[str, Any], path: str = "model", of: str = ""
) -> T:
    """The frozen dataclass that ``section`` describes; nothing is guessed or dropped.

    Args:
        cls: dataclass with fields of type bool, int, float, str or ``tuple[..., ...]``,
            or of another such dataclass.
        section: a value for each field, from a ``ConfigDict`` or from JSON.
        path: how the command line calls the section. of: whose it is, in a message.

    Raises:
        ConfigError: for a name too many or too few, a wrong type, a number that is not
            finite, an illegal choice, and what ``__post_init__`` of ``cls`` refuses.
    """
    values = _checked(cls, section, path, of)
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(within(path, str(error))) from error


def within(path: str, message: str) -> str:
    """``message`` of a section ``model``, where it is one in that: ``path``."""
    inner = path.partition(".")[2]
    if not inner:
        return message
    return re.sub(rf"(?<![\w.])model\.(?!{inner}\.)", f"{path}.", message)


def widened(part: Any, cls: type, **changes: Any) -> Any:
    """The section of a part of a model, as that of a model of its own.

    Args:
        part: an instance of a subclass of ``cls`` that fixes some of its fields.
        changes: fields with other values: those of the whole's ``execution``.
    Raises: ValueError, of the section ``model``.
    """
    names = (field.name for field in dataclasses.fields(cls))
    return cls(**{name: getattr(part, name) for name in names} | changes)


def spread(config: Any, name: str) -> dict[str, Any]:
    """Dotted knob -> value of those called ``name`` in a section and those in it."""
    values = flatten(dataclasses.asdict(config))
    return {knob: x for knob, x in values if knob.rpartition(".")[2] == name}


def replaced(config: Any, values: Mapping[str, Any]) -> Any:
    """A section with other values of some knobs, dotted where they are in another.

    Raises: ValueError, of the section ``model``.
    """
    own: dict[str, Any] = {k: x for k, x in values.items() if "." not in k}
    for name in {k.partition(".")[0] for k in values.keys() - own.keys()}:
        inner = {
            k.partition(".")[2]: x
            for k, x in values.items()
            if k.startswith(f"{name}.")
        }
        try:
            own[name] = replaced(getattr(config, name), inner)
        except ValueError as error:
            raise ConfigError(within(f"model.{name}", str(error))) from error
    return dataclasses.replace(config, **own)


def to_json(config: ConfigDict | Mapping[str, Any]) -> str:
    """Canonical text: equal configs give equal bytes, whatever their key order.

    Raises:
        ConfigError: for a value that JSON cannot hold without loss.
    """
    plain = _plain(config.to_dict() if isinstance(config, ConfigDict) else config, "")
    return json.dumps(plain, sort_keys=True, indent=2) + "\n"


def from_json(text: str | bytes) -> dict[str, Any]:
    """The dict that ``to_json`` wrote, tuples included; data only, no name is resolved.

    Raises:
        ConfigError: for text that is not one JSON object of finite values.
    """

    def unique(pairs):
        counts = collections.Counter(name for name, _ in pairs)
        for name, count in counts.items():
            if count > 1:
                raise ConfigError(f"config JSON holds {name!r} twice")
        return dict(pairs)

    try:
        config = bounded_json.loads(
            text, dict, object_pairs_hook=unique, parse_constant=float
        )
        config = bounded_json.unsealed(config)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"config JSON: {error}") from error
    return _plain(config, "")


def override(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    """``config`` with the values of some knobs, dotted, set."""
    with config.unlocked(), config.ignore_type():
        for knob, value in values.items():
            *outer, name = knob.split(".")
            section = config
            for part in outer:
                if part not in section:  # of a run from before there was this section
                    section[part] = ConfigDict()
                section = section[part]
            section[name] = value
    return config.lock()


def load_run(workdir: str) -> ConfigDict:
    """The config a run was started with, from its JSON; no code of a run is executed.

    Raises:
        ConfigError: for a workdir without run, or with an unreadable ``config.json``.
    """
    path = Path(workdir, "config.json")
    if not path.is_file():
        raise ConfigError(f"--config=FILE is missing, and there is no run: no {path}")
    try:
        config = from_json(bounded_json.read_bytes(path))
        return ConfigDict(renamed.modern(config)).lock()
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _checked(
    cls: type, values: Mapping[str, Any], path: str, of: str = ""
) -> dict[str, Any]:
    """``values`` with the types that the fields of ``cls`` announce, in field order."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if not isinstance(values, ConfigDict | Mapping):
        raise ConfigError(f"{path}={values!r}; expected a section of knobs")
    for name in values:
        if name not in fields:
            hint = renamed.hint(name, fields) or nearest(name, fields)
            raise ConfigError(f"{path}.{name}: there is no such knob{of}{hint}")
    types = typing.get_type_hints(cls)
    checked = {}
    for name, field in fields.items():
        knob = f"{path}.{name}"
        if name not in values:
            raise ConfigError(f"{knob} is missing")
        checked[name] = _typed(types[name], values[name], knob)
        choices = field.metadata.get("choices")
        if choices and checked[name] not in choices:
            raise ConfigError(no_choice(knob, checked[name], choices))
    return checked


def _typed(expected: Any, value: Any, knob: str) -> Any:
    """``value`` as ``expected``: an int is a float too, a list is a tuple, no more."""
    if isinstance(expected, type) and dataclasses.is_dataclass(expected):
        return build(expected, value, knob)
    element = element_of(expected)
    if element and isinstance(value, tuple | list):
        with contextlib.suppress(ConfigError):  # the whole tuple is named below
            return tuple(_typed(element, item, knob) for item in value)
    elif expected is float and type(value) in (int, float) and _finite(value):
        return float(value)
    elif expected is not float and type(value) is expected:
        return value
    raise ConfigError(f"{knob}={value!r}; expected {type_name(expected)}")


def _knobs(values: Mapping[str, Any]) -> dict[str, Any]:
    """Built dataclasses as the dicts that a ``ConfigDict`` makes sections of."""
    return {
        name: dataclasses.asdict(value) if _is_built(value) else value
        for name, value in values.items()
    }


def _is_built(value):
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _plain(value: Any, path: str) -> Any:
    """Dicts, tuples and scalars only; what anything else would become is a surprise."""
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise ConfigError(f"config{path}: the key {name!r} is not a string")
        return {name: _plain(item, f"{path}.{name}") for name, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_plain(item, path) for item in value)
    if type(value) not in SCALARS or (type(value) is float and not _finite(value)):
        raise ConfigError(f"config{path}={value!r} cannot be stored as JSON")
    return value


def _finite(value: int | float) -> bool:
    """Whether a float can hold ``value``; integers grow beyond the largest float."""
    return abs(value) <= sys.float_info.max
