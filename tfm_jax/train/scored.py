"""Scored: the names of what a run will be scored by, known before it runs."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from tfm_jax.data.batches import eval_batches
from tfm_jax.data.errors import within
from tfm_jax.settings.experiment import Experiment
from tfm_jax.train import program
from tfm_jax.workloads.evaluator import make_eval_step, scores_of


def names(experiment: Experiment, data: Any) -> Iterator[str]:
    """``split/score`` of all that ``results.json`` of a run will hold.

    Nothing is compiled or run. Args: data: the prepared one.
    Raises: ConfigError, DataError if it cannot be run.
    """
    experiment = experiment.complete(data.tokenizer)
    params = program.build(experiment).shapes().params
    scored = [("valid", experiment, data, "valid"), ("test", experiment, data, "test")]
    for name, other in experiment.variants().items():
        with within(f"eval.variants, {name!r}"):
            its_data = other.workload.prepare(other, data.tokenizer)
        scored.append((name, other, its_data, "valid"))
    eval_step = functools.cache(make_eval_step)  # of both splits one trace
    for name, each, its_data, split in scored:
        if getattr(its_data, split):
            totals = _totals(eval_step(each), each, params, its_data, split)
            workload = each.workload
            of_sums = scores_of(each.objective, totals, its_data.report[split])
            of_answers = workload.final_scores(each, its_data, split)
            for score in dict.fromkeys((*of_sums, *of_answers)):
                yield f"{name}/{score}"


def _totals(step, experiment, params, data, split):
    """What one evaluation adds up: right in shape, and nothing else."""
    batches = eval_batches(
        data, split, batch_tokens=experiment.eval.batch_tokens, row_multiple=1
    )
    sums = jax.eval_shape(step, params, next(iter(batches)))
    return jax.tree.map(lambda x: np.ones(x.shape, x.dtype), sums)
