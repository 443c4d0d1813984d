"""A field of rows whose items several rows share, such as the captions of an image."""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Gathered:
    """An array [R, N, ...] that is made of its items where it is indexed.

    Attributes:
        items: [M, ...], each of them once.
        index: [R, N] int32, the number of an item; below 0: none, but zeros.
    """

    items: np.ndarray
    index: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return *self.index.shape, *self.items.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        """Of the array."""
        return self.items.dtype

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Args: key: of the first axis, or of the first two."""
        index = np.asarray(self.index[key])
        there = index >= 0
        taken = np.zeros((*index.shape, *self.items.shape[1:]), self.dtype)
        taken[there] = self.items[index[there]]
        return taken
