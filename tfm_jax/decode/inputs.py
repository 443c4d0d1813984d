"""Arrays that callers hand to models, checked before anything is looked up.

A table clips what is out of its range, so that a wrong id would give a wrong number.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Rows = Sequence[Sequence[int] | np.ndarray]  # token ids of several texts
AXES = ("", "[T]", "[B, T]")  # by how many there are


def integers(
    values: ArrayLike, name: str, below: int, *, least: int = 0, axes: int = 2
) -> np.ndarray:
    """``values`` as int32, all in ``least`` .. ``below`` - 1.

    Raises: ValueError naming ``name``, the first value out of range and the range.
    """
    values = np.asarray(values)
    if values.ndim != axes or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(
            f"{name} must be integers {AXES[axes]}, not {values.dtype} {values.shape}"
        )
    wrong = values[(values < least) | (values >= below)]
    if wrong.size:
        raise ValueError(f"{name} has {wrong[0]}, outside of {least} .. {below - 1}")
    return values.astype(np.int32)


def like(values: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """``values`` themselves. Raises: ValueError unless they have this shape."""
    if values.shape != shape:
        raise ValueError(f"{name} has the shape {values.shape}; expected {shape}")
    return values


def check_rows(rows: Rows, cfg: Any, fields: Mapping[str, Sequence[ArrayLike]]) -> None:
    """The ids, and further entries of each row, fit a model of text.

    Args: rows: list of int arrays [T]. cfg: of the model. fields: name in ``types``,
        ``target_positions`` and ``labels`` -> a list like ``rows``.
    Raises: ValueError naming the row.
    """
    for number, row in enumerate(rows):
        integers(row, f"text {number}", cfg.vocab, axes=1)
        ranges = {
            "types": getattr(cfg, "types", 2),
            "target_positions": len(row),
            "labels": cfg.vocab,
        }
        for name, values in fields.items():
            integers(values[number], f"{name} of text {number}", ranges[name], axes=1)
