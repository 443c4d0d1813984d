"""What may choose a run's best checkpoint is what its evaluations give."""

import collections
import contextlib
import dataclasses

import jax
import numpy as np
import pytest

from tests.notebook.random_runs import ALONE, WINDOWS, made
from tests.reliability.tiny import get_config
from tfm_jax.config import ConfigError
from tfm_jax.data.sources.bitext import SOURCES
from tfm_jax.settings.experiment import resolve
from tfm_jax.settings.new_runs import check_settings, ranking
from tfm_jax.workloads import WORKLOADS
from tfm_jax.workloads.evaluator import make_eval_step

NUMBERS = dict(sizes=dict(labels=1), data=dict(scores=True))
CASES = [
    ("causal_lm", "gpt", "lm", {}),
    ("masked_lm", "bert", "masked_lm", dict(data=ALONE)),
    ("masked_lm", "bert", "pretraining", {}),
    ("classify", "bert", "classify", dict(sizes=dict(labels=3))),
    ("classify", "bert", "classify", NUMBERS),
    ("tag", "bert", "tag", dict(sizes=dict(labels=3))),
    ("span", "bert", "span", dict(data=WINDOWS)),
    ("replaced_tokens", "electra", "pretraining", {}),
    ("replaced_asked_tokens", "electra", "pretraining", {}),
    ("replace_mlm", "electra", "replace_mlm", {}),
    ("all_tokens_mlm", "electra", "all_tokens_mlm", {}),
]


EVERY = {score for workload in WORKLOADS.values() for score in workload.scores}


def ranked(experiment):
    return {name for name, there in ranking(experiment).items() if there}


@pytest.mark.parametrize("task, model, head, changes", CASES)
def test_a_run_on_text_is_ranked_by_its_scores(task, model, head, changes):
    """No model is run: the scores are those of sums of the right shapes."""
    run, losses = made(task, model, head, **changes), WORKLOADS[task].objective
    batch = losses.example()
    if changes is NUMBERS:
        batch = batch._replace(labels=np.float32(batch.labels))
    elif head == "masked_lm":
        batch = batch._replace(pair_labels=None)
    sums = jax.eval_shape(make_eval_step(run.experiment), run.params, batch)
    sums = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), sums)
    scores = losses.scores(sums, {"characters": 1, "bytes": 1})
    assert ranked(run.experiment) == EVERY & set(scores)


def test_numbers_are_not_smoothed():
    experiment = made("classify", "bert", "classify", **NUMBERS).experiment
    for smoothing in (0.0, 0.1):
        train = dataclasses.replace(experiment.train, label_smoothing=smoothing)
        refused = pytest.raises(ConfigError, match="label_smoothing=0.1 has no effect")
        with refused if smoothing else contextlib.nullcontext():
            check_settings(experiment._replace(train=train))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("sentences", [0, 3])
def test_a_translation_is_ranked_by_its_scores(source, sentences):
    changes = dict(data__source=source, eval__sentences=sentences)
    of_loss = WORKLOADS["translation"].objective.scores(collections.Counter(), {})
    scores = {*of_loss, *(SOURCES[source].scores if sentences else ())}
    assert ranked(resolve(get_config(**changes))) == EVERY & set(scores)
