"""Names of the outputs of a classifier, as ``config.json`` has them."""

from collections.abc import Sequence
from typing import Any

BOTH = 2  # what transformers takes where a file says nothing


def write(labels: Sequence[str]) -> dict:
    """What ``labels`` adds to ``config.json``; nothing if there are none."""
    if not labels:
        return {}
    return {
        "id2label": {str(number): name for number, name in enumerate(labels)},
        "label2id": {name: number for number, name in enumerate(labels)},
    }


def read(values: dict) -> tuple[str, ...]:
    """Names in order; () if there are none, or they only count.

    Raises: ValueError for names that are not numbered from 0, or that occur twice, and
        for outputs that are no alternatives.
    """
    kind = values.get("problem_type")
    if kind == "multi_label_classification":
        raise ValueError(
            f"problem_type={kind!r} has no counterpart: of the labels here one is right"
        )
    given = values.get("id2label")
    if not given:
        return ()
    if not isinstance(given, dict):
        raise ValueError(f"id2label is a {type(given).__name__}, not an object")
    wanted = [str(number) for number in range(len(given))]
    names: tuple[Any, ...] = tuple(given.get(number) for number in wanted)
    if not all(isinstance(name, str) for name in names):
        raise ValueError("id2label must have a name for each of 0, 1, 2, ...")
    if len(set(names)) != len(names):
        raise ValueError("id2label has a name twice")
    return () if names == unnamed(len(names)) else names


def count(values: dict) -> int:
    """How many outputs there are. Raises: as ``read`` does."""
    read(values)
    return len(values.get("id2label") or range(BOTH))


def unnamed(count: int) -> tuple[str, ...]:
    """The names that transformers gives."""
    return tuple(f"LABEL_{number}" for number in range(count))
