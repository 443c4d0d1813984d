"""Questions that a span of a text answers, as rows."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfm_jax.data.batch import SpanBatch
from tfm_jax.data.batches import Order
from tfm_jax.data.errors import DataError
from tfm_jax.data.prepared import Kind, filled_text
from tfm_jax.data.rows import framing
from tfm_jax.data.sources import squad
from tfm_jax.knobs import knob


@dataclasses.dataclass(frozen=True)
class Config(Order, squad.Config):
    """Where questions come from and how they fill rows, as in BERT's release."""

    ROLE = "training"

    length: int = knob(384, "tokens of a row, special ones included", low=1, high=2**24)
    question_length: int = knob(
        64, "tokens of a question at most; the rest is cut", low=1, high=2**24
    )
    stride: int = knob(
        128, "tokens from one window of a long text to the next", low=1, high=2**24
    )

    def __post_init__(self):
        super().__post_init__()
        if self.length < self.question_length + 3 + self.stride:
            raise ValueError(
                f"data.length={self.length} must be at least data.question_length="
                f"{self.question_length} + data.stride={self.stride} + 3, or windows "
                f"would leave out text"
            )


class Spans(NamedTuple):
    """Rows of questions, and what turns columns back into text."""

    rows: SpanBatch
    questions: np.ndarray  # [R] the question of each row
    offsets: np.ndarray  # [R, T, 2] characters of the text; 0, 0 outside of it


def span_rows(tokenizer: Any, questions: Sequence[Any], cfg: Any) -> tuple:
    """Each question with windows over its text, in rows of their own: (Spans, report).

    The label is the first answer; a window that does not have all of it is labelled
    as one without an answer.

    Source: Devlin et al. 2019, arXiv:1810.04805, sections 4.2 and 4.3, and the released
    run_squad.py.  Deviates: an answer inside a token is labelled with that token.
    Raises: DataError if there is no question.
    """
    if not questions:
        raise DataError("there are no questions")
    encoded = tokenizer.encode([question.question for question in questions])
    contexts = sorted({question.context for question in questions})
    read = dict(zip(contexts, tokenizer.encode_with_offsets(contexts), strict=True))
    firsts, seconds, labels, numbers, offsets = [], [], [], [], []
    answerable, labelled = set(), set()
    for number, question in enumerate(questions):
        first = encoded[number][: cfg.question_length]
        ids, of_text = read[question.context]
        answer = _answer(question, of_text)
        if answer:
            answerable.add(number)
        room = framing.room(cfg.length, pair=True) - len(first)
        for start in _windows(len(ids), room, cfg.stride):
            window = slice(start, start + room)
            column = len(first) + 2  # of the first token of the text
            of_row = np.zeros((cfg.length, 2), np.int32)
            of_row[column : column + len(ids[window])] = of_text[window]
            label = (0, 0)
            if answer and start <= answer[0] and answer[1] < start + room:
                label = tuple(column + token - start for token in answer)
                labelled.add(number)
            firsts.append(first)
            seconds.append(ids[window])
            labels.append(label)
            numbers.append(number)
            offsets.append(of_row)
    names = framing.frame_ids(tokenizer)
    rows = SpanBatch(
        *framing.frame_rows(firsts, seconds, names, cfg.length),
        labels=np.array(labels, np.int32),
        weights=np.ones((len(labels), 2), np.float32),
    )
    report = {
        "questions": len(questions),
        "rows": len(labels),
        "answer_in_no_window": len(answerable - labelled),
    }
    return Spans(rows, np.array(numbers), np.stack(offsets)), report


def span_text(
    spans: Any, questions: Sequence[Any], row: int, first: int, last: int
) -> str:
    """The text from column ``first`` to ``last`` of a row; "" outside of its text."""
    begin, end = spans.offsets[row, first], spans.offsets[row, last]
    if last < first or begin[0] == begin[1] or end[0] == end[1]:
        return ""
    return questions[spans.questions[row]].context[begin[0] : end[1]]


def _windows(tokens, room, stride):
    """Where windows start, until one reaches the end."""
    start = 0
    while True:
        yield start
        if start + room >= tokens:
            return
        start += stride


def _answer(question, offsets):
    """(first, last) token of the first answer, None if there is none."""
    if not question.answers:
        return None
    begin = question.starts[0]
    end = begin + len(question.answers[0])
    touched = np.flatnonzero((offsets[:, 0] < end) & (offsets[:, 1] > begin))
    return (int(touched[0]), int(touched[-1])) if touched.size else None


def _texts(cfg, questions):
    del cfg
    contexts = dict.fromkeys(question.context for question in questions)
    return [*(question.question for question in questions), *contexts]


def _rows(cfg, tokenizer, questions, split):
    del split
    spans, report = span_rows(tokenizer, questions, cfg)
    return filled_text(tokenizer, spans.rows, report)


KIND = Kind(
    Config,
    SpanBatch,
    squad.load_questions,
    _texts,
    _rows,
    size=len,
    evaluated=lambda rows: [squad.Question(*x[:3], *map(tuple, x[3:])) for x in rows],
)
