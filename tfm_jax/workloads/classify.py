"""A class, or a number, for a text or a pair of texts."""

from typing import Any

from tfm_jax.config import ConfigError
from tfm_jax.data.rows import labelled
from tfm_jax.metrics.confusion import Confusion
from tfm_jax.objectives import classify
from tfm_jax.workloads.evaluator import Evaluator, Poll, Scored
from tfm_jax.workloads.masked_lm import DEFAULTS
from tfm_jax.workloads.workload import TOKEN_SCORES, Workload


class ClassEvaluator(Evaluator):
    """Says besides which classes are taken for which."""

    def add_scores(
        self, params: dict[str, Any], split: str, scores: dict, totals: Any, poll: Poll
    ) -> Scored:
        """Leaves ``confusion-SPLIT.tsv``, unless numbers were learnt."""
        names = self.data.report[split]["labels"]
        if not names:
            return Scored(scores)
        confusion = Confusion(totals["confusion"], names)
        worst = (
            f"{true} taken for {other}: {count} of them, {share:.1%}"
            for true, other, count, share in confusion.worst()
        )
        files = {"confusion.tsv": confusion.table()}
        return Scored(scores, tuple(worst), files, confusion)


def _has_score(experiment, score):
    numbers = experiment.data.layout().scores
    return score == "nll" or numbers == (score == "pearson")


def _check_new(experiment):
    smoothing = experiment.train.label_smoothing
    if smoothing and experiment.data.layout().scores:
        raise ConfigError(
            f"train.label_smoothing={smoothing} has no effect on labels that are "
            "numbers; set it to 0"
        )


WORKLOAD = Workload(
    name="classify",
    objective=classify,
    data=labelled.KIND,
    scores={**TOKEN_SCORES, "f1": max, "matthews": max, "pearson": max},
    has_score=_has_score,
    check_new=_check_new,
    labels="labels",
    auxiliary=True,
    loss_unit="loss per example",
    evaluator=ClassEvaluator,
    defaults={  # Radford et al. 2018, section 3.2: the loss of the words besides
        **DEFAULTS,
        "train": {**DEFAULTS["train"], "auxiliary_weight": 0.5},
    },
    sentences=lambda data: 2 if data.layout().second else 1,
)
