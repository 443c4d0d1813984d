"""Confusion: how often each class was taken for each other one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Confusion(NamedTuple):
    """Counts [C, C] of examples, true class by predicted class, and the names."""

    counts: np.ndarray
    names: Sequence[str]

    def worst(self, most: int = 5) -> list[tuple[str, str, int, float]]:
        """(true, predicted, how many, share of the true ones), the commonest first."""
        wrong = np.array(self.counts, float)
        np.fill_diagonal(wrong, 0)
        rows, columns = np.unravel_index(
            np.argsort(-wrong, axis=None, kind="stable")[:most], wrong.shape
        )
        return [
            (
                self.names[row],
                self.names[column],
                int(wrong[row, column]),
                float(wrong[row, column] / np.sum(self.counts[row])),
            )
            for row, column in zip(rows, columns, strict=True)
            if wrong[row, column]
        ]

    def table(self) -> str:
        """Tab-separated: a line for each true class, a column for each predicted."""
        escaped = [" ".join(str(name).split()) for name in self.names]
        lines = ["\t".join(["true \\ predicted", *escaped])]
        for name, row in zip(escaped, np.asarray(self.counts), strict=True):
            lines.append("\t".join([name, *(f"{count:.0f}" for count in row)]))
        return "\n".join([*lines, ""])
