"""JSON of files that anybody may have written: strict, bounded in size and in depth."""

import json
import os
import zlib
from pathlib import Path
from typing import Any, NoReturn

MOST_BYTES = 64 * 2**20  # the largest tokenizers take half of it
MOST_LEVELS = 64  # of brackets; whoever walks the value may recurse
KINDS: dict[type, str] = {dict: "an object", list: "an array"}
SUM = "crc32"  # the name in an object of a checksum over everything else in it


def read(path: str | Path, kind: type = object, *, most: int = MOST_BYTES) -> Any:
    """The value in a file.

    Args:
        path: of a regular file in UTF-8; a pipe or a device is never waited for.
        kind: dict or list, if the value must be one. most: bytes that are read.
    Raises: ValueError in one line with the path. OSError as it is.
    """
    try:
        return loads(read_bytes(path, most=most), kind)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_bytes(path: str | Path, *, most: int = MOST_BYTES) -> bytes:
    """All of a regular file. Raises: ValueError if it is none, or larger; OSError."""
    path = Path(path)
    if os.path.lexists(path) and not path.is_file():
        raise ValueError("not a regular file")
    with open(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"more than {most:,} bytes")
    return content


def loads(text: str | bytes, kind: type = object, **hooks: Any) -> Any:
    """The value of a text; no NaN, no infinity, no deeper than ``MOST_LEVELS``.

    Args: hooks: of ``json.loads``, instead of what is said here.
    Raises: ValueError in one line.
    """

    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is no JSON")

    try:
        text = text.decode() if isinstance(text, bytes) else text
        value = json.loads(text, **{"parse_constant": refuse} | hooks)
    except RecursionError:
        raise ValueError("nested too deep") from None
    level, levels = [value], 0
    while level := [child for node in level for child in _children(node)]:
        levels += 1
        if levels > MOST_LEVELS:
            raise ValueError("nested too deep")
    if not isinstance(value, kind):
        raise ValueError(f"holds a {type(value).__name__}, not {KINDS[kind]}")
    return value


def sealed(value: dict) -> dict:
    """``value`` with a checksum, by which ``unsealed`` knows a damaged one.

    Against disks and accidents: whoever changes a value on purpose can change it too.
    """
    as_read = json.loads(json.dumps(value))
    text = json.dumps(as_read, sort_keys=True)
    return {**value, SUM: f"{zlib.crc32(text.encode()):08x}"}


def unsealed(value: dict) -> dict:
    """What ``sealed`` was given; an object without checksum as it is.

    Raises: ValueError if the checksum is another one.
    """
    sums = [name for name in value if len(name) == len(SUM) and _differ(name, SUM) < 2]
    plain = {name: part for name, part in value.items() if name not in sums}
    if sums and sealed(plain)[SUM] != value.get(SUM):
        raise ValueError(f"content differs from its {SUM}")
    return plain


def read_sealed(path: str | Path) -> dict:
    """The object in a file, ``sealed`` or without checksum; numbers may be not finite.

    Raises: ValueError if it is damaged, too long or no object. OSError as it is.
    """
    return unsealed(loads(read_bytes(path), dict, parse_constant=float))


def _differ(name, other):
    return sum(a != b for a, b in zip(name, other, strict=True))


def _children(node):
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()
