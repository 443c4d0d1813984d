"""Spans of a text as answers to questions: which, and how good they are."""

import collections
import re
import string
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_SIGNS = str.maketrans("", "", string.punctuation)


class Span(NamedTuple):
    """An answer to a question.

    Attributes:
        row: of the window that has it. first, last: its columns.
        score: sum of its two logits less that of no answer; at 0 they are as likely.
    """

    row: int
    first: int
    last: int
    score: float


def best_spans(
    logits: np.ndarray, questions: Iterable[int], inside: np.ndarray, *, most: int = 30
) -> list[Span]:
    """The likeliest span for each question over the windows of its text.

    Source: Devlin et al. 2019, arXiv:1810.04805, sections 4.2 and 4.3, and the released
    run_squad.py: the sum of two logits counts, no answer is the first token, at its
    least likely window. Deviates: all spans are compared, there the ends of the 20
    likeliest starts and ends.

    Args:
        logits: [R, 2, T], where answers begin and where they end.
        questions: [R] the question of each row, 0, 1, ..
        inside: [R, T] bool, columns an answer may have.
        most: tokens of an answer.
    Raises: ValueError for a question without a column.
    """
    best: dict[int, Span] = {}
    nothing: dict[int, float] = {}
    for row, ((starts, ends), question, allowed) in enumerate(
        zip(np.asarray(logits, np.float64), questions, inside, strict=True)
    ):
        question = int(question)
        here = starts[0] + ends[0]
        nothing[question] = min(nothing.get(question, np.inf), here)
        starts, ends = (np.where(allowed, x, -np.inf) for x in (starts, ends))
        for more in range(min(most, len(starts))):
            sums = starts[: len(starts) - more] + ends[more:]
            first = int(np.argmax(sums))
            found = Span(row, first, first + more, float(sums[first]))
            if found.score > best.get(question, Span(0, 0, 0, -np.inf)).score:
                best[question] = found
    if absent := sorted(nothing.keys() - best.keys()):
        raise ValueError(f"question {absent[0]} has no column that an answer may have")
    return [
        best[n]._replace(score=best[n].score - float(nothing[n])) for n in sorted(best)
    ]


def normalise(answer: str) -> str:
    """Lower case without punctuation, articles and surplus white space.

    Source: Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1, and the released
    script. Deviates: no.
    """
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_SIGNS)).split())


def exact_match(answer: str, accepted: Iterable[str]) -> float:
    """1 if ``answer`` is one of the ``accepted`` after `normalise`, else 0."""
    return float(normalise(answer) in map(normalise, accepted))


def f1(answer: str, accepted: Iterable[str]) -> float:
    """The most that the words of ``answer`` have in common with one of ``accepted``.

    Source: Rajpurkar et al. 2016, section 6.1; as in the script of SQuAD 2.0 an empty
    text has only an empty one in common.
    """
    return max(_overlap(normalise(answer), normalise(one)) for one in accepted)


def answer_scores(answers: Iterable[str], accepted: Iterable[Iterable[str]]) -> dict:
    """``exact_match`` and ``f1``, means in [0, 1], and ``questions``.

    Args:
        answers: a text each; "": none.
        accepted: as many sequences of texts; an empty one: there is no answer.
    """
    pairs = [(a, many or ("",)) for a, many in zip(answers, accepted, strict=True)]
    if not pairs:
        return {}
    return {
        "exact_match": float(np.mean([exact_match(*pair) for pair in pairs])),
        "f1": float(np.mean([f1(*pair) for pair in pairs])),
        "questions": len(pairs),
    }


def _overlap(answer, accepted):
    ours, theirs = answer.split(), accepted.split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((collections.Counter(ours) & collections.Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs))
