"""Rows of running text that are cut out of one array where they are indexed."""

import functools
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfm_jax.data.batch import CausalBatch

_MAPPED = 1 << 27  # bytes of files that stay mapped, at most about
_AROUND = 1 << 16  # bytes that the system maps where one is read


class Rows:
    """What all rows are cut from: token ids, and where each piece of a row starts.

    Attributes:
        arrays: ids [N], see `flat.Flat`; unless rows follow one another, pieces in the
            order of rows: starts [P] into ids, lengths [P], and first [R + 1], the
            number of the first piece of each row.
        settings: plain JSON: length T; ``context``, so many tokens repeat those of the
            row before and are no targets; ``last``: of each piece only the last label
            counts.
    """

    def __init__(
        self, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]
    ) -> None:
        self.settings = {**settings}
        self._use(arrays)

    def _use(self, arrays):
        settings, self.arrays = self.settings, {**arrays}
        self._plain = {name: np.asarray(array) for name, array in arrays.items()}
        self._maps = [x._mmap for x in arrays.values() if isinstance(x, np.memmap)]
        self._length, ids = settings["length"], self._plain["ids"]
        self._context = settings["context"]
        if "first" in arrays:
            rows, some = len(arrays["first"]) - 1, (self._plain, self._length)
            self._made = functools.partial(_Pieces, *some, settings["last"])
        else:
            targets, step = len(ids) - 1, self._length - self._context
            rows = max(-(-(targets - self._context) // step), 1)
            whole = np.lib.stride_tricks.as_strided(
                ids,
                (max((targets - self._length) // step + 1, 0), self._length + 1),
                (step * ids.itemsize, ids.itemsize),
                writeable=False,
            )
            some = ids, whole, self._length, self._context
            self._made = functools.partial(_Windows, *some)
        self.shape = rows, self._length
        self._read, self._newest = 0, (None, None)

    @classmethod
    def read(cls, said: Mapping[str, Any], path: Path) -> "Rows":
        """What ``move`` left, mapped into memory. Args: said: what it returned."""
        return cls(_mapped(path, said["arrays"]), said["settings"])

    def move(self, path: Path) -> dict[str, Any]:
        """Writes and maps arrays of memory, renames files. Returns: plain JSON.

        Args: path: folder, and what the names of the files begin with.
        """
        for name, array in self.arrays.items():
            if isinstance(array, np.memmap) and array.filename:
                os.replace(array.filename, _file(path, name))
            else:
                np.save(_file(path, name), array)
        self._use(_mapped(path, self.arrays))
        return {"arrays": [*self.arrays], "settings": self.settings}

    @property
    def tokens(self) -> int:
        """Of all rows, padding left out."""
        if "first" in self.arrays:
            return int(self.arrays["lengths"].sum(dtype=np.int64))
        repeated = (self.shape[0] - 1) * self._context
        return len(self.arrays["ids"]) - 1 + repeated

    def fields(self) -> CausalBatch:
        """All rows, each field made where it is indexed."""
        absent = {"types"} if "first" in self.arrays else {"types", "positions"}
        names = (*CausalBatch._fields,)
        return CausalBatch(*(None if n in absent else Field(self, n) for n in names))

    def take(self, chosen: np.ndarray, name: str) -> np.ndarray:
        """A field of the rows of these numbers [B], kept for others of the object."""
        numbers, rows = self._newest
        if numbers is not chosen:
            rows = self._made(chosen)
            self._newest = chosen, rows
            self._forget(len(chosen))
        return getattr(rows, name)

    def _forget(self, rows):
        """Gives back the memory in which parts of the files lie that were read."""
        self._read += rows * max(self._length, _AROUND)
        if self._read > _MAPPED:
            self._read = 0
            for mapped in self._maps:
                mapped.madvise(mmap.MADV_DONTNEED)


class _Windows:
    """Rows of one piece each, of which the last may be shorter; [B, T] where asked."""

    positions = types = None

    def __init__(self, ids, whole, length, context, chosen):
        self._ids, self._whole, self._context = ids, whole, context
        self._length, self._chosen = length, chosen

    @functools.cached_property
    def _places(self):
        """Of the tokens [B, T + 1] in ``ids``; None: all of them are there."""
        if self._chosen.max() < len(self._whole):
            return None
        starts = self._chosen[:, None] * (self._length - self._context)
        return starts + np.arange(self._length + 1)

    @functools.cached_property
    def _taken(self):
        if self._places is None:
            return self._whole[self._chosen]
        return self._ids[np.minimum(self._places, len(self._ids) - 1)]

    @functools.cached_property
    def segments(self):
        if self._places is None:
            return np.ones((len(self._chosen), self._length), np.int32)
        return (self._places[:, 1:] < len(self._ids)).astype(np.int32)

    @functools.cached_property
    def tokens(self):
        tokens = self._taken[:, :-1].astype(np.int32)
        return tokens if self._places is None else tokens * self.segments

    @functools.cached_property
    def labels(self):
        labels = self._taken[:, 1:].astype(np.int32)
        plain = self._places is None and not self._context
        return labels if plain else labels * (self.weights > 0)

    @functools.cached_property
    def weights(self):
        weights = self.segments.astype(np.float32)
        weights[self._chosen > 0, : self._context] = 0
        return weights


class _Pieces:
    """Rows of any pieces, each field [B, T] made where it is asked for.

    Padding is one more piece of each row, maybe without a token.
    """

    types = None

    def __init__(self, arrays, length, last, chosen):
        ids, starts, lengths, first = map(
            arrays.get, ("ids", "starts", "lengths", "first")
        )
        counts = first[chosen + 1] - first[chosen]
        ends = np.cumsum(counts + 1) - 1  # the numbers of the paddings
        real = np.ones(ends[-1] + 1, bool)
        real[ends] = False
        segment = np.arange(1, len(real) + 1) - np.repeat(ends - counts, counts + 1)
        segment[ends] = 0
        pieces = np.repeat(first[chosen], counts) + segment[real] - 1
        begins, widths = np.zeros((2, len(real)), np.int64)
        begins[real], widths[real] = starts[pieces], lengths[pieces]
        widths[ends] = length - np.add.reduceat(widths, ends - counts)
        self._ids, self._begins, self._widths = ids, begins, widths
        self._before = np.cumsum(widths) - widths  # tokens of all rows in front
        self._last = (self._before + widths - 1)[real] if last else None
        self._shape = len(chosen), length
        self.segments = self._repeated(segment.astype(np.int32))

    def _repeated(self, values):
        """Of each piece, for each of its tokens."""
        return np.repeat(values, self._widths).reshape(self._shape)

    def _tokens(self, offset):
        places = self._repeated(self._begins) + self.positions + offset
        tokens = self._ids.take(places, mode="clip").astype(np.int32)
        return tokens * (self.segments > 0)

    @functools.cached_property
    def positions(self):
        places = np.arange(self.segments.size, dtype=np.int32).reshape(self._shape)
        positions = places - self._repeated(self._before.astype(np.int32))
        return positions * (self.segments > 0)

    @functools.cached_property
    def tokens(self):
        return self._tokens(0)

    @functools.cached_property
    def labels(self):
        return self._tokens(1)

    @functools.cached_property
    def weights(self):
        if self._last is None:
            return (self.segments > 0).astype(np.float32)
        weights = np.zeros(self._shape, np.float32)
        weights.flat[self._last] = 1
        return weights


def tokens_of(rows: Any) -> int:
    """Tokens of a row set of text, padding left out."""
    if isinstance(rows.segments, Field):
        return rows.segments.rows.tokens
    return int((rows.segments > 0).sum())


def _file(path, name):
    return path.with_name(f"{path.name}-{name}.npy")


def _mapped(path, names):
    return {name: np.load(_file(path, name), mmap_mode="r") for name in names}


class Field:
    """One field of rows: an array [R, T] that is made where it is indexed."""

    def __init__(self, rows: Rows, name: str) -> None:
        self.rows, self._name = rows, name
        self.shape, self.ndim = rows.shape, 2
        self.dtype = np.dtype(np.float32 if name == "weights" else np.int32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Args: key: of rows: a number, a slice or numbers [B]."""
        if isinstance(key, np.ndarray) and key.dtype != bool:
            none = np.zeros((0, *self.shape[1:]), self.dtype)
            return self.rows.take(key, self._name) if len(key) else none
        chosen = range(len(self))[key]
        if isinstance(chosen, range):
            return self[np.arange(chosen.start, chosen.stop, chosen.step)]
        return self[np.array([chosen])][0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy
        return self[:].astype(dtype or self.dtype, copy=False)
