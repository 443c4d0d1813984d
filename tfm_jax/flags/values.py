"""Values as the command line writes them, and as the type of a knob reads them.

A boolean is ``true`` or ``false``, a number what Python calls one; ``1e4`` is an
integer too. A string is itself; elements of a tuple stand between commas, with or
without brackets around all of them. What would be misread so stands in quotes, with the
escapes of Python's strings: ``'a,b.tsv',c.tsv`` are two files, ``''`` is an empty
string and ``()`` an empty tuple. Of several tuples each stands in brackets or quotes,
unless it has one element: ``(a,b),c``.
"""

import ast
import math
import re
import sys
import warnings
from decimal import Decimal, InvalidOperation
from typing import Any

from tfm_jax.knobs import ConfigError, element_of, type_name

_BOOLEANS = dict.fromkeys(("true", "t", "1"), True)
_BOOLEANS |= dict.fromkeys(("false", "f", "0"), False)
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_ITEM = re.compile(rf"\s*({_QUOTED})\s*(?:,|\Z)|([^,]*),?", re.DOTALL)
_TUPLE = re.compile(rf"\s*(?:({_QUOTED})|(\(.*?\)|\[.*?\]))\s*(?:,|\Z)", re.DOTALL)
_BRACKETS = {"(": ")", "[": "]"}
_DIGITS = sys.int_info.default_max_str_digits  # of an integer that Python would read


def to_flag(value: Any) -> str:
    """``value`` on one line, as ``from_flag`` takes it with the type of ``value``.

    Raises: ConfigError for what no knob holds.
    """
    if isinstance(value, tuple | list):
        return ",".join(map(_element, value)) or "()"
    if hasattr(value, "item"):  # a scalar of NumPy
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value if _is_plain(value, str, value) else repr(value)
    if isinstance(value, int | float):
        return repr(value)
    raise ConfigError(f"{value!r} is no value of a knob")


def from_flag(text: str, expected: Any, flag: str) -> Any:
    """The value of type ``expected`` that ``text`` says.

    Args: flag: what the message names, such as "--config.model.heads".
    Raises: ConfigError for a text that says no value of this type.
    """
    element = element_of(expected)
    try:
        if element_of(element):
            return tuple(from_flag(each, element, flag) for each in _tuples(text))
        if element:
            return tuple(
                _word(item) if element is str else _scalar(item, element)
                for item in _items(text)
            )
        return _scalar(text, expected)
    except _NotAValue as error:
        raise ConfigError(f"{flag}={text}: {error}") from error
    except (ValueError, KeyError, SyntaxError, InvalidOperation) as error:
        raise ConfigError(f"{flag}={text}; expected {type_name(expected)}") from error


class _NotAValue(Exception):
    """A word that is never a value."""


def _scalar(text, expected):
    if expected is str:
        return _word(text)
    bare = text.strip()
    if bare == "None" or re.fullmatch(r"[+-]?(nan|inf|infinity)", bare, re.IGNORECASE):
        raise _NotAValue(f"{bare} is not a value")
    if expected is bool:
        return _BOOLEANS[bare.lower()]
    if expected is float:
        if math.isinf(float(bare)):
            raise ValueError("no float is as large")
        return float(bare)
    number = Decimal(bare)
    if number.adjusted() >= _DIGITS or number != number.to_integral_value():
        raise ValueError("no integer")
    return int(number)


def _word(text):
    """A string, in quotes or not."""
    if text == "None":
        raise _NotAValue("None is not a value; the word in quotes would be one")
    if not re.fullmatch(_QUOTED, text, re.DOTALL):
        return text
    with warnings.catch_warnings(action="error"):  # an escape that is none
        return ast.literal_eval(text)


def _items(text):
    """The texts between the commas; a comma may end them."""
    inside, items, start = _without_brackets(text.strip()), [], 0
    while start < len(inside):
        found = _ITEM.match(inside, start)
        items.append(found[1] or found[2].strip())
        start = found.end()
    if "" in items:
        raise _NotAValue("nothing stands between two commas; '' is an empty string")
    return items


def _tuples(text):
    """The texts of tuples: in quotes, in brackets, or up to a comma."""
    texts, start = [], 0
    while start < len(text):
        found = _TUPLE.match(text, start) or _ITEM.match(text, start)
        quoted, *others = found.groups()
        texts.append(_word(quoted) if quoted else "".join(filter(None, others)))
        start = found.end()
    return texts


def _without_brackets(text):
    """``text`` without the brackets around all of it."""
    if _BRACKETS.get(text[:1], "no") != text[-1:]:
        return text
    depth = 0
    for position, letter in enumerate(re.sub(_QUOTED, _blank, text, flags=re.DOTALL)):
        depth += (letter == text[0]) - (letter == text[-1])
        if not depth and position < len(text) - 1:
            return text
    return text[1:-1].strip()


def _blank(quoted):
    return " " * len(quoted[0])


def _element(value):
    if not isinstance(value, str):
        return to_flag(value)
    # a quote that begins an element may find its end in a later one
    plain = not value.startswith((*_BRACKETS, "'", '"')) and _is_plain(
        value, tuple[str, ...], (value,)
    )
    return value if plain else repr(value)


def _is_plain(text, expected, value):
    """Whether ``text`` without quotes is read as ``value`` and fits on a line."""
    if not text.isprintable():
        return False
    try:
        return from_flag(text, expected, "") == value
    except ConfigError:
        return False
