"""Named things in tagged sentences, and how many of them were found."""

import collections
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Entity(NamedTuple):
    """Words ``first`` to ``last`` of a sentence."""

    kind: str
    first: int
    last: int


def entities(tags: Iterable[str]) -> list[Entity]:
    """What the tags of a sentence mark, in order.

    ``B-`` begins an entity; ``I-`` goes on with one of its kind, or begins one; ``E-``
    goes on and ends, ``S-`` is one word, ``O`` is nothing. A tag without such a letter
    is an entity of one word.

    Source: the released conlleval of Tjong Kim Sang and Buchholz 2000, which reads
    IOB1, IOB2 and IOBES alike. Deviates: adjacent tags without a letter are not joined.
    """
    found: list[Entity] = []
    is_open = False
    for word, tag in enumerate(tags):
        letter, dash, kind = tag.partition("-")
        if tag == "O":
            is_open = False
            continue
        if not dash or letter not in "BIES":
            letter, kind = "S", tag
        if letter in "IE" and is_open and found[-1].kind == kind:
            found[-1] = found[-1]._replace(last=word)
        else:
            found.append(Entity(kind, word, word))
        is_open = letter in "BI"
    return found


def entity_scores(
    predicted: Iterable[Sequence[str]], true: Iterable[Sequence[str]]
) -> dict:
    """``precision``, ``recall`` and ``f1`` of entities, in [0, 1], over all sentences.

    An entity is right if its kind and both its ends are.

    Source: Tjong Kim Sang and De Meulder 2003, arXiv:cs/0306050, section 2.3.

    Args: predicted, true: sequences of tags, as many for a sentence in both.
    Returns: also ``entities``, how many there are, and ``kinds``: the same scores for
        each kind.
    Raises: ValueError if the sentences differ in length.
    """
    right, said, there = (collections.Counter[str]() for _ in range(3))
    for number, (one, other) in enumerate(zip(predicted, true, strict=True)):
        if len(one) != len(other):
            raise ValueError(
                f"sentence {number} has {len(other)} tags, predicted are {len(one)}"
            )
        ours, theirs = set(entities(one)), set(entities(other))
        said.update(entity.kind for entity in ours)
        there.update(entity.kind for entity in theirs)
        right.update(entity.kind for entity in ours & theirs)
    kinds = {
        kind: _scores(right[kind], said[kind], there[kind])
        for kind in sorted(said.keys() | there.keys())
    }
    counts = (counter.total() for counter in (right, said, there))
    return _scores(*counts) | {"kinds": kinds}


def _scores(right, said, there):
    return {
        "precision": right / said if said else 0.0,
        "recall": right / there if there else 0.0,
        "f1": 2 * right / (said + there) if said + there else 0.0,
        "entities": there,
    }
