"""Examples of image and text: turns, each with an image, a prompt and an answer."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Turn(NamedTuple):
    """An image or none, a prompt and the answer to it; a caption has no prompt."""

    prompt: str
    answer: str
    image: bool = True  # stands in front of the prompt
    ends: bool = True  # the end token stands behind the answer

    @property
    def text(self) -> str:
        """Prompt and answer, as running text has them."""
        return f"{self.prompt} {self.answer}" if self.prompt else self.answer


class Example(NamedTuple):
    """A row of turns; the last answer is what evaluation asks for."""

    turns: tuple[Turn, ...]
    kind: str  # "caption", or the type of the last question
    references: tuple[str, ...]  # right answers to the last turn
    images: tuple[int, ...]  # of each turn that has one, its number in the split


class ImageTexts(NamedTuple):
    """Examples of a split, and all their images."""

    examples: Sequence[Example]
    pixels: np.ndarray  # [images, height, width, C] uint8


def examples_of(plain: Iterable[Any]) -> list[Example]:
    """Examples that were plain JSON in between."""
    return [
        Example(tuple(Turn(*turn) for turn in turns), kind, *map(tuple, rest))
        for turns, kind, *rest in plain
    ]
