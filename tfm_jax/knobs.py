"""Knobs: what a dataclass says of its fields besides their names and defaults."""

import dataclasses
import difflib
import typing
from collections.abc import Iterable
from typing import Any

SCALARS = {bool: "boolean", int: "integer", float: "finite number", str: "string"}


class ConfigError(ValueError):
    """A mistake in a config or on the command line; its message is one line."""


def choice(table: Iterable[str], default: str) -> Any:
    """A dataclass field that takes one of the names in ``table``.

    Raises:
        ValueError: if ``default`` is not in ``table``.
    """
    choices = tuple(table)
    if default not in choices:
        raise ValueError(f"default {no_choice('', default, choices)}")
    return dataclasses.field(default=default, metadata={"choices": choices})


def no_choice(knob: str, value: Any, choices: tuple) -> str:
    """What is wrong with a value that is none of ``choices``."""
    legal = ", ".join(str(item) for item in choices)
    return f"{knob}={value!r}; choose from ({legal}){nearest(value, choices)}"


def nearest(name: Any, names: Iterable[str], cutoff: float = 0.6) -> str:
    """``; did you mean 'NAME'?`` with the closest of ``names``, if one is close."""
    near = difflib.get_close_matches(str(name), [str(n) for n in names], 1, cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


def element_of(expected: Any) -> Any:
    """Type of the elements of ``tuple[TYPE, ...]``; None of all other types."""
    if typing.get_origin(expected) is tuple:
        element, *rest = typing.get_args(expected)
        return element if rest == [...] else None
    return None


def types_of(cls: type, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> declared type of every knob of a dataclass and those in it."""
    found = {}
    for name, expected in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(expected):
            found |= types_of(expected, f"{prefix}{name}.")
        else:
            found[prefix + name] = expected
    return found


def type_name(expected: Any) -> str:
    """How people call a type; whoever declares a knob of another type learns here."""
    if element := element_of(expected):
        return f"{type_name(element)}s separated by commas"
    if expected in SCALARS:
        return SCALARS[expected]
    raise TypeError(f"a config field is a scalar or tuple[scalar, ...], not {expected}")
