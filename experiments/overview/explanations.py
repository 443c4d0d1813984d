"""Explanations: why findings are not those of their sources, and what shows it."""

from typing import NamedTuple


class Explanation(NamedTuple):
    """Of one entry.

    Attributes:
        english, korean: two sentences.
        evidence: entries that support them, as ``entries.name_of`` names them, or
            pages below ``docs``.
    """

    english: str
    korean: str
    evidence: tuple[str, ...]


# study -> the scale whose task can show the effect, where that is not "cpu"; the other
# results of the study are kept, and marked
ANSWERED = {
    "banded_attention": "rotary",
    "head_size": "nearest",
    "heads": "relations",
}

# entry, as ``entries.name_of`` names it -> why it is not as published
EXPLANATIONS = {
    "head_size": Explanation(
        "Numerals are spelled by rule, and their few words are told apart by two "
        "numbers as well as by sixteen. Where a query has to find the nearest of eight "
        "vectors of 16 entries, keys of 2, 4 and 8 entries are worse, as published.",
        "수사는 규칙대로 적히고 낱말이 몇 개 안 되어, 숫자 두 개로도 열여섯 개만큼 "
        "잘 구별됩니다. 쿼리가 16차원 벡터 여덟 개 가운데 가장 가까운 것을 찾아야 하는 "
        "과제에서는 2, 4, 8차원의 키가 발표된 대로 더 나쁩니다.",
        ("head_size:nearest",),
    ),
}
