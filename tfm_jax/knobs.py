"""Knobs: what a dataclass says of its fields besides their names and defaults.

A section says in ``ROLE`` what the knobs that it introduces act on, where that is not
"architecture", and in ``READ_WITH`` which of them have an effect with some values of
another one alone: ``{("source", ("files",)): ("train_files", "valid_files")}``.
"""

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

LARGEST = 2**31 - 1  # that a 32-bit integer holds
SCALARS = {bool: "boolean", int: "integer", float: "finite number", str: "string"}


class ConfigError(ValueError):
    """A mistake in a config or on the command line; its message is one line."""


ROLES = {  # what a knob acts on; what may differ between two uses of a model follows
    "architecture": "what a trained model computes, and how text becomes its inputs",
    "training": "while training only: what is learnt, of which text, and how",
    "initial": "the parameters before the first step",
    "execution": "how it is computed, not what: equal but for rounding",
    "operation": "what of a run is measured, logged, kept and waited for; no update",
}


def knob(
    default: Any,
    help: str,
    *,
    role: str = "",
    choices: Iterable[str] = (),
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
) -> Any:
    """A dataclass field that says what it means and which values it takes.

    Args:
        help: for ``--help``.
        role: key of ``ROLES``; "": that of the section that introduces it.
        choices: a table of the names it takes.
        low, high: the numbers it takes; with ``low`` alone integers go to ``LARGEST``,
            and other numbers, such as a rate that makes a run diverge, as far as they
            will.
        below: instead of ``high``, the smallest number that is too large.

    Raises:
        ValueError: if ``default`` is not legal, or there is no such role.
    """
    if role and role not in ROLES:
        raise ValueError(no_choice("role", role, tuple(ROLES)))
    metadata: dict[str, Any] = {"help": help, "role": role}
    if choices := tuple(choices):
        metadata["choices"] = choices
    if low is not None:
        if below is not None:
            metadata["below"], high = below, math.nextafter(below, -math.inf)
        if high is None:
            high = math.inf if isinstance(default, float) else LARGEST
        metadata["range"] = (low, high)
    return _field(default, metadata)


def _field(default, metadata):
    choices = metadata.get("choices")
    if choices and default not in choices:
        raise ValueError(f"default {no_choice('', default, choices)}")
    return dataclasses.field(default=default, metadata=metadata)


def inherit(
    cls: type,
    choices: Mapping[str, Iterable[str]] | None = None,
    fixed: Mapping[str, Any] | None = None,
) -> None:
    """Knobs of ``cls`` that only have another default keep all else of its parent's.

    For ``__init_subclass__``, which runs before ``dataclasses.dataclass``.

    Args:
        choices: knob of the parent -> those of its choices that ``cls`` has.
        fixed: knob of the parent -> its value in every ``cls``, where it is none.

    Raises:
        TypeError: for a knob to fix that there is not, and for one that has no effect
            with what is fixed, and is not.
    """
    parents: dict[str, dataclasses.Field] = {}
    for base in filter(dataclasses.is_dataclass, reversed(cls.__mro__[1:])):
        parents |= {field.name: field for field in dataclasses.fields(base)}
    _fix(cls, fixed or {}, parents)
    for name, fewer in (choices or {}).items():
        cls.__annotations__.setdefault(name, parents[name].type)
        default = vars(cls).get(name, parents[name].default)
        metadata = {**parents[name].metadata, "choices": tuple(fewer)}
        setattr(cls, name, _field(default, metadata))
    for name in parents.keys() & vars(cls).get("__annotations__", {}).keys():
        default = vars(cls)[name]
        if not isinstance(default, dataclasses.Field):
            setattr(cls, name, _field(default, parents[name].metadata))


def _fix(cls, fixed, parents):
    """Makes fields attributes of the class, which ``dataclasses`` leaves out."""
    for name, value in fixed.items():
        if name not in parents:
            raise TypeError(f"{cls.__name__} fixes {name!r}, which is no knob")
        field = parents.pop(name)
        _field(value, field.metadata)  # a choice that there is
        cls.__annotations__[name] = typing.ClassVar[field.type]
        setattr(cls, name, value)
    for knob, other, readers in _readers(cls):
        if knob in parents and other in fixed and fixed[other] not in readers:
            raise TypeError(
                f"{cls.__name__} fixes {other}={fixed[other]!r}, with which {knob} "
                "has no effect: fix it too"
            )


def sections_of(cls: type) -> dict[str, type]:
    """Name -> dataclass of the sections in that of a dataclass."""
    return {
        name: expected
        for name, expected in _hints(cls).items()
        if isinstance(expected, type) and dataclasses.is_dataclass(expected)
    }


def _hints(cls):
    """Name -> type of the fields of a dataclass; what its class fixes is none."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def role_of(cls: type, name: str) -> str:
    """Role of a field: its own, or that of the class that introduces it."""
    (field,) = (f for f in dataclasses.fields(cls) if f.name == name)
    (*_, first) = (b for b in cls.__mro__ if name in vars(b).get("__annotations__", {}))
    own: str = field.metadata.get("role", "")
    return own or vars(first).get("ROLE", "architecture")


def roles_of(cls: type, prefix: str = "") -> dict[str, str]:
    """Dotted name -> role of every knob of a dataclass and those in it."""
    found: dict[str, Any] = {}
    sections = sections_of(cls)
    for name in _hints(cls):
        if name in sections:
            found |= roles_of(sections[name], f"{prefix}{name}.")
        else:
            found[prefix + name] = role_of(cls, name)
    return found


def range_of(field: dataclasses.Field) -> str:
    """`` from LOW to HIGH`` as its field declares; an end that is none is left out."""
    low, high = field.metadata.get("range", (-math.inf, math.inf))
    low_text = f" from {low:,}" if low > -math.inf else ""
    if "below" in field.metadata:
        return f"{low_text} to below {field.metadata['below']:,}"
    return low_text + (f" to {high:,}" if high < LARGEST else "")


def check_numbers(section: Any, path: str) -> None:
    """Refuses a number outside of the range that its field declares.

    Args: path: how the command line calls the section.
    Raises: ValueError naming the knob, its value and what is legal.
    """
    lowest = {0: "not be negative", 1: "be positive"}
    for field in dataclasses.fields(section):
        if "range" not in field.metadata:
            continue
        value, (low, high) = getattr(section, field.name), field.metadata["range"]
        if not low <= value <= high:
            must = f"be from {low:,} to {high:,}"
            if "below" in field.metadata:
                must = f"be in [{low:,}, {field.metadata['below']:,})"
            elif value < low:
                must = lowest.get(low, must)
            raise ValueError(f"{path}.{field.name}={value} must {must}")


@dataclasses.dataclass(frozen=True)
class Above:
    """Numbers larger than ``limit``, in ``READ_WITH``."""

    limit: float = 0.0

    def __contains__(self, value):
        return value > self.limit

    def __str__(self):
        return f"above {self.limit:g}"


class Reader(NamedTuple):
    """``knob`` has an effect if ``other`` has one of the values ``readers``."""

    knob: str
    other: str
    readers: Any

    def complaint(self, values: Mapping[str, Any]) -> str:
        """What is wrong with a knob that was set for nothing."""
        legal = self.readers
        if isinstance(legal, tuple):
            legal = f"from ({', '.join(map(str, legal))})"
        return (
            f"{self.knob}={values[self.knob]!r} has no effect with "
            f"{self.other}={values[self.other]!r}; take it back, or choose "
            f"{self.other} {legal}"
        )


def readers_of(cls: type, prefix: str = "") -> Iterator[Reader]:
    """What ``READ_WITH`` of a dataclass says, of its parents and of those in it."""
    fixed = vars(cls).get("__dataclass_fields__", {}).keys() - _hints(cls).keys()
    for knob, other, readers in _readers(cls):
        if not {knob, other} & fixed:
            yield Reader(prefix + knob, prefix + other, readers)
    for name, inner in sections_of(cls).items():
        yield from readers_of(inner, f"{prefix}{name}.")


def _readers(cls):
    for base in cls.__mro__:
        for (other, readers), knobs in vars(base).get("READ_WITH", {}).items():
            for knob in knobs:
                yield Reader(knob, other, readers)


def flatten(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted knob, value) of nested mappings."""
    for name, value in section.items():
        if hasattr(value, "items"):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def no_choice(knob: str, value: Any, choices: tuple) -> str:
    """What is wrong with a value that is none of ``choices``."""
    legal = ", ".join(str(item) for item in choices)
    if not choices:
        return f"{knob}={value!r}: there is nothing to choose from"
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
    found: dict[str, Any] = {}
    sections = sections_of(cls)
    for name, expected in _hints(cls).items():
        if name in sections:
            found |= types_of(sections[name], f"{prefix}{name}.")
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
