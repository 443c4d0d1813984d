"""Study text: the Python file that says a study, for people to keep and to edit."""

import dataclasses
import re
import textwrap
from typing import Any

from experiments.space import Choice, Range
from experiments.study import Study

WIDTH = 88
_COMMAND = re.compile(r"^ {4}(python -m experiments\.run .*)$", re.MULTILINE)
_TEXT = '''\
"""{question}

Asked with

    {command}

This file may be edited: arms, expectations, settings, seeds. What is changed after runs
exist, the report lists as exploratory.
"""

{imports}

SCALES = ("cpu",)


def get_study(scale):
    return Study(
{fields}
    )
'''


def write(study: Study, question: str, command: str) -> str:
    """The text of a file whose ``get_study`` gives ``study``; defaults are left out.

    Args: command: one line that asks the same.
    """
    given = {
        field.name: getattr(study, field.name)
        for field in dataclasses.fields(study)
        if field.default is dataclasses.MISSING
        or getattr(study, field.name) != field.default
    }
    fields = [
        f"{' ' * 8}{name}={_literal(value, 8, len(name) + 2)},"
        for name, value in given.items()
        if value != {}
    ]
    question = textwrap.fill(" ".join(question.split()), WIDTH)
    return _TEXT.format(
        question=_escaped(question),
        command=_escaped(command),
        imports="\n".join(_imports(study)),
        fields="\n".join(fields),
    )


def command_of(text: str) -> str:
    """The command that a file was written for; "" of one that no command has."""
    command = _COMMAND.search(text)
    return re.sub(r"\\(.)", r"\1", command[1]) if command else ""


def _escaped(text):
    """As it stands in a docstring."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _imports(study):
    names = {_call(values)[0] for values in study.tune.values() if _call(values)[0]}
    if names:
        yield f"from experiments.space import {', '.join(sorted(names))}"
    yield "from experiments.study import Study"


def _call(value):
    """The function that makes a range or a choice, and what it takes."""
    if isinstance(value, Range):
        return value.scale, (value.low, value.high)
    return ("choice", value.choices) if isinstance(value, Choice) else ("", value)


def _literal(value: Any, indent: int, before: int) -> str:
    """Python for ``value``, in the form of ``ruff format``.

    Args: indent: of the line. before: what else stands on it, the last comma included.
    """
    if isinstance(value, str):
        text = repr(value)
        return text if '"' in text else f'"{text[1:-1]}"'
    function, value = _call(value)
    if not isinstance(value, tuple | list | dict):
        return repr(value)
    opening, closing = "{}" if isinstance(value, dict) else (f"{function}(", ")")
    names = [f"{_literal(k, 0, 0)}: " for k in value]
    items = list(value.values()) if isinstance(value, dict) else list(value)
    if not isinstance(value, dict):
        names = [""] * len(items)
    parts = [n + _literal(x, 0, -WIDTH) for n, x in zip(names, items, strict=True)]
    comma = "," if len(items) == 1 and closing == ")" else ""
    flat = opening + ", ".join(parts) + comma + closing
    nested = any(isinstance(item, dict) and item for item in items)
    if indent + before + len(flat) <= WIDTH and not nested:
        return flat
    inner = indent + 4
    lines = [
        f"{' ' * inner}{name}{_literal(item, inner, len(name) + 1)},"
        for name, item in zip(names, items, strict=True)
    ]
    return "\n".join([opening, *lines, " " * indent + closing])
