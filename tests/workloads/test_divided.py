"""Held-out data is scored where parameters are divided over devices."""

import contextlib
import functools

import jax
import numpy as np
import pytest

from tests.layers.weights import randomised
from tests.reliability import tiny
from tests.workloads import test_denoise, test_visual_lm, text_runs
from tfm_jax.layers.layout import abstract, init_params
from tfm_jax.mesh import Config, make_mesh, shardings, using
from tfm_jax.settings.experiment import resolve
from tfm_jax.train import finish
from tfm_jax.workloads.evaluator import Evaluator

DIVIDED = Config(data=1, fsdp=2, tensor=2)


def span(files):
    text_runs.write_files(files)
    return text_runs.get_config("span", "bert", "span", files)


def few(config):
    config.data.scenes.valid = 8
    return config


RUNS = {
    "translation": lambda files: tiny.get_config(eval__sentences=3, eval__beam=2),
    "visual_lm": lambda files: few(test_visual_lm.config_of()),
    "denoise": lambda files: test_denoise.get_config(),
    "span": span,
}


def scored(config, cfg):
    """(scores and answers of the validation data, what the evaluator leaves)."""
    experiment = resolve(config)._replace(mesh=cfg)
    data = experiment.workload.prepare(experiment)
    experiment = experiment.complete(data.tokenizer)
    model, example = experiment.build_model(), experiment.objective.example()
    init = functools.partial(init_params, model)
    params = randomised(jax.eval_shape(init, jax.random.key(0), example))
    mesh = make_mesh(cfg, jax.devices()[: cfg.data * cfg.fsdp * cfg.tensor])
    with using(cfg, mesh):
        specs = abstract(model, example).specs
        params = jax.device_put(params, shardings(mesh, params, specs))
        evaluator = experiment.workload.make_evaluator(experiment, data, mesh)
        maps = finish._attention(evaluator, params)
        return evaluator.final(params, "valid"), maps, params


@pytest.mark.parametrize("name", RUNS)
def test_scores_and_answers_are_those_of_one_device(name, tmp_path, monkeypatch):
    """And no parameter that is divided is ever whole, on the way to them."""
    config = RUNS[name](tmp_path)
    alone, maps, _ = scored(config, Config(data=1))
    largest, unrolled = [], Evaluator.unrolled

    @contextlib.contextmanager
    def watched(self, params):
        with unrolled(self, params) as (model, parts):
            largest.extend(
                (x.sharding.shard_shape(x.shape), x.shape)
                for x in jax.tree.leaves(parts)
            )
            yield model, parts

    monkeypatch.setattr(Evaluator, "unrolled", watched)
    final, others, params = scored(config, DIVIDED)
    shares = [
        (x.sharding.shard_shape(x.shape), x.shape) for x in jax.tree.leaves(params)
    ]
    assert sorted(largest[: len(shares)]) == sorted(shares)
    assert np.mean([share != shape for share, shape in shares]) > 0.3
    for score, value in alone.scores.items():
        if not isinstance(value, str):
            value = pytest.approx(value, rel=1e-4, abs=1e-5)
        assert final.scores[score] == value, score
    assert final.lines == alone.lines and final.files == alone.files
    if maps is not None:
        np.testing.assert_allclose(others.cross, maps.cross, atol=1e-5)
    if alone.images is not None:
        assert np.abs(np.int32(final.images) - alone.images).max() <= 1
