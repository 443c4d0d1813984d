"""Rows of running text that are cut out of one array where they are indexed."""

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
        self._step = self._length - self._context
        if "first" in arrays:
            rows, self._take = len(arrays["first"]) - 1, self._pieces
        else:
            targets = len(ids) - 1
            rows = max(-(-(targets - self._context) // self._step), 1)
            whole = max((targets - self._length) // self._step + 1, 0)
            self._whole = np.lib.stride_tricks.as_strided(
                ids,
                (whole, self._length + 1),
                (self._step * ids.itemsize, ids.itemsize),
                writeable=False,
            )
            self._take = self._windows
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

    def take(self, chosen: np.ndarray) -> CausalBatch:
        """The rows of these numbers [B]; fields of the same object are made once."""
        numbers, rows = self._newest
        if numbers is not chosen:
            rows = self._take(chosen) if len(chosen) else self._none()
            self._newest = chosen, rows
            self._forget(len(chosen))
        return rows

    def _none(self):
        one = self._take(np.zeros(1, np.int64))
        return CausalBatch(*(field if field is None else field[:0] for field in one))

    def _forget(self, rows):
        """Gives back the memory in which parts of the files lie that were read."""
        self._read += rows * max(self._length, _AROUND)
        if self._read > _MAPPED:
            self._read = 0
            for mapped in self._maps:
                mapped.madvise(mmap.MADV_DONTNEED)

    def _windows(self, chosen):
        """A row is one piece, the last one may be shorter."""
        length, ids, context = self._length, self._plain["ids"], self._context
        if chosen.max(initial=0) < len(self._whole):
            taken = self._whole[chosen]
            segments = np.ones((len(chosen), length), np.int32)
        else:
            places = chosen[:, None] * self._step + np.arange(length + 1)
            taken = ids[np.minimum(places, len(ids) - 1)]
            segments = (places[:, 1:] < len(ids)).astype(np.int32)
        tokens, labels = (taken[:, some].astype(np.int32) for some in _SHIFTED)
        weights = segments.astype(np.float32)
        weights[chosen > 0, :context] = 0
        if context or not segments.all():
            tokens, labels = tokens * segments, labels * (weights > 0)
        return CausalBatch(tokens, segments, None, None, labels, weights)

    def _pieces(self, chosen):
        """Padding is one more piece of each row, maybe without a token."""
        ids, starts, lengths, first = map(self._plain.get, _PIECES)
        counts = first[chosen + 1] - first[chosen]
        ends = np.cumsum(counts + 1) - 1  # the numbers of the paddings
        real = np.ones(ends[-1] + 1, bool)
        real[ends] = False
        segment = np.arange(1, len(real) + 1) - np.repeat(ends - counts, counts + 1)
        segment[ends] = 0
        pieces = np.repeat(first[chosen], counts) + segment[real] - 1
        begins, widths = np.zeros((2, len(real)), np.int64)
        begins[real], widths[real] = starts[pieces], lengths[pieces]
        widths[ends] = self._length - np.add.reduceat(widths, ends - counts)
        before = np.cumsum(widths) - widths  # tokens of all rows that are laid out
        segments = np.repeat(segment.astype(np.int32), widths)
        positions = np.arange(len(segments), dtype=np.int32)
        positions -= np.repeat(before.astype(np.int32), widths)
        tokens = ids.take(np.repeat(begins, widths) + positions, mode="clip")
        tokens = tokens.astype(np.int32)
        last = (before + widths - 1)[real]
        labels = np.empty_like(tokens)
        labels[:-1] = tokens[1:]
        labels[last] = ids[(begins + widths)[real]]
        padding = np.flatnonzero(segments == 0)
        for field in (tokens, labels, positions):
            field[padding] = 0
        weights = (segments > 0).astype(np.float32)
        if self.settings["last"]:
            weights[:] = 0
            weights[last] = 1
        fields = (tokens, segments, positions, labels, weights)
        shape = len(chosen), self._length
        tokens, segments, positions, labels, weights = (
            field.reshape(shape) for field in fields
        )
        return CausalBatch(tokens, segments, positions, None, labels, weights)


def tokens_of(rows: Any) -> int:
    """Tokens of a row set of text, padding left out."""
    if isinstance(rows.segments, Field):
        return rows.segments.rows.tokens
    return int((rows.segments > 0).sum())


def _file(path, name):
    return path.with_name(f"{path.name}-{name}.npy")


def _mapped(path, names):
    return {name: np.load(_file(path, name), mmap_mode="r") for name in names}


_PIECES = "ids", "starts", "lengths", "first"
_SHIFTED = slice(None, -1), slice(1, None)


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
            return getattr(self.rows.take(key), self._name)
        chosen = range(len(self))[key]
        if isinstance(chosen, range):
            return self[np.arange(chosen.start, chosen.stop, chosen.step)]
        return self[np.array([chosen])][0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy
        return self[:].astype(dtype or self.dtype, copy=False)
