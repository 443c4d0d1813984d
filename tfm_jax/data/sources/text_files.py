"""Parallel text files: two files line by line, or one tab-separated file."""

import collections
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any, Protocol

from tfm_jax.data.errors import DataError
from tfm_jax.data.tokenizers.normalize import decode
from tfm_jax.data.watchdog import awaited, each

_PIECE = 1 << 24  # bytes that are read at once
_BLOCK = 1 << 20  # the same of a file that may be packed


def load(cfg: Any, split: str) -> tuple["Texts", "Texts", dict[str, Any]]:
    """The line pairs of one split: (sources, targets, report).

    Raises: DataError for a missing or damaged file, unequal line counts, a row of a
        tab-separated file without two columns, or bytes that are not UTF-8.
    """
    knob = f"data.{split}_files"
    paths = getattr(cfg, f"{split}_files")
    if not paths:
        if split == "train":
            raise DataError(f"{knob} is empty; name two text files or one .tsv")
        return [], [], {"files": {}}
    if len(paths) > 2:
        raise DataError(f"{knob} names {len(paths)} files; name two, or one .tsv")
    read = [Lines(path, knob, cfg.invalid_utf8) for path in paths]
    files = {str(path): lines.report for path, lines in zip(paths, read, strict=True)}
    if len(paths) == 1:
        _check_columns(read[0], paths[0])
        return Column(read[0], 0), Column(read[0], 1), {"files": files}
    sources, targets = read
    if len(sources) != len(targets):
        raise DataError(
            f"{knob}: {paths[0]} has {len(sources)} lines, "
            f"{paths[1]} has {len(targets)}; line n of one must belong to line n "
            f"of the other"
        )
    return sources, targets, {"files": files}


def read_lines(
    path: str | Path, knob: str, invalid_utf8: str
) -> tuple[list[str], dict[str, Any]]:
    """`Lines` of a file in memory, and what was seen on the way."""
    lines = Lines(path, knob, invalid_utf8)
    return [*lines], lines.report


class Texts(Sized, Iterable[str], Protocol):
    """Texts that can be iterated again."""


class Lines:
    r"""The lines of a plain or gzipped UTF-8 file, read anew by each iteration.

    Only ``\n`` ends a line: ``str.splitlines`` and text mode also split at U+2028,
    U+0085 or a lone CR, and one such character would shift a parallel corpus from
    there to its end. One CR before the ``\n`` and one leading byte order mark go.

    Attributes:
        report: sha256 of the bytes, lines, and how many of them are no UTF-8.
    """

    def __init__(self, path: str | Path, knob: str, invalid_utf8: str) -> None:
        """Reads them once. Raises: DataError."""
        self._path, self._invalid_utf8 = path, invalid_utf8
        self._pieces, sha256 = Unpacked(path, knob), hashlib.sha256()
        count = invalid = 0
        for _, replaced in self._decoded(hashed(self._pieces, sha256)):
            count, invalid = count + 1, invalid + replaced
        self.report: dict[str, Any] = {
            "sha256": sha256.hexdigest(),
            "lines": count,
            "invalid_utf8_lines": invalid,
        }

    def __len__(self) -> int:
        return self.report["lines"]

    def __iter__(self) -> Iterator[str]:
        return (line for line, _ in self._decoded(self._pieces))

    def _decoded(self, pieces):
        return lines_of(_byte_lines(pieces), self._path, self._invalid_utf8)


class Column:
    """One column of `Lines` that have two, separated by a tab."""

    def __init__(self, lines: Lines, number: int) -> None:
        self._lines, self._number = lines, number

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[str]:
        return (line.split("\t")[self._number] if line else "" for line in self._lines)


def _byte_lines(pieces):
    """The same bytes line by line, as a binary file gives them."""
    held = []
    for piece in pieces:
        cut = piece.rfind(b"\n") + 1
        if cut:
            yield from io.BytesIO(b"".join([*held, piece[:cut]]))
            held = []
        held.append(piece[cut:])
    yield from io.BytesIO(b"".join(held))


def lines_of(
    file: Iterable[bytes], name: object, invalid_utf8: str
) -> Iterator[tuple[str, bool]]:
    """(line, whether bytes were replaced) of a binary file, one after the other.

    Args: name: of the file, in messages. invalid_utf8: "error" or "replace".
    """
    for number, line in enumerate(file, start=1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        yield decode(line, invalid_utf8, f"{name}: line {number}")


def column_count(rows: Iterable[Sequence[str]], needed: int) -> int:
    """Columns of a table without a header: those of most of its rows, or ``needed``."""
    counts = collections.Counter(map(len, rows)).most_common(1)
    return max([needed, *(count for count, _ in counts)])


def pieces(path: str | Path) -> Iterator[bytes]:
    """The bytes of a file as they come, each piece ``awaited``."""
    with awaited(path):
        file = open(path, "rb", buffering=0)
    with file:
        yield from each(iter(lambda: file.read(_PIECE), b""), path)


def digest(path: str | Path) -> str:
    """sha256 of the bytes of a file, hexadecimal."""
    sha256 = hashlib.sha256()
    for piece in pieces(path):
        sha256.update(piece)
    return sha256.hexdigest()


def read_bytes(path: str | Path, knob: str) -> bytes:
    """The bytes of a plain or gzipped file. Raises: DataError that names the knob."""
    return b"".join(unpacked(path, knob))


def unpacked(path: str | Path, knob: str) -> Iterator[bytes]:
    """The bytes of a plain or gzipped file as they come, each piece ``awaited``.

    Raises: DataError that names the knob.
    """
    try:
        with awaited(path):
            file = open(path, "rb")
        with file:
            with awaited(path):
                packed = file.peek(2).startswith(b"\x1f\x8b")
            # By content, not by name: these two bytes cannot start a UTF-8 text.
            content = gzip.GzipFile(fileobj=file) if packed else file
            yield from each(iter(lambda: content.read1(_BLOCK), b""), path)
    except FileNotFoundError as error:
        raise DataError(f"{knob}: there is no file {path}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{knob}: cannot read {path}: {error}") from error


class Unpacked:
    """The bytes of a file as ``unpacked`` gives them, read anew by each iteration.

    What is no regular file, such as a pipe, is read once and kept.
    """

    def __init__(self, path: str | Path, knob: str) -> None:
        self._path, self._knob = path, knob
        regular = os.path.isfile(path) or not os.path.lexists(path)
        self._bytes = None if regular else [read_bytes(path, knob)]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._bytes or unpacked(self._path, self._knob))


def hashed(pieces: Iterable[bytes], sha256: Any) -> Iterator[bytes]:
    """The same pieces, each of which a hash is updated with."""
    for piece in pieces:
        sha256.update(piece)
        yield piece


def _check_columns(lines, path):
    for number, line in enumerate(lines, start=1):
        columns = 1 + line.count("\t")
        if line and columns != 2:
            raise DataError(
                f"{path}: line {number} has {columns} tab-separated columns; "
                f"expected source<TAB>target"
            )
