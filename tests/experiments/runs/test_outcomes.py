from types import SimpleNamespace

import pytest

from experiments.runs import outcomes
from experiments.runs.attempts import Run
from tfm_jax.api import ConfigError


def test_a_metric_is_a_score_or_how_far_two_of_them_lie_apart(tmp_path):
    results = {"long": {"nll": 3.0}, "short": {"nll": 1.0, "bleu": float("nan")}}
    status = SimpleNamespace(name="done", results=results)
    run = Run(SimpleNamespace(directory=tmp_path), status)
    assert outcomes.metric(run, "long/nll") == 3.0
    assert outcomes.metric(run, "long/nll - short/nll") == 2.0
    assert outcomes.metric(run, "long/nll - short/bleu") is None
    with pytest.raises(ConfigError, match="long/bleu is not in .*; choose from long/"):
        outcomes.metric(run, "short/nll - long/bleu")
