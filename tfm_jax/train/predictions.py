"""What a model says of held-out text: samples, and scores of whole answers."""

import contextlib
from typing import NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType

from tfm_jax.data.rows import spans, unlabelled
from tfm_jax.decode import probing
from tfm_jax.decode.sampling import Sampling, generate
from tfm_jax.decode.search import ROWS
from tfm_jax.layers.layout import to_unrolled
from tfm_jax.mesh import on_this_host
from tfm_jax.metrics.answers import answer_scores, best_spans
from tfm_jax.metrics.entities import entity_scores
from tfm_jax.settings.experiment import build_model

PROMPT, SAMPLE = 16, 48  # tokens, at most


@contextlib.contextmanager
def _alone(experiment, params):
    """(model, parameters), unrolled, on one device, whatever mesh the training is on.

    With several processes all must call it.
    """
    devices = jax.local_devices()[:1]
    mesh = jax.make_mesh((1,), (ROWS,), (AxisType.Auto,), devices=devices)
    params = jax.device_put(on_this_host(params), *devices)
    with jax.set_mesh(mesh), nn.logical_axis_rules(()):
        yield build_model(experiment, layout="unrolled"), to_unrolled(params)


def samples(experiment, params, data, split) -> dict[str, str]:
    """Number -> "beginning -> continuation" for the first rows of a language model.

    The same draws whenever it is called.

    Args: experiment, params: of the run. data: ``prepared.Prepared``. split: of it.
    """
    count, rows = experiment.eval.samples, getattr(data, split)
    if experiment.task != "causal_lm" or not (rows and count):
        return {}
    longest, length = experiment.model.longest, rows[0].tokens.shape[1]
    size = min(PROMPT, max(length // 2, 1))
    most = min(SAMPLE, longest - size + 1) if longest else SAMPLE
    real = (rows[0].segments[:count, :size] > 0).sum(axis=1)
    prompts = [row[:n] for row, n in zip(rows[0].tokens, real, strict=False)]
    separator = experiment.data.separator
    eos = data.tokenizer.ids_of(separator)[0] if separator else -1
    forbid = data.tokenizer.unspelled(experiment.model.vocab)
    with _alone(experiment, params) as parts:
        found = generate(*parts, prompts, Sampling(most, eos=eos, forbid=forbid))
    written = [x[0, : n[0]] for x, n in zip(*map(np.asarray, found[::2]), strict=True)]
    pairs = zip(*map(data.tokenizer.decode, (prompts, written)), strict=True)
    return {str(n): f"{prompt} -> {text}" for n, (prompt, text) in enumerate(pairs)}


def scores(experiment, params, data, split) -> dict:
    """Scores that no sum over tokens gives, of the tasks in SCORES; {} for others.

    Tags: ``precision``, ``recall`` and ``f1`` of entities. Spans: ``exact_match`` and
    ``f1`` of answers, in [0, 1].

    Args: as for ``samples``.
    """
    if experiment.task not in SCORES or not getattr(data, split):
        return {}
    with _alone(experiment, params) as (model, params):
        return SCORES[experiment.task](experiment, model, params, data, split)


def _entities(experiment, model, params, data, split):
    """Words without a token of their own in the row have no tag and do not count."""
    del experiment
    (rows,) = getattr(data, split)
    names = np.array(data.report[split]["labels"])
    tokens, types = unlabelled.unpadded(rows)
    logits = probing.outputs(model, params, tokens, types=types)
    predicted, true = [], []
    for one, labels, weights in zip(logits, rows.labels, rows.weights, strict=True):
        columns = np.flatnonzero(weights)
        predicted.append(names[one[columns].argmax(axis=-1)].tolist())
        true.append(names[labels[columns]].tolist())
    found = entity_scores(predicted, true)
    return {name: found[name] for name in ("precision", "recall", "f1", "entities")}


def _answers(experiment, model, params, data, split):
    questions = data.examples[split]
    found = find_answers(model, params, data.tokenizer, questions, experiment.data)
    accepted = [question.answers for question in questions]
    least = -np.inf if all(accepted) else 0.0  # SQuAD 1.1 has an answer to all
    texts = [answer.text if answer.margin >= least else "" for answer in found]
    return answer_scores(texts, accepted)


class Answer(NamedTuple):
    """``text[start:end]``, and its ``margin`` over no answer in logits."""

    text: str
    margin: float
    start: int
    end: int


def find_answers(
    model, params, tokenizer, questions, cfg, *, most: int = 30, **options
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
    found, _ = spans.span_rows(tokenizer, plain, cfg)
    tokens, types = unlabelled.unpadded(found.rows)
    logits = np.full((len(tokens), 2, cfg.length), -np.inf)
    for padded, row, one in zip(
        logits,
        tokens,
        probing.outputs(model, params, tokens, types=types, **options),
        strict=True,
    ):
        padded[:, : len(row)] = one[:, : len(row)]
    inside = found.places[..., 1] > found.places[..., 0]
    answers = [Answer("", -np.inf, 0, 0)] * len(plain)
    rows = np.flatnonzero(inside.any(axis=1))  # that may have an answer
    of_rows = logits[rows], found.questions[rows], inside[rows]
    for best in best_spans(*of_rows, most=most):
        row = rows[best.row]
        places = found.places[row]
        start, end = int(places[best.first, 0]), int(places[best.last, 1])
        text = spans.span_text(found, plain, row, best.first, best.last)
        answers[found.questions[row]] = Answer(text, best.score, start, end)
    return answers


SCORES = {"tag": _entities, "span": _answers}
