"""Scored: the names of what a run will be scored by, known before it runs."""

import collections
from collections.abc import Iterator

import jax
import numpy as np

from tfm_jax.data.batches import eval_batches
from tfm_jax.data.sources.bitext import SOURCES
from tfm_jax.metrics.answers import answer_scores
from tfm_jax.settings import variants
from tfm_jax.settings.experiment import TASKS, Experiment, alone, complete
from tfm_jax.train import evaluate, program
from tfm_jax.train.language import prepare

_OF_ANSWERS = {
    "tag": ("precision", "recall", "f1", "entities"),
    "span": tuple(answer_scores(["a"], [["a"]])),
}


def names(experiment: Experiment, data) -> Iterator[str]:
    """``split/score`` of all that ``results.json`` of a run will hold.

    Nothing is compiled or run. Args: data: the prepared one.
    Raises: ConfigError, DataError if it cannot be run.
    """
    experiment = complete(experiment, data.tokenizer)
    if experiment.task == "translation":
        yield from _of_translation(experiment, data)
        return
    params = jax.eval_shape(program.build(experiment).init, 0).params
    scored = [("valid", experiment, data, "valid"), ("test", experiment, data, "test")]
    others = variants.read(experiment.eval.variants, experiment.data)
    for name, section in others.items():
        other = alone(experiment, section)
        scored.append((name, other, prepare(other, data.tokenizer), "valid"))
    for name, each, its_data, split in scored:
        if getattr(its_data, split):
            totals = _totals(each, params, its_data, split)
            task = TASKS[each.task].losses
            of_task = task.scores(totals, its_data.report[split])
            for score in {**of_task, **dict.fromkeys(_OF_ANSWERS.get(each.task, ()))}:
                yield f"{name}/{score}"


def _of_translation(experiment, data):
    of_task = TASKS["translation"].losses.scores(collections.Counter(), {})
    for split in ("valid", "test"):
        if getattr(data, split):
            for name in (*of_task, *SOURCES[experiment.data.source].scores):
                yield f"{split}/{name}"


def _totals(experiment, params, data, split):
    """What one evaluation adds up: right in shape, and nothing else."""
    batches = eval_batches(
        data, split, batch_tokens=experiment.eval.batch_tokens, row_multiple=1
    )
    step = evaluate.make_eval_step(experiment)
    sums = jax.eval_shape(step, params, next(iter(batches)))
    return jax.tree.map(lambda x: np.ones(x.shape, x.dtype), sums)
