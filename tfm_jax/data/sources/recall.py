"""Associative recall: texts in which what was said before must be looked up.

"c4a7c4" tells that c goes with 4 and a with 7, and asks for c once more. Source: the
task of Ba et al. 2016, arXiv:1610.06258, section 4.1, with keys that come again.
"""

import string
from typing import Any

import numpy as np

_SPLITS = ("train", "valid", "test")
DIGITS = 10
MOST_COLLISIONS = 1e-3  # expected pairs of equal texts, one for training, one held out


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
    pairs *= collision_probability(cfg.recall_keys, cfg.recall_examples + 1)
    if pairs <= MOST_COLLISIONS:
        return ""
    return (
        f"data.recall_examples={cfg.recall_examples} of data.recall_keys="
        f"{cfg.recall_keys}: about {pairs:.3g} pairs of one of data.recall_train="
        f"{cfg.recall_train} and one of data.recall_heldout={cfg.recall_heldout} texts "
        "would be equal; raise one of the first two, or lower one of the others"
    )


def collision_probability(keys: int, length: int, digits: int = DIGITS) -> float:
    """Probability that two independent texts are equal: keys^-length E[digits^-D].

    Args: keys: number of letters to draw from. length: letters drawn for a text, of
        which D are distinct. digits: number of values of a letter.
    """
    equal = np.zeros(keys + 1)  # probability of equal letters so far, by D
    equal[0], distinct = 1.0, np.arange(keys + 1)
    for _ in range(min(length, 1_100)):  # by then 0 in float64, unless keys is 1
        again, new = equal * distinct, equal * (keys - distinct)
        equal = (again + np.roll(new, 1)) / keys**2
    return float(equal @ (1 / digits) ** distinct)
