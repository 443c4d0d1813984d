"""Masked language modelling, with or without a judgement of sentence pairs."""

from typing import Any

from tfm_jax.data.rows import masked
from tfm_jax.objectives import masked_lm
from tfm_jax.workloads.workload import TOKEN_SCORES, Workload


def sentences(data: Any) -> int:
    """How many sentences a row has."""
    return 1 if data.pairs.kind == "none" else 2


WORKLOAD = Workload(
    name="masked_lm",
    objective=masked_lm,
    data=masked.KIND,
    scores={**TOKEN_SCORES, "pair_accuracy": max},
    has=lambda experiment, score: (
        score != "pair_accuracy" or sentences(experiment.data) == 2
    ),
    auxiliary=True,
    sentences=sentences,
)
