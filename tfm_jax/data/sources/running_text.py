"""Files of running text, read piece by piece however long they are."""

import functools
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfm_jax.data.sources.text_files import Unpacked, hashed
from tfm_jax.data.tokenizers.normalize import decode

PART = 1 << 20  # characters; of longer documents so much is read at once


class Documents(NamedTuple):
    """Texts one behind the other, each with a name that tells where it is from."""

    names: Sequence[str]
    texts: Sequence[str]
    begins: bool = True  # the first is no later part of a document
    ends: bool = True  # the last goes on in no further part


class TextFile:
    r"""A plain or gzipped UTF-8 file, read anew by each iteration: pieces of its text.

    They end at a line end, ``\n`` alone, if there is one. A CR before it and a leading
    byte order mark go. What is no regular file, such as a pipe, is read once and kept.

    Args: knob: named in messages. invalid_utf8: "error" or "replace".
    """

    def __init__(self, path: str | Path, knob: str, invalid_utf8: str) -> None:
        self._path, self._invalid_utf8 = path, invalid_utf8
        self._pieces = Unpacked(path, knob)

    def __iter__(self) -> Iterator[str]:
        return (text for text, _ in self._decoded(self._pieces))

    @functools.cached_property
    def measured(self) -> tuple[int, dict[str, Any]]:
        """(characters, report: sha256 and lines with bytes that are no UTF-8)."""
        sha256, characters, invalid = hashlib.sha256(), 0, 0
        for text, replaced in self._decoded(hashed(self._pieces, sha256)):
            characters += len(text)
            invalid += replaced
        report = {"sha256": sha256.hexdigest(), "invalid_utf8_lines": invalid}
        return characters, report

    def _decoded(self, pieces):
        """(text, how many of its lines have bytes that were replaced)."""
        number, mark = 1, "\ufeff"  # of the line that a piece begins in
        for piece in _whole_lines(pieces):
            try:
                text, replaced = piece.decode("utf-8"), 0
            except UnicodeDecodeError:
                lines = [
                    decode(line, self._invalid_utf8, f"{self._path}: line {n}")
                    for n, line in enumerate(piece.split(b"\n"), start=number)
                ]
                text = "\n".join(line for line, _ in lines)
                replaced = sum(wrong for _, wrong in lines)
            text, mark = text.removeprefix(mark), ""
            number += piece.count(b"\n")
            yield text.replace("\r\n", "\n"), replaced


def text_file(path: Path, knob: str, invalid_utf8: str) -> TextFile:
    """A `TextFile`; of a regular file the same one until it changes."""
    if not os.path.isfile(path):
        return TextFile(path, knob, invalid_utf8)
    status = os.stat(path)
    version = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return _text_file(path, knob, invalid_utf8, version)


@functools.lru_cache(64)
def _text_file(path, knob, invalid_utf8, version):
    """Measured once for all splits."""
    del version
    return TextFile(path, knob, invalid_utf8)


def _whole_lines(pieces):
    """The same bytes, cut behind line ends; of endless lines between characters."""
    held = b""
    for piece in pieces:
        held += piece
        cut = held.rfind(b"\n") + 1
        if not cut and len(held) >= PART:
            cut = len(held) - 1  # not between CR and LF
            while cut > len(held) - 4 and held[cut] & 0xC0 == 0x80:
                cut -= 1
        if cut:
            yield held[:cut]
            held = held[cut:]
    if held:
        yield held


def between(texts: Iterable[str], first: int, last: int) -> Iterator[str]:
    """Of texts end to end the characters from ``first`` to ``last``."""
    offset = 0
    for text in texts:
        if offset >= last:
            return
        piece = text[max(first - offset, 0) : last - offset]
        offset += len(text)
        if piece:
            yield piece


def documents(name: str, texts: Iterable[str], end: str) -> Iterator[Documents]:
    """The documents of a file, those that are longer than PART in several parts.

    Args: texts: end to end the text of the file. end: where one ends, in ENDS.
    """
    split, pieces = ENDS[end], _even(texts)
    held, number, begins, first, last = "", 1, True, True, False
    while not last:
        text = next(pieces, None)
        last, held = text is None, held + (text or "")
        complete, held = split(held, first, last)
        first = first and not complete
        if complete:
            yield Documents(_names(name, number, len(complete), end), complete, begins)
            number, begins = number + len(complete), True
        while len(held) > PART and not last:
            names, cut = _names(name, number, 1, end), _cut(held)
            yield Documents(names, [held[:cut]], begins, ends=False)
            held, begins, first = held[cut:], False, False


def _even(texts):
    """The same characters, PART of them at a time, in whatever pieces they come."""
    held = ""
    for text in texts:
        held += text
        while len(held) >= PART:
            yield held[:PART]
            held = held[PART:]
    if held:
        yield held


def _names(name, number, count, end):
    """A document that is a file has its name, others their number in it, too."""
    if end == "file":
        return [name] * count
    return [f"{name}:{n}" for n in range(number, number + count)]


def _whole(held, first, last):
    del first
    return ([held], "") if last else ([], held)


def _lines(held, first, last):
    del first
    *lines, rest = held.split("\n")
    return ([*lines, rest] if last and rest else lines), rest


def _blank_lines(held, first, last):
    held = held.lstrip("\n") if first else held
    held = held.rstrip("\n") if last else held
    known = len(held) if last else len(held.rstrip(" \t\n"))  # more may be to come
    *pieces, rest = _SEPARATOR.split(held[:known])
    return ([*pieces, rest], "") if last else (pieces, rest + held[known:])


_SEPARATOR = re.compile(r"\n(?:[ \t]*\n)+")
# (text, whether no document was found before, whether it is all that is left) ->
# (documents, the rest)
ENDS: dict[str, Callable] = {  # where a document of a file ends
    "file": _whole,
    "line": _lines,
    "blank_line": _blank_lines,  # one sentence a line, as BERT's input files
}
_CUTS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?<=[A-Za-z0-9])(?= [A-Za-z0-9])",
        r"(?<=\S)\n(?=\S)",
        r"(?<=\S)(?=\s)",
    )
)


def _cut(text):
    """Where text longer than PART is cut: at a blank between words, if there is one.

    Tokens end there whatever comes next: neither the rules by which GPT-2, BERT and
    ALBERT, and what followed them, split texts nor ours join a word to the next one.
    """
    for place in _CUTS:
        for width in (1 << 12, PART):
            ends = [match.end() for match in place.finditer(text, PART - width, PART)]
            if any(ends):
                return ends[-1]
    return PART
