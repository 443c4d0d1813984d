"""A class, or a number, for a text or a pair of texts."""

from tfm_jax.data.rows import labelled
from tfm_jax.objectives import classify
from tfm_jax.workloads.masked_lm import DEFAULTS
from tfm_jax.workloads.workload import TOKEN_SCORES, Workload


def _has_score(data, evaluation, score):
    numbers = data.layout().scores
    return score == "nll" or numbers == (score == "pearson")


WORKLOAD = Workload(
    name="classify",
    objective=classify,
    data=labelled.KIND,
    scores={**TOKEN_SCORES, "f1": max, "matthews": max, "pearson": max},
    has_score=_has_score,
    labels="labels",
    auxiliary=True,
    defaults={  # Radford et al. 2018, section 3.2: the loss of the words besides
        **DEFAULTS,
        "train": {**DEFAULTS["train"], "auxiliary_weight": 0.5},
    },
    sentences=lambda data: 2 if data.layout().second else 1,
)
