"""Associative recall: texts in which what was said before must be looked up.

"c4a7c4" tells that c goes with 4 and a with 7, and asks for c once more. Source: the
task of Ba et al. 2016, arXiv:1610.06258, section 4.1, with keys that come again.
"""

import string
from typing import Any

import numpy as np

_SPLITS = ("train", "valid", "test")
DIGITS = 10
RARE = 1e-3  # pairs of equal texts, of which one is trained on and one held out


def load(cfg: Any, split: str) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """The texts of one split: ((name, text) pairs, report).

    A text has ``recall_examples`` pairs of a letter and a digit and then one more, all
    letters drawn from ``recall_keys``; which digit goes with which letter is drawn for
    each text. The splits are drawn apart, see ``few_texts``.
    """
    rng = np.random.default_rng((cfg.split_seed, _SPLITS.index(split)))
    held_out = 0 if split == "test" and not cfg.test_share else cfg.recall_heldout
    count = cfg.recall_train if split == "train" else held_out
    digits = rng.integers(DIGITS, size=(count, cfg.recall_keys))
    keys = rng.integers(cfg.recall_keys, size=(count, cfg.recall_examples + 1))
    values = np.take_along_axis(digits, keys, axis=1)
    named = [
        (
            f"recall {split} {number}",
            "".join(f"{string.ascii_letters[k]}{v}" for k, v in zip(*row, strict=True)),
        )
        for number, row in enumerate(zip(keys, values, strict=True))
    ]
    return named, {"examples": cfg.recall_examples, "keys": cfg.recall_keys}


def few_texts(cfg: Any) -> str:
    """What is wrong where texts that are held out would be trained on, or "".

    Nothing is trained on the data of a variant, whose texts may be few.
    """
    pairs = cfg.recall_train * cfg.recall_heldout
    pairs *= equal_by_chance(cfg.recall_keys, cfg.recall_examples + 1)
    if pairs <= RARE:
        return ""
    return (
        f"data.recall_examples={cfg.recall_examples} of data.recall_keys="
        f"{cfg.recall_keys}: about {pairs:.2g} of data.recall_heldout="
        f"{cfg.recall_heldout} texts would be trained on, of data.recall_train="
        f"{cfg.recall_train}; raise one of the first two, or lower one of the others"
    )


def equal_by_chance(keys: int, letters: int, digits: int = DIGITS) -> float:
    """Probability that two texts of ``letters``, of ``keys`` different ones, are equal.

    Their letters are, and the digits of those that occur.
    """
    equal = np.zeros(keys + 1)  # letters so far, by how many different ones there are
    equal[0], seen = 1.0, np.arange(keys + 1)
    for _ in range(min(letters, 1_100)):  # by then it is 0, or there is one letter
        known, new = equal * seen, equal * (keys - seen)
        equal = (known + np.roll(new, 1)) / keys**2
    return float(equal @ (1 / digits) ** seen)
