"""Words from outside, made safe to print: nothing invisible, no markup of their own."""

import re
import unicodedata
from typing import Any

from markupsafe import Markup

from tfm_jax.api import spelled

_MARKDOWN = re.compile(r"([\\`*_\[\]|~$@])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def visible(text: str) -> str:
    """``text`` with every control, format and unassigned character spelled out.

    NUL becomes ``␀``, ESC ``␛``, an override of the writing direction ``⟨U+202E⟩``.
    Line feeds and tabs stay; a carriage return before a line feed goes.

    Source: Boucher and Anderson 2021, arXiv:2111.00169 (what bidi overrides can hide).
    """
    if text.isprintable():
        return text
    return "".join(map(_spelled, text.replace("\r\n", "\n")))


def _spelled(character):
    category = unicodedata.category(character)
    if character in "\n\t" or not (category[0] == "C" or category in ("Zl", "Zp")):
        return character
    return spelled(character)


def html(value: Any) -> Any:
    """What jinja escapes and prints for ``value``: its text made ``visible``."""
    return value if isinstance(value, Markup) else visible(str(value))


def markdown(value: Any) -> str:
    """``value`` as one line of literal Markdown: no emphasis, link, code or HTML.

    ``Markup`` passes as it is.
    """
    if isinstance(value, Markup):
        return value
    text = " ".join(visible(str(value)).split())
    text = re.sub("[&<>]", lambda match: _ENTITIES[match[0]], text)
    text = _MARKDOWN.sub(r"\\\1", text)
    text = re.sub(r"(?i)(https?|ftp)(?=://)|(www)(?=\.)", r"\g<0>\\", text)
    text = re.sub(r"^(\d+)(?=[.)](\s|$))", r"\1\\", text)
    return Markup(re.sub(r"^(?=[#=]|[+-](\s|$)|--)", r"\\", text))


def fenced(text: str) -> Markup:
    """``text`` as a Markdown code block whose fence is longer than any inside it."""
    text = visible(text)
    ticks = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, ticks + 1)
    return Markup(f"{fence}text\n{text}\n{fence}")


def shortened(text: str, length: int) -> str:
    """``visible(text)`` on one line, without its middle above ``length``."""
    text = " ".join(visible(text).split())
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[-tail:]}"
