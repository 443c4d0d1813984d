"""Masked language modelling, with or without a judgement of sentence pairs."""

from typing import Any

from tfm_jax.config import ConfigError
from tfm_jax.data.rows import masked
from tfm_jax.models import MODELS
from tfm_jax.objectives import masked_lm
from tfm_jax.workloads.workload import TOKEN_SCORES, Workload


def sentences(data: Any) -> int:
    """How many sentences a row has."""
    return 1 if data.pairs.kind == "none" else 2


def _check(experiment):
    """A head that judges sentence pairs reads pairs, and no other head does."""
    model, kind = experiment.model, experiment.data.pairs.kind
    family = MODELS[experiment.model_name]
    heads = family.learns["masked_lm"]
    able = [head for head in heads if (head in family.pairs) == (kind != "none")]
    if heads and model.head not in able:
        needed = " or ".join(map(repr, able)) or "another model_name"
        raise ConfigError(
            f"model.head={model.head!r} does not fit data.pairs.kind={kind!r}, which "
            f"needs model.head={needed}"
        )


# Devlin et al. 2019, arXiv:1810.04805, appendix A.2, and its release
DEFAULTS: dict[str, dict[str, Any]] = {
    "optim": dict(
        optimizer="bert_adam",
        schedule="linear",
        b2=0.999,
        eps=1e-6,
        weight_decay=0.01,
        decay="kernels_and_tables",
        clip_norm=1.0,
    ),
    "train": dict(label_smoothing=0.0),
}

WORKLOAD = Workload(
    name="masked_lm",
    objective=masked_lm,
    data=masked.KIND,
    scores={**TOKEN_SCORES, "pair_accuracy": max},
    has_score=lambda experiment, score: (
        score != "pair_accuracy" or sentences(experiment.data) == 2
    ),
    check=_check,
    auxiliary=True,
    defaults=DEFAULTS,
    sentences=sentences,
)
