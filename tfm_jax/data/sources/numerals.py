"""Numbers spelled out in two languages: a translation task that needs no files."""

import hashlib
import itertools
from typing import Any

from tfm_jax.data.errors import DataError

SEPARATOR = "; "
MOST_NUMBERS = 10_000_000  # more than this are sampled, never listed


def load(cfg: Any, split: str) -> tuple[list[str], list[str], dict[str, Any]]:
    """The numbers of one split, spelled out: (sources, targets, report).

    A line has ``numerals_joined`` of them, numbers that do not fill one are left out.

    The three splits share no number. Which numbers are held out depends on
    ``numerals_max``, ``numerals_heldout`` and ``numerals_seed`` alone, so a study
    can vary ``numerals_train`` and keep its test set.

    Raises: DataError for an unknown language or more numbers than there are.
    """
    numbers = split_numbers(cfg, split)
    count = cfg.numerals_joined
    if split != "train":
        count = cfg.numerals_joined_heldout or count
    sides = [
        _join(spell(numbers, getattr(cfg, knob), knob), count)
        for knob in ("source_language", "target_language")
    ]
    return *sides, {"numerals_max": cfg.numerals_max, "numerals_joined": count}


def split_numbers(cfg: Any, split: str) -> list:
    """The integers of ``split`` ("train", "valid" or "test"), a list."""
    held_out, size = cfg.numerals_heldout, cfg.numerals_max + 1
    wanted = 2 * held_out + max(cfg.numerals_train, 1)
    if wanted > size:
        raise DataError(
            f"data.numerals_max={cfg.numerals_max} gives {size} numbers, but "
            f"{wanted} are needed: twice data.numerals_heldout={held_out} and "
            f"data.numerals_train={cfg.numerals_train or 'at least 1'}"
        )
    if split != "train":
        first = 0 if split == "valid" else held_out
        return _draw(cfg.numerals_seed, size, 2 * held_out)[first : first + held_out]
    if cfg.numerals_train:
        return _draw(cfg.numerals_seed, size, wanted)[2 * held_out :]
    if size > MOST_NUMBERS:
        raise DataError(
            f"data.numerals_train=0 asks for every number up to data.numerals_max="
            f"{cfg.numerals_max}; above {MOST_NUMBERS} say how many"
        )
    excluded = set(_draw(cfg.numerals_seed, size, 2 * held_out))
    return [number for number in range(size) if number not in excluded]


def spell(numbers: Any, language: str, knob: str) -> list[str]:
    """Spells integers out: 305 -> "three hundred and five"."""
    import num2words

    if language not in num2words.CONVERTER_CLASSES:
        known = ", ".join(sorted(num2words.CONVERTER_CLASSES))
        raise DataError(f"data.{knob}={language!r}; choose from ({known})")
    converter = num2words.CONVERTER_CLASSES[language]
    try:
        return [str(converter.to_cardinal(number)).strip() for number in numbers]
    except (OverflowError, IndexError, KeyError, NotImplementedError) as error:
        raise DataError(
            f"data.{knob}={language!r} cannot spell every number up to "
            f"data.numerals_max: {error}"
        ) from error


def _join(words, count):
    whole = len(words) - len(words) % count
    return [SEPARATOR.join(words[i : i + count]) for i in range(0, whole, count)]


def _draw(seed, size, count):
    """The first ``count`` distinct numbers below ``size`` of a seeded stream.

    A hash rather than a random generator: the same on every version of Python and
    numpy, of any size, and asking for more never changes the first ones.
    """
    drawn, width = {}, size.bit_length() // 8 + 16  # wide: no number is favoured
    for index in itertools.count():
        if len(drawn) == count:
            return list(drawn)
        digest = hashlib.shake_256(f"{seed}/{index}".encode()).digest(width)
        drawn[int.from_bytes(digest) % size] = None
