"""One or two texts between special tokens, in rows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfm_jax.data.batch import TextBatch
from tfm_jax.data.errors import DataError


class Frame(NamedTuple):
    """Special tokens around one text, and around and between two."""

    begin: str
    between: str
    end: str


FRAMES = {
    "bert": Frame("[CLS]", "[SEP]", "[SEP]"),  # Devlin et al. 2019, figure 2
    # Radford et al. 2018, section 3.3; the names are the release's
    "gpt1": Frame("_start_", "_delimiter_", "_classify_"),
}


class Ids(NamedTuple):
    """A frame as token ids."""

    begin: int
    between: int
    end: int


def frame_ids(tokenizer: Any, frame: str = "bert") -> tuple[int, ...]:
    """The frame's tokens of a vocabulary. Raises: DataError if it lacks one."""
    return Ids(*tokenizer.ids_of(*FRAMES[frame]))


def room(length: int, *, pair: bool) -> int:
    """Tokens of text that fit a row of ``length`` tokens."""
    return length - (3 if pair else 2)


def cut_lengths(first: Any, second: Any, room: Any) -> tuple:
    """What is left of two lengths when the longer gives way, the second if equal.

    Source: Devlin et al. 2019's run_classifier.py.  Returns: two int arrays [B].
    """
    first, second = np.asarray(first), np.asarray(second)
    half = np.array([room - room // 2, room // 2])
    kept_first = np.where(second <= half[1], room - second, half[0])
    kept_second = np.where(first <= half[0], room - first, half[1])
    fits = first + second <= room
    return (
        np.where(fits, first, np.minimum(first, kept_first)),
        np.where(fits, second, np.minimum(second, kept_second)),
    )


def frame_rows(
    firsts: Sequence[np.ndarray],
    seconds: Sequence[np.ndarray] | None,
    ids: Any,
    length: int,
) -> TextBatch:
    """Texts in rows of their own: a `TextBatch` of tokens, segments and types.

    Args:
        firsts: R int32 arrays.
        seconds: as many; None for single texts.
        ids: `frame_ids`.
        length: T.

    Raises: DataError if a text does not fit.
    """
    rows = np.zeros((len(firsts), length), np.int32)
    segments, types = np.zeros_like(rows), np.zeros_like(rows)
    for row, first in enumerate(firsts):
        parts = [[ids.begin], first]
        if seconds is not None:
            parts += [[ids.between], seconds[row]]
        tokens = np.concatenate([*parts, [ids.end]])
        if len(tokens) > length:
            raise DataError(
                f"text {row + 1} has {len(tokens)} tokens, special ones included; "
                f"a row has {length}"
            )
        rows[row, : len(tokens)] = tokens
        segments[row, : len(tokens)] = 1
        if seconds is not None:
            types[row, len(first) + 2 : len(tokens)] = 1
    return TextBatch(rows, segments, types=types)
