"""Registries: tables by name to which files of others add rows of their own."""

import sys
from typing import TypeVar

T = TypeVar("T")
_MAKERS: dict[tuple[str, str], str] = {}  # (what it is called, name) -> module


def enter(table: dict[str, T], kind: str, name: str, row: T) -> None:
    """Adds a row for whoever called the caller of this function.

    A module that runs again, as a configuration's file does for each arm of a study and
    a cell of a notebook, replaces what it has added.

    Raises: ValueError if another module has added another row of that name.
    """
    maker = sys._getframe(2).f_globals["__name__"]
    former = table.setdefault(name, row)
    if former is not row and _MAKERS.get((kind, name)) != maker:
        raise ValueError(f"{kind}={name!r} is taken, like all of {tuple(table)}")
    table[name] = row
    _MAKERS.setdefault((kind, name), maker)
