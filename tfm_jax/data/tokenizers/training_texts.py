"""What a tokenizer is trained on: no words without end, no texts that no row holds."""

import itertools
from collections.abc import Iterable
from typing import Any

WORD = 1_000  # characters without a space; trainers need the square of it, or crash
TOKEN = 100  # characters of a token, on average, that no tokenizer will have


def fits(text: str, length: int) -> bool:
    """Whether a row of ``length`` tokens may hold a text, whatever the tokenizer is."""
    return len(text) <= TOKEN * length


def fitting(cfg: Any, texts: Any) -> list:
    """The texts without those that any tokenizer would leave out as overlong."""
    if cfg.overlong != "drop":
        return texts
    return [text for text in texts if fits(text, cfg.length)]


def with_short_words(texts: Iterable[str]) -> list[str]:
    """The texts, those with a word of more than WORD characters cut inside of it."""
    return [piece for text in texts for piece in _pieces(text)]


def _pieces(text):
    if len(text) <= WORD:
        return [text]
    cuts, start = [], 0
    for word in text.split(" "):
        cuts += range(start + WORD, start + len(word), WORD)
        start += len(word) + 1
    return [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
