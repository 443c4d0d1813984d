"""Rows gathered from token arrays that are mapped into memory."""

import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

AT_ONCE = 1 << 18  # items that are laid out in rows at once
_MAPPED = 1 << 26  # bytes of files that stay mapped, at most about
_AROUND = 1 << 19  # bytes that the system maps where a row is read, at most about


class MappedRows:
    """Rows of one shape whose fields are gathered where they are indexed.

    A subclass says what it gathers: ``batch``, a NamedTuple of fields; ``_kinds()``,
    name -> (shape, dtype) of those that are there; ``_gather(chosen, at_once)``, an
    object whose attributes are these fields of the rows of some numbers [B], each made
    where it is asked for, or all at once.

    Attributes:
        mapped: name -> array, memory-mapped or in memory.
        arrays: the same without the type of those that are mapped.
        settings: how rows lie in them; plain JSON.
    """

    batch: type

    def __init__(
        self, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]
    ) -> None:
        self.settings = {**settings}
        self._use(arrays)

    def _use(self, arrays):
        self.mapped = {**arrays}
        self.arrays = {name: np.asarray(array) for name, array in arrays.items()}
        size = sum(x.nbytes for x in arrays.values() if isinstance(x, np.memmap))
        self._is_large = size > _MAPPED
        self._there, self._read = self._kinds(), 0

    @classmethod
    def read(cls, said: Mapping[str, Any], path: Path) -> "MappedRows":
        """What ``move`` left, mapped into memory. Args: said: what it returned."""
        return cls(_mapped(path, said["arrays"]), said["settings"])

    def move(self, path: Path) -> dict[str, Any]:
        """Writes and maps arrays of memory, renames files. Returns: plain JSON.

        Args: path: folder, and what the names of the files begin with.
        """
        for name, array in self.mapped.items():
            if isinstance(array, np.memmap) and array.filename:
                os.replace(array.filename, _file(path, name))
            else:
                np.save(_file(path, name), array)
        self._use(_mapped(path, self.arrays))
        return {"arrays": [*self.arrays], "settings": self.settings}

    def fields(self) -> Any:
        """All rows, a ``batch`` each field of which is gathered where it is indexed."""
        there = {name: Field(self, name, *x) for name, x in self._there.items()}
        return self._batch_of(there)

    def take(self, chosen: np.ndarray) -> Any:
        """A ``batch`` of the rows of these numbers [B]."""
        self._forget(len(chosen))
        rows = self._gather(chosen, at_once=True)
        return self._batch_of({name: getattr(rows, name) for name in self._there})

    def field(self, name: str, chosen: np.ndarray) -> np.ndarray:
        """One field of the rows of these numbers [B]."""
        self._forget(len(chosen))
        return getattr(self._gather(chosen, at_once=False), name)

    def _batch_of(self, fields):
        return self.batch(*map(fields.get, self.batch._fields))

    @property
    def tokens(self) -> int:
        """Of all rows, padding left out."""
        raise NotImplementedError

    def _kinds(self) -> dict[str, tuple]:
        raise NotImplementedError

    def _gather(self, chosen: np.ndarray, at_once: bool) -> Any:
        raise NotImplementedError

    def _forget(self, rows):
        """Releases what was read, of large files from time to time."""
        if self._is_large:
            self._read += rows * _AROUND
            if self._read > _MAPPED:
                self._read = 0
                release(*self.mapped.values())


class Field:
    """One field of rows: an array whose rows are gathered where they are indexed."""

    def __init__(self, rows: MappedRows, name: str, shape: tuple, dtype: Any) -> None:
        self.rows, self._name = rows, name
        self.shape, self.ndim, self.dtype = shape, len(shape), np.dtype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Args: key: of rows: a number, a slice or numbers [B]; negative: from the end.

        Raises: IndexError if there is no such row.
        """
        if isinstance(key, np.ndarray) and key.dtype.kind != "b":
            return self._gathered(key)
        chosen = range(len(self))[key]
        if isinstance(chosen, range):
            return self._gathered(np.arange(chosen.start, chosen.stop, chosen.step))
        return self._gathered(np.array([chosen]))[0]

    def _gathered(self, chosen):
        count = len(self)
        if not len(chosen):
            return np.zeros((0, *self.shape[1:]), self.dtype)
        if not -count <= chosen.min() <= chosen.max() < count:
            raise IndexError(f"rows {chosen.min()} to {chosen.max()} of {count}")
        if chosen.min() < 0:
            chosen = chosen % count
        return self.rows.field(self._name, chosen)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy
        return self[:].astype(dtype or self.dtype, copy=False)


def release(*arrays: np.ndarray) -> None:
    """Gives back the memory in which parts of memory-mapped files lie."""
    for array in arrays:
        if isinstance(array, np.memmap):
            array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def parts(array: np.ndarray) -> Iterator[np.ndarray]:
    """AT_ONCE items after the other; those of a file are released behind them."""
    for first in range(0, len(array), AT_ONCE):
        yield array[first : first + AT_ONCE]
        release(array)


def rows_of(fields: Any) -> MappedRows | None:
    """What gathers the fields of rows; None if they are arrays."""
    field = next(iter(fields))
    return field.rows if isinstance(field, Field) else None


def tokens_of(fields: Any) -> int:
    """Tokens of rows of text, padding left out."""
    if rows := rows_of(fields):
        return rows.tokens
    return int((fields.segments > 0).sum())


def _file(path, name):
    return path.with_name(f"{path.name}-{name}.npy")


def _mapped(path, names):
    return {name: np.load(_file(path, name), mmap_mode="r") for name in names}


def spans(array: np.ndarray, starts: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Parts of an array end to end. Args: starts, widths: [n] int64."""
    places = np.repeat(starts - (np.cumsum(widths) - widths), widths)
    places += np.arange(len(places))
    return array.take(places)


def laid_out(fields: Sequence[np.ndarray], counts: np.ndarray) -> np.ndarray:
    """Fields of rows as `Windows.of_rows` reads them.

    Args:
        fields: [N] each, one row after the other.
        counts: [R], items of each row.
    """
    items = np.empty(len(fields) * len(fields[0]), np.result_type(*fields))
    before = np.repeat(np.cumsum(counts) - counts, counts)
    into = np.arange(len(before)) + before * (len(fields) - 1)
    for field in fields:
        items[into] = field
        into += np.repeat(counts, counts)
    return items


class Windows:
    """Parts of an array as fields [B, T] of rows, 0 behind the end of each row."""

    def __init__(
        self,
        array: np.ndarray,
        starts: np.ndarray,
        counts: np.ndarray,
        length: int,
        *,
        at_once: bool,
    ) -> None:
        """Args.

        array: [N].
        starts: [F, B], where F fields of each row begin in it.
        counts: [B], so many items each of them has.
        length: T.
        at_once: all fields are gathered now; else each where it is asked for.
        """
        self._array, self._starts, self._real = array, starts, None
        self._shape = len(counts), length
        if counts.min() < length:
            kind = np.int16 if length < 1 << 15 else np.int32  # the narrower the faster
            columns: Any = np.arange(length, dtype=kind)
            self._real = columns < counts.astype(kind)[:, None]
        self._items = self._gathered(starts) if at_once else None

    @classmethod
    def of_rows(
        cls,
        array: np.ndarray,
        offsets: np.ndarray,
        chosen: np.ndarray,
        length: int,
        fields: int = 1,
        *,
        at_once: bool,
    ) -> "Windows":
        """Row n has the items from ``offsets[n]`` to ``offsets[n + 1]`` of each field.

        Its fields lie one behind the other, and so do rows.
        """
        before = offsets.take(chosen)
        counts = offsets.take(chosen + 1) - before
        starts = np.arange(fields)[:, None] * counts
        starts += before if fields == 1 else before * fields
        return cls(array, starts, counts, length, at_once=at_once)

    def __getitem__(self, field: int) -> np.ndarray:
        """[B, T] int32."""
        if self._items is None:
            return self._gathered(self._starts[field])
        return self._items[field]

    def real(self, dtype: Any) -> np.ndarray:
        """[B, T], 1 where there is an item."""
        if self._real is None:
            return np.ones(self._shape, dtype)
        return self._real.astype(dtype)

    def _gathered(self, starts):
        array, (_, length) = self._array, self._shape
        if starts.max() + length <= len(array):
            shape, strides = (len(array) - length + 1, length), array.strides * 2
            every = np.ndarray(shape, array.dtype, array, 0, strides)
            items = every[starts]
        else:
            places = starts[..., None] + np.arange(length)
            items = array.take(places, mode="clip")
        if self._real is not None:
            items *= self._real.astype(items.dtype)
        return items.astype(np.int32)
