"""Documents into sentences."""

import re
from collections.abc import Iterable, Iterator

from tfm_jax.data.sources.running_text import Documents

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


def divide(chunks: Iterable[Documents], how: str) -> Iterator[tuple]:
    """(chunk, lists of the sentences of each of its texts) of each chunk.

    A sentence of a long document that goes on in another chunk is one of that chunk.
    """
    rest = ""
    for chunk in chunks:
        texts = [rest + chunk.texts[0], *chunk.texts[1:]]
        rest = ""
        if not chunk.ends:
            last = _LAST[how](texts[-1])
            texts[-1], rest = texts[-1][:last], texts[-1][last:]
        yield chunk, [split_sentences(text, how) for text in texts]


def _last_line(text):
    return text.rfind("\n") + 1


def _last_sentence(text):
    """Where what may go on begins; no blank at the end separates paragraphs yet."""
    known = len(text.rstrip())
    start = max((end.end() for end in _PARAGRAPH.finditer(text, 0, known)), default=0)
    paragraph = text[start:known]  # what is in front of it is not looked at
    return start + max((end.end() for end in _END.finditer(paragraph)), default=0)


_LAST = {"line": _last_line, "punctuation": _last_sentence}
