"""Where in a text the answer to a question begins and ends."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn

from tfm_jax.data.rows import spans, unlabelled
from tfm_jax.decode import probing
from tfm_jax.metrics.answers import answer_scores, best_spans
from tfm_jax.objectives import span
from tfm_jax.workloads.evaluator import Evaluator, Poll, Scored
from tfm_jax.workloads.masked_lm import DEFAULTS
from tfm_jax.workloads.workload import TOKEN_SCORES, Workload


class Answer(NamedTuple):
    """``text[start:end]``, and its ``margin`` over no answer in logits."""

    text: str
    margin: float
    start: int
    end: int


def find_answers(
    model: nn.Module,
    params: dict[str, Any],
    tokenizer: Any,
    questions: Sequence[Any],
    cfg: Any,
    *,
    most: int = 30,
    **options: Any,
) -> list[Answer]:
    """The likeliest answer to each question, whatever its margin.

    Where the text has no token there is none: "", at a margin of -inf.

    Args:
        questions: list of ``squad.Question``, whose answers do not count.
        cfg: ``spans.Config``, how windows are taken. most: tokens of an answer.
        options: of ``decode.rows.over_rows``.
    """
    if not questions:
        return []
    plain = [question._replace(answers=(), starts=()) for question in questions]
    windows, _ = spans.span_rows(tokenizer, plain, cfg)
    tokens, types = unlabelled.unpadded(windows.rows)
    logits = np.full((len(tokens), 2, cfg.length), -np.inf)
    for padded, row, one in zip(
        logits,
        tokens,
        probing.outputs(model, params, tokens, types=types, **options),
        strict=True,
    ):
        padded[:, : len(row)] = one[:, : len(row)]
    inside = windows.offsets[..., 1] > windows.offsets[..., 0]
    answers = [Answer("", -np.inf, 0, 0)] * len(plain)
    rows = np.flatnonzero(inside.any(axis=1))  # that may have an answer
    of_rows = logits[rows], windows.questions[rows], inside[rows]
    for best in best_spans(*of_rows, most=most):
        row = rows[best.row]
        offsets = windows.offsets[row]
        start, end = int(offsets[best.first, 0]), int(offsets[best.last, 1])
        text = spans.span_text(windows, plain, row, best.first, best.last)
        answers[windows.questions[row]] = Answer(text, best.score, start, end)
    return answers


class SpanEvaluator(Evaluator):
    """Scores answers besides."""

    def add_scores(
        self, params: dict[str, Any], split: str, scores: dict, totals: Any, poll: Poll
    ) -> Scored:
        """Adds ``exact_match`` and ``f1`` of answers, in [0, 1]."""
        questions = self.data.examples[split]
        with self.unrolled(params) as parts:
            answers = find_answers(
                *(*parts, self.data.tokenizer, questions, self.experiment.data),
                on_batch=lambda _: poll(),
            )
        accepted = [question.answers for question in questions]
        least = -np.inf if all(accepted) else 0.0  # SQuAD 1.1 has an answer to all
        texts = [answer.text if answer.margin >= least else "" for answer in answers]
        return Scored(scores | answer_scores(texts, accepted))


WORKLOAD = Workload(
    name="span",
    objective=span,
    data=spans.KIND,
    scores={**TOKEN_SCORES, "exact": max},
    final_scores=lambda *_: answer_scores(["a"], [["a"]]),
    evaluator=SpanEvaluator,
    defaults=DEFAULTS,
    sentences=lambda data: 2,
)
