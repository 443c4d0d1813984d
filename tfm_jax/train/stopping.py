"""Early stopping: training ends when the scores of held-out data get no better."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfm_jax.runs.log import read_history
from tfm_jax.settings.experiment import Experiment


def evaluations(workdir: Path) -> dict[int, dict[str, Any]]:
    """Step -> scores of the evaluations of a run so far, in order."""
    history = read_history(workdir)
    return {record["step"]: record for record in history if record["kind"] == "valid"}


def why(experiment: Experiment, evaluated: Mapping[int, Mapping[str, Any]]) -> str:
    """In words, why a run should stop; "" as long as it should not.

    It should once the last ``train.stop_patience`` evaluations are all no better than
    the best before them. The answer depends on the record alone, so that a run that
    was interrupted stops where an unbroken one does.

    Source: Prechelt 1998, "Early stopping - but when?", the criterion UP, with "no
        better than the best" for "worse than the one before".
    """
    cfg, scores = experiment.train, experiment.workload.scores
    metric = experiment.workload.score_of(cfg.stop_metric)
    better, worst = scores[metric], {min: math.inf, max: -math.inf}[scores[metric]]
    curve = {
        step: worst if math.isnan(record[metric]) else record[metric]
        for step, record in evaluated.items()
        if metric in record
    }
    if not curve:
        return ""
    best = list(curve.values()).index(better(curve.values()))
    if len(curve) - 1 - best < cfg.stop_patience:
        return ""
    step, value = list(curve.items())[best]
    return (
        f"{metric} was best at step {step}, {value:.4g}, and not in the "
        f"{cfg.stop_patience} evaluations since (train.stop_patience)"
    )
