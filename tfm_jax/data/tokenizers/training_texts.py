"""What a tokenizer is trained on: no words without end, no texts that no row holds."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

WORD = 1_000  # characters without a space; trainers need the square of it, or crash
MOST = 1 << 25  # characters that are enough to learn which tokens are frequent
PART = 1 << 16  # characters of a text that a sample takes together, at most
TOKEN = 100  # characters of a token, on average, that no tokenizer will have


def fits(text: str, length: int) -> bool:
    """Whether a row of ``length`` tokens may hold a text, whatever the tokenizer is."""
    return len(text) <= TOKEN * length


def fitting(cfg: Any, texts: Any) -> list:
    """The texts without those that any tokenizer would leave out as overlong."""
    if cfg.overlong != "drop":
        return texts
    return [text for text in texts if fits(text, cfg.length)]


def sample(texts: Iterable[str]) -> Iterable[str]:
    """Of more than MOST characters in all, parts at equal distances that make so many.

    Texts longer than PART are taken in parts, the first part always. What is taken
    differs from MOST by less than a part.

    Args: texts: can be iterated twice.
    """
    total = sum(map(len, texts))
    if total <= MOST:
        return texts
    size = min(PART, MOST)
    parts, measured = itertools.tee(
        text[n : n + size] for text in texts for n in range(0, len(text), size)
    )
    return [*itertools.compress(parts, evenly(map(len, measured), total, MOST))]


def evenly(sizes: Iterable[int], total: int, most: int) -> Iterator[bool]:
    """Whether a part is one of those at equal distances that make ``most``.

    Args: sizes: of all parts, one after the other. total: of all.
    """
    seen = taken = 0
    for size in sizes:
        chosen = taken * total <= seen * most
        seen, taken = seen + size, taken + size * chosen
        yield chosen


def with_short_words(texts: Iterable[str]) -> Iterator[str]:
    """The texts, those with a word of more than WORD characters cut inside of it."""
    return (piece for text in texts for piece in _pieces(text))


def _pieces(text):
    if len(text) <= WORD:
        return [text]
    cuts, start = [], 0
    for word in text.split(" "):
        cuts += range(start + WORD, start + len(word), WORD)
        start += len(word) + 1
    return [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
