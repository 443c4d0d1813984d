"""Arrays of one dimension that are written piece by piece, whatever their size."""

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_HEADER = 128  # bytes of a .npy file of one dimension


class ArrayFile:
    """A .npy file that grows; without a path, the same in memory.

    Attributes:
        size: bytes of the items so far.
    """

    def __init__(self, path: Path | None, dtype: Any) -> None:
        """Goes to the end of what an earlier process left. Raises: OSError."""
        self._path, self._dtype, self._total = path, np.dtype(dtype), 0
        if path is None:
            self._file: Any = io.BytesIO()
        else:
            path.touch()
            self._file = open(path, "r+b")
        self.size = max(self._file.seek(0, io.SEEK_END) - _HEADER, 0)

    def read(self, start: int, size: int) -> bytes:
        """So many bytes of the items, or as many as there are."""
        self._file.seek(_HEADER + start)
        return self._file.read(size)

    def truncate(self, size: int) -> None:
        """Leaves so many bytes of the items, to which others are appended."""
        self._file.truncate(_HEADER + size)
        self._file.seek(_HEADER + size)
        self.size = size

    def append(self, items: np.ndarray) -> None:
        """Items of the array's type."""
        part = np.ascontiguousarray(items, self._dtype).data
        self._file.write(part)
        self._file.flush()
        self.size += part.nbytes

    def append_totals(self, counts: np.ndarray) -> None:
        """Totals of all counts so far, of which the first is 0."""
        if not self.size:
            self.append(np.zeros(1))
        totals = self._total + np.cumsum(counts, dtype=np.int64)
        self._total = int(totals[-1])
        self.append(totals)

    def array(self) -> np.ndarray:
        """All items, memory-mapped if there is a path; the file is closed."""
        count = self.size // self._dtype.itemsize
        if self._path is None:
            if not count:
                return np.zeros(0, self._dtype)
            return np.frombuffer(self._file.getbuffer(), self._dtype, count, _HEADER)
        self._file.seek(0)
        header = {
            "descr": self._dtype.str,
            "fortran_order": False,
            "shape": (count,),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
        if self._file.tell() != _HEADER:
            raise AssertionError(f"a .npy header is not of {_HEADER} bytes")
        self.close()
        return np.load(self._path, mmap_mode="r")

    def close(self) -> None:
        """Leaves the file to later processes; what is in memory stays."""
        if self._path is not None:
            self._file.close()


def ending(path: Path, name: str) -> Path:
    """A path that goes on with a name."""
    return path.with_name(f"{path.name}.{name}")


@contextlib.contextmanager
def new_files(
    path: Path | None, types: Mapping[str, Any]
) -> Iterator[dict[str, ArrayFile]]:
    """An empty `ArrayFile` for each name.

    Args:
        path: folder, and what the names of the files begin with; None: in memory.
        types: name -> type of the items.
    """
    with contextlib.ExitStack() as stack:
        files = {}
        for name, dtype in types.items():
            files[name] = ArrayFile(path and ending(path, name), dtype)
            stack.callback(files[name].close)
            files[name].truncate(0)
        yield files
