"""A ``tokenizer.json`` that anybody may have written, as the library's tokenizer."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import tokenizers

from tfm_jax.data.errors import DataError

MOST_IDS = 2**21  # the largest published vocabularies have half of it
LONGEST = 200  # characters of the library's complaints
# an unbounded repetition of what repeats, or chooses, itself: its time may grow as 2^n
_UNBOUNDED = re.compile(r"[+*]|\{\d+,\}")


def rules(document: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """The library's tokenizer of plain data.

    Raises: DataError in one line for what is none, for ids beyond ``MOST_IDS``, and for
        a regular expression whose time may explode.
    """
    if not isinstance(document, dict) or "model" not in document:
        raise DataError("this is no tokenizer.json: it has no model")
    if not isinstance(document["model"], dict):
        raise DataError("this is no tokenizer.json: its model is no object")
    for pattern in _patterns(document):
        if explodes(pattern):
            raise DataError(
                f"the tokenizer's regular expression {pattern[:LONGEST]!r} repeats a "
                "repetition: its time may explode"
            )
    text = json.dumps(document)
    made = called(tokenizers.Tokenizer.from_str, text, what="this is no tokenizer.json")
    for token in document.get("added_tokens") or []:
        if not is_id(token["id"]):
            raise DataError(f"{token['content'][:LONGEST]!r} has the id {token['id']}")
    largest = max(made.get_vocab(with_added_tokens=True).values(), default=-1)
    if largest >= MOST_IDS:
        raise DataError(f"the tokenizer has the id {largest}; at most {MOST_IDS - 1:,}")
    return made


def is_id(value: object) -> bool:
    """Whether a value of a file is a token id; large ones cost the library time."""
    return type(value) is int and 0 <= value < MOST_IDS


def called(function: Callable, *arguments: Any, what: str, **options: Any) -> Any:
    """What the library's ``function`` returns. Raises: DataError for all it raises."""
    try:
        return function(*arguments, **options)
    except BaseException as error:  # a panic is no Exception
        panic = type(error).__name__ == "PanicException"
        if not panic and not isinstance(error, Exception):
            raise
        reason = " ".join(str(error).split())[:LONGEST]
        raise DataError(f"{what}: {reason}") from error


def explodes(pattern: str) -> bool:
    """Whether an unbounded repetition holds another one, or a choice."""
    stack = [False]  # of open groups: whether they repeat or choose
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            at += 2
            continue
        if character == "[":
            at = _class_end(pattern, at)
            continue
        repeats = _UNBOUNDED.match(pattern, at)
        if character == "(":
            stack.append(False)
        elif character == ")" and len(stack) > 1:
            inner = stack.pop()
            again = _UNBOUNDED.match(pattern, at + 1)
            if again and inner and pattern[again.end() : again.end() + 1] != "+":
                return True
            stack[-1] = stack[-1] or inner
        elif character == "|" or (repeats and pattern[at - 1 : at] != "("):
            possessive = repeats and pattern[repeats.end() : repeats.end() + 1] == "+"
            stack[-1] = stack[-1] or not possessive
            at = repeats.end() + bool(possessive) - 1 if repeats else at
        at += 1
    return False


def _class_end(pattern, at):
    """The place behind a class of characters, which may hold others."""
    depth = 0
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] == "[":
            depth += 1
        elif pattern[at] == "]":
            depth -= 1
            if not depth:
                return at + 1
        at += 1
    return at


def _patterns(node):
    """Every regular expression of a document; vocabularies hold none."""
    nodes = [value for name, value in node.items() if name != "model"]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            if isinstance(node.get("Regex"), str):
                yield node["Regex"]
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node
