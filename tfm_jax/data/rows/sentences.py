"""Documents into sentences of tokens."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfm_jax.data.errors import DataError

# A full stop, maybe in quotes or brackets, before something that starts a sentence.
_END = re.compile(r"""(?<=[.!?])(?<!\b[A-Z]\.)["')\]]*\s+(?=["'(\[]*[A-Z0-9])""")
_PARAGRAPH = re.compile(r"\n[ \t]*\n")


def _by_line(text):
    return text.split("\n")


def _by_punctuation(text):
    """An approximation that no abbreviation but single initials is known to."""
    parts = []
    for paragraph in _PARAGRAPH.split(text):
        start, line = 0, " ".join(paragraph.split())
        for end in _END.finditer(line):
            parts.append(line[start : end.end()])
            start = end.end()
        parts.append(line[start:])
    return parts


SENTENCES = {
    "line": _by_line,  # as the input files of BERT's release
    "punctuation": _by_punctuation,
}


def split_sentences(text: str, how: str) -> list[str]:
    """The sentences of a document that are not blank; ``how`` names SENTENCES."""
    return [part.strip() for part in SENTENCES[how](text) if part.strip()]


def encode_sentences(
    tokenizer: Any, texts: Sequence[str], how: str
) -> tuple[list[list[np.ndarray]], dict[str, Any]]:
    """Documents as lists of int32 arrays, one per sentence: (documents, report).

    Sentences without a token and documents without a sentence are left out.

    Raises: DataError if nothing is left.
    """
    split = [split_sentences(text, how) for text in texts]
    rows = iter(tokenizer.encode([one for document in split for one in document]))
    encoded = [[next(rows) for _ in document] for document in split]
    documents = [[row for row in document if len(row)] for document in encoded]
    kept = [document for document in documents if document]
    if not kept:
        raise DataError(f"none of {len(texts)} documents has a sentence with a token")
    sentences = sum(map(len, kept))
    return kept, {
        "documents": len(kept),
        "without_sentences": len(documents) - len(kept),
        "sentences": sentences,
        "without_tokens": sum(map(len, split)) - sentences,
        "tokens": sum(len(row) for document in kept for row in document),
    }
