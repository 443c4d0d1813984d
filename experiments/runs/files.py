"""Run files: the JSON that runs and their runners leave, whole or left out."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfm_jax.api import (
    DataError,
    InfrastructureError,
    one_line,
    read_history,
    read_object,
)


def read(
    path: Path, legal: Callable[[dict], Any] = lambda content: True
) -> dict | None:
    """The object in a file; None if there is no such file.

    A damaged file is as good as none, with a warning that names it.

    Args: legal: whether an object is what belongs there; may raise what it stumbles on.
    Raises: InfrastructureError if the file cannot be read at all.
    """
    try:
        content = read_object(path)
        if legal(content):
            return content
        reason = "holds something else"
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InfrastructureError(f"{path} cannot be read: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = str(error) if type(error) is ValueError else "lacks what belongs there"
    warnings.warn(f"{one_line(path)} is damaged and left out: {reason}", stacklevel=2)
    return None


def read_or_set_aside(path: Path, legal: Callable[[dict], Any]) -> dict | None:
    """``read`` of a file that is about to be replaced: a damaged one is kept beside."""
    content = read(path, legal)
    if content is None and path.exists():
        aside = path.with_name(f"{path.name}.damaged")
        while aside.exists():
            aside = aside.with_name(f"{aside.name}+")
        path.rename(aside)
    return content


def results(directory: Path) -> dict | None:
    """``results.json`` of a run: split -> score -> value, besides other facts."""
    return read(directory / "results.json")


def scores(results: Mapping) -> dict[str, float]:
    """``split/score`` -> value, of the object in ``results.json``."""
    return {
        f"{split}/{score}": value
        for split, of_split in results.items()
        if isinstance(of_split, dict)
        for score, value in of_split.items()
        if is_number(value)
    }


def history(directory: Path) -> list[dict]:
    """The record of a run; [] if there is none or, with a warning, it is no file."""
    try:
        return read_history(directory)
    except FileNotFoundError:
        return []
    except DataError as error:
        warnings.warn(one_line(error), stacklevel=2)
        return []


def is_number(value: object) -> bool:
    """Whether ``value`` is one as JSON has them; a boolean is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
