"""What is wrong with a foreign file, in one line that stays readable."""

from collections.abc import Iterable

MOST, LONGEST = 8, 200  # problems that are listed, and characters of each


def listed(problems: Iterable[str]) -> str:
    """The first problems, each once and cut, and how many more there are."""
    distinct = list(dict.fromkeys(problems))
    shown = [cut(problem) for problem in distinct[:MOST]]
    if len(distinct) > MOST:
        shown.append(f"and {len(distinct) - MOST} more")
    return "; ".join(shown)


def cut(text: object) -> str:
    """``text``, shortened in the middle where it is long."""
    text = str(text)
    half = LONGEST // 2 - 2
    return text if len(text) <= LONGEST else f"{text[:half]} … {text[-half:]}"
