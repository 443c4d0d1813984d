"""What people see: text of data, models, files and errors that no terminal obeys."""

import logging
import os
import re
import sys
import traceback
import warnings
from typing import TextIO

_SEPARATORS = "\u2028\u2029"  # which end a line
_OBEYED = re.compile(f"[\x00-\x1f\x7f-\x9f{_SEPARATORS}\ud800-\udfff]")


STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}


def spelled(character: str) -> str:
    """The picture of a control character, ``␛``; of others the number, ``⟨U+009B⟩``."""
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"


def shown(text: str, kept: str = "\t\n") -> str:
    """``text`` with control characters and what cannot be encoded spelled out.

    Letters of every script, their joiners and marks stay as they are.

    Args: kept: control characters that stay too.
    Source: ECMA-48, 5th edition, sections 5.2 and 5.3: the sets C0 and C1.
    """
    return _OBEYED.sub(
        lambda found: found[0] if found[0] in kept else spelled(found[0]), text
    )


def say(text: object, *, file: TextIO | None = None, kept: str = "\t\n") -> bool:
    """Prints ``shown(text)`` at once; what the stream cannot encode is escaped.

    Returns: whether somebody reads on; no work ends because nobody does, as behind
        ``| head -1``.
    """
    stream = sys.stdout if file is None else file
    encoding = getattr(stream, "encoding", None) or "utf-8"
    safe = shown(str(text), kept).encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(safe, file=stream, flush=True)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return False
    return True


def one_line(text: object) -> str:
    """``text`` without line breaks, safe to print."""
    return shown(" ".join(str(text).split()))


def shortened(text: str, most: int = 4_000) -> str:
    """``text``, of a long one how it begins and ends."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} ... {text[-half:]}"


def install() -> None:
    """For commands: warnings are one line, tracebacks and log records safe to print.

    Standard streams that whoever started the command has closed lead nowhere; else the
    next file would get their numbers, and what libraries print.
    """
    for number, (name, mode) in enumerate(STREAMS.items()):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
    sys.excepthook, warnings.showwarning = _excepthook, _showwarning
    handler = logging.StreamHandler()
    handler.setFormatter(_PlainText())
    logging.basicConfig(handlers=[handler])


class _PlainText(logging.Formatter):
    """A record as the warnings are, with its traceback if it has one."""

    def format(self, record):
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        level, message = record.levelname.lower(), one_line(record.getMessage())
        return f"{level}: {message}{shown(trace)}"


def _excepthook(kind, error, trace):
    lines = traceback.format_exception(kind, error, trace)
    say("".join(lines).rstrip("\n"), file=sys.stderr)


def _showwarning(message, *where, file=None, **more):
    say(f"warning: {one_line(message)}", file=file or sys.stderr)
