"""What ``--help`` says of every knob: its value, what it may be and what it means."""

import ast
import dataclasses
import functools
import inspect
import io
import textwrap
import tokenize
import typing
from collections.abc import Mapping
from typing import Any

from tfm_jax.config import range_of, to_flag, type_name


def describe(sections: Mapping[str, Any]) -> str:
    """A line for each knob: its flag and value, what it may be, what it means.

    Args: sections: name -> dataclass instance, or name -> plain value.
    """
    return "\n".join(
        f"{flag:<48}  {legal}{f'  # {meaning}' if meaning else ''}".rstrip()
        for flag, legal, meaning in _lines(sections)
    )


def _lines(sections):
    for name, built in sections.items():
        if not dataclasses.is_dataclass(built):
            yield f"--config.{name}={to_flag(built)}", "", ""
            continue
        types, said = typing.get_type_hints(type(built)), meanings(type(built))
        for field in dataclasses.fields(built):
            value, knob = getattr(built, field.name), f"{name}.{field.name}"
            if dataclasses.is_dataclass(value):
                yield from _lines({knob: value})
                continue
            legal = ", ".join(field.metadata.get("choices", ()))
            if not legal:
                legal = type_name(types[field.name]) + range_of(field)
            flag = f"--config.{knob}={to_flag(value)}"
            yield flag, legal, field.metadata.get("help") or said.get(field.name, "")


@functools.cache
def meanings(cls: type) -> dict[str, str]:
    """Field -> the comment beside it in the code, or the one above it.

    That of the class which declares a field last counts; one that only changes a
    default may leave it to the class below. Empty where there is no source.
    """
    found = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            found |= _of_class(base)
    return found


def _of_class(cls):
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except OSError:
        return {}
    comments, alone = {}, set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line = token.start[0]
            comments[line] = token.string.removeprefix("#").strip()
            if token.line.lstrip().startswith("#"):
                alone.add(line)
    found = {}
    for node in ast.parse(source).body[0].body:
        if isinstance(node, ast.AnnAssign):
            lines = range(node.lineno, node.end_lineno + 1)
            beside = [comments[n] for n in lines if n in comments]
            above = []
            line = node.lineno - 1
            while line in alone:
                above.insert(0, comments[line])
                line -= 1
            if beside or above:
                found[node.target.id] = " ".join(beside or above)
    return found
