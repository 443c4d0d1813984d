"""What ``--help`` says of every knob: its value, what it may be and what it means."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from tfm_jax.config import range_of, to_flag, type_name


def describe(sections: Mapping[str, Any]) -> str:
    """A line for each knob: its flag and value, what it may be, what it means.

    Args: sections: name -> dataclass instance, None if the task has no such section, or
        a plain value.
    """
    return "\n".join(
        f"{flag:<48}  {legal}{f'  # {meaning}' if meaning else ''}".rstrip()
        for flag, legal, meaning in _lines(sections)
    )


def _lines(sections):
    for name, built in sections.items():
        if built is None:
            continue
        if not dataclasses.is_dataclass(built):
            yield f"--config.{name}={to_flag(built)}", "", ""
            continue
        types = typing.get_type_hints(type(built))
        for field in dataclasses.fields(built):
            value, knob = getattr(built, field.name), f"{name}.{field.name}"
            if dataclasses.is_dataclass(value):
                yield from _lines({knob: value})
                continue
            legal = ", ".join(field.metadata.get("choices", ()))
            if not legal:
                legal = type_name(types[field.name]) + range_of(field)
            flag = f"--config.{knob}={to_flag(value)}"
            yield flag, legal, field.metadata.get("help", "")
