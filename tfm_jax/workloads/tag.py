"""A tag for every word of a text."""

from typing import Any

import numpy as np

from tfm_jax.data.rows import tagged, unlabelled
from tfm_jax.decode import probing
from tfm_jax.metrics.entities import entity_scores
from tfm_jax.objectives import tag
from tfm_jax.workloads.evaluator import Evaluator, Poll, Scored
from tfm_jax.workloads.masked_lm import DEFAULTS
from tfm_jax.workloads.workload import Workload

ENTITIES = ("precision", "recall", "f1", "entities")


class TagEvaluator(Evaluator):
    """Scores entities besides."""

    def add_scores(
        self, params: dict[str, Any], split: str, scores: dict, totals: Any, poll: Poll
    ) -> Scored:
        """Adds ``precision``, ``recall`` and ``f1`` of entities, in [0, 1].

        Words without a token of their own in the row have no tag and do not count.
        """
        (rows,) = getattr(self.data, split)
        names = np.array(self.data.report[split]["labels"])
        tokens, types = unlabelled.unpadded(rows)
        with self.unrolled(params) as parts:
            logits = probing.outputs(
                *parts, tokens, types=types, on_batch=lambda _: poll()
            )
        predicted, true = [], []
        for row, labels, weights in zip(logits, rows.labels, rows.weights, strict=True):
            columns = np.flatnonzero(weights)
            predicted.append(names[row[columns].argmax(axis=-1)].tolist())
            true.append(names[labels[columns]].tolist())
        entities = entity_scores(predicted, true)
        return Scored(scores | {name: entities[name] for name in ENTITIES})


WORKLOAD = Workload(
    name="tag",
    objective=tag,
    data=tagged.KIND,
    final_scores=lambda *_: ENTITIES,
    labels="labels",
    evaluator=TagEvaluator,
    defaults=DEFAULTS,
)
