"""The only bridge between ``ml_collections.ConfigDict`` and frozen dataclasses.

A dataclass declares the knobs of one part of the system: their names, types, defaults
and legal values. ``section`` shows all of them to the command line, ``build`` turns
what comes back into the dataclass or says in one line which knob is wrong.
"""

import ast
import collections
import contextlib
import dataclasses
import difflib
import importlib.util
import inspect
import json
import re
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ml_collections import ConfigDict

from tfm_jax import bounded_json

T = TypeVar("T")

_SCALARS = {bool: "boolean", int: "integer", float: "finite number", str: "string"}
_FLAG = re.compile(r"--?(?P<name>[a-z_]\w*(\.[A-Za-z_]\w*)*)(=(?P<value>.*))?", re.S)
_NOT_A_NUMBER = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)


class ConfigError(ValueError):
    """A mistake in a config or on the command line; its message is one line."""


def choice(table: Iterable[str], default: str) -> Any:
    """A dataclass field that takes one of the names in ``table``.

    Raises:
        ValueError: if ``default`` is not in ``table``.
    """
    choices = tuple(table)
    if default not in choices:
        raise ValueError(f"default {_value_error('', default, choices)}")
    return dataclasses.field(default=default, metadata={"choices": choices})


def section(cls: type, **overrides: Any) -> ConfigDict:
    """Every field of the dataclass ``cls``, so that each one is a command line flag.

    Raises:
        ConfigError: for an override that is no field, has the wrong type or no legal
            value, and for a field without default that is not given.
    """
    path = f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"
    return ConfigDict(_knobs(_checked(cls, with_defaults(cls, overrides), path)))


def with_defaults(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """``values``, and the default of every field of the dataclass ``cls`` they lack."""
    found = dict(values)
    types = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(types[field.name]):
            inner = found.get(field.name, {})
            if isinstance(inner, Mapping):
                found[field.name] = with_defaults(types[field.name], inner)
        elif field.default is not dataclasses.MISSING:
            found.setdefault(field.name, field.default)
    return found


def build(cls: type[T], section: Mapping[str, Any], path: str = "model") -> T:
    """The frozen dataclass that ``section`` describes; nothing is guessed or dropped.

    Args:
        cls: dataclass with fields of type bool, int, float, str or ``tuple[..., ...]``,
            or of another such dataclass.
        section: a value for each field, from a ``ConfigDict`` or from JSON.
        path: how the command line calls the section.

    Raises:
        ConfigError: for a name too many or too few, a wrong type, a number that is not
            finite, an illegal choice, and what ``__post_init__`` of ``cls`` refuses.
    """
    values = _checked(cls, section, path)
    try:
        return cls(**values)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error


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
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"config JSON: {error}") from error
    return _plain(config, "")


def load(spec: str) -> ConfigDict:
    """Runs ``FILE.py[:size]``: its ``get_config``, with the size as argument if given.

    The file is executed: it is the user's own code, never one found beside data.

    Raises:
        ConfigError: for a missing file, one without ``get_config``, an unknown size.
    """
    file, _, size = spec.partition(":")
    path = Path(file)
    if not path.is_file():
        siblings = sorted(other.name for other in path.parent.glob("*.py"))
        raise ConfigError(
            f"--config={spec}: no such file{nearest(path.name, siblings)}"
        )
    module_spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    if module_spec is None:
        raise ConfigError(f"--config={spec}: not a Python file (.py)")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ConfigError(
            f"--config={spec}: line {error.lineno}: {error.msg}"
        ) from error
    if not hasattr(module, "get_config"):
        raise ConfigError(f"--config={spec}: the file defines no get_config()")
    if size and not inspect.signature(module.get_config).parameters:
        raise ConfigError(f"--config={spec}: get_config() of {file} takes no size")
    try:
        config = module.get_config(*[size] if size else [])
    except KeyError as error:
        if error.args != (size,):
            raise
        names = ", ".join(map(str, getattr(module, "SIZES", ())))
        choices = f"; choose from ({names})" if names else ""
        raise ConfigError(
            f"--config={spec}: {file} has no size {size!r}{choices}"
        ) from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"--config={spec}: get_config() returned no ConfigDict")
    return config


def load_run(workdir: str) -> ConfigDict:
    """The config a run was started with, from its JSON; no code of a run is executed.

    Raises:
        ConfigError: for a workdir without run, or with an unreadable ``config.json``.
    """
    path = Path(workdir, "config.json")
    if not path.is_file():
        raise ConfigError(f"--config=FILE is missing, and there is no run: no {path}")
    try:
        return ConfigDict(from_json(bounded_json.read_bytes(path)))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def check_argv(argv: Iterable[str]) -> list[str]:
    """The arguments as ``--name=value``, once what would be misread is refused.

    ``ml_collections`` takes the last of two contradicting flags, lets ``{...}`` replace
    a section with all its knobs, and reads ``None`` as a string.

    Raises:
        ConfigError: for a repeated flag, a flag without value, a positional argument,
            a section given as a dict, and the values None, nan and inf.
    """
    result, seen = [], set()
    arguments = iter(argv)
    for argument in arguments:
        flag = _FLAG.fullmatch(argument)
        if not flag:
            raise ConfigError(f"{argument!r} is not understood; write --name=value")
        name, value = flag["name"], flag["value"]
        if name in ("flagfile", "undefok") or name.startswith("noconfig."):
            raise ConfigError(f"{argument} is not supported; write --name=value")
        if value is None:
            value = next(arguments, "-")
            if value.startswith("-"):
                raise ConfigError(f"--{name} has no value; write --{name}=value")
        if name in seen:
            raise ConfigError(f"--{name} is given twice; which one is meant?")
        if name.startswith("config.") and value.lstrip().startswith("{"):
            raise ConfigError(_replaces_section(name, value))
        for word in re.split(r"[\s,()\[\]]+", value):
            if word == "None" or _NOT_A_NUMBER.fullmatch(word):
                raise ConfigError(f"--{name}={value}: {word} is not a value")
        seen.add(name)
        result.append(f"--{name}={value}")
    return result


def check_overrides(argv: Iterable[str], config: ConfigDict) -> list[str]:
    """``check_argv`` output, held against the knobs that ``config`` has.

    Tuples may be written without quotes and brackets: ``=train.en,train.de``.

    Raises:
        ConfigError: for a ``--config.…`` flag that names no knob, or a whole section.
    """
    knobs = dict(_flatten(config))
    result = []
    for argument in argv:
        name, _, value = argument.partition("=")
        path = name.removeprefix("--config.")
        if path == name:
            result.append(argument)
            continue
        if path not in knobs:
            if any(knob.startswith(f"{path}.") for knob in knobs):
                raise ConfigError(_replaces_section(name.removeprefix("--"), value))
            raise ConfigError(
                f"{argument}: there is no knob {path!r}{_nearest_knob(path, knobs)}"
            )
        if isinstance(knobs[path], tuple):
            value = repr(_split_tuple(value))
        result.append(f"{name}={value}")
    return result


def _checked(cls: type, values: Mapping[str, Any], path: str) -> dict[str, Any]:
    """``values`` with the types that the fields of ``cls`` announce, in field order."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if not isinstance(values, ConfigDict | Mapping):
        raise ConfigError(f"{path}={values!r}; expected a section of knobs")
    for name in values:
        if name not in fields:
            hint = nearest(name, fields)
            raise ConfigError(f"{path}.{name}: there is no such knob{hint}")
    types = typing.get_type_hints(cls)
    checked = {}
    for name, field in fields.items():
        knob = f"{path}.{name}"
        if name not in values:
            raise ConfigError(f"{knob} is missing")
        checked[name] = _typed(types[name], values[name], knob)
        choices = field.metadata.get("choices")
        if choices and checked[name] not in choices:
            raise ConfigError(_value_error(knob, checked[name], choices))
    return checked


def _typed(expected: Any, value: Any, knob: str) -> Any:
    """``value`` as ``expected``: an int is a float too, a list is a tuple, no more."""
    if dataclasses.is_dataclass(expected):
        return build(expected, value, knob)
    if typing.get_origin(expected) is tuple and isinstance(value, tuple | list):
        element = typing.get_args(expected)[0]
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
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
        for name, value in values.items()
    }


def _plain(value: Any, path: str) -> Any:
    """Dicts, tuples and scalars only; what anything else would become is a surprise."""
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise ConfigError(f"config{path}: the key {name!r} is not a string")
        return {name: _plain(item, f"{path}.{name}") for name, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_plain(item, path) for item in value)
    if type(value) not in _SCALARS or (type(value) is float and not _finite(value)):
        raise ConfigError(f"config{path}={value!r} cannot be stored as JSON")
    return value


def _finite(value: int | float) -> bool:
    """Whether a float can hold ``value``; integers grow beyond the largest float."""
    return abs(value) <= sys.float_info.max


def _flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _split_tuple(text: str) -> tuple:
    """``1,2`` and ``(1, 2)`` are numbers; ``a.en,b.de`` are words, quoted or not."""

    def literal(text, otherwise):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return otherwise

    bare = text.strip().removeprefix("(").removesuffix(")").strip()
    words = [word.strip() for word in bare.split(",") if word.strip()]
    value = literal(text, tuple(literal(word, word) for word in words))
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _replaces_section(name: str, value: str) -> str:
    return (
        f"--{name}={value} would replace the whole section; "
        f"set its knobs one by one: --{name}.knob=value"
    )


def _value_error(knob: str, value: Any, choices: tuple) -> str:
    legal = ", ".join(str(item) for item in choices)
    return f"{knob}={value!r}; choose from ({legal}){nearest(value, choices)}"


def nearest(name: Any, names: Iterable[str], cutoff: float = 0.6) -> str:
    """``; did you mean 'NAME'?`` with the closest of ``names``, if one is close."""
    near = difflib.get_close_matches(str(name), [str(n) for n in names], 1, cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


def _nearest_knob(path: str, knobs: Iterable[str]) -> str:
    """A hint by the last word, whose section may be wrong or forgotten."""
    leaves = [knob.rpartition(".")[2] for knob in knobs]
    leaf = difflib.get_close_matches(path.rpartition(".")[2], leaves, 1)
    same = [knob for knob in knobs if [knob.rpartition(".")[2]] == leaf]
    return nearest(path, same, cutoff=0.0)


def type_name(expected: Any) -> str:
    """How people call a type; whoever declares a knob of another type learns here."""
    if typing.get_origin(expected) is tuple:
        element, *rest = typing.get_args(expected)
        if rest == [...]:
            return f"{type_name(element)}s separated by commas"
    elif expected in _SCALARS:
        return _SCALARS[expected]
    raise TypeError(f"a config field is a scalar or tuple[scalar, ...], not {expected}")
