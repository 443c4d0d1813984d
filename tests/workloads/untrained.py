"""Runs that others start from or are judged by, which nobody need train."""

import functools

import jax

from tests.layers.weights import randomised
from tfm_jax.interop.workdirs import write_run
from tfm_jax.layers.layout import init_params
from tfm_jax.settings.experiment import resolve


def untrained(folder, config, tokenizer=None):
    """Random parameters in ``folder``, as if ``config`` had been trained there."""
    experiment = resolve(config)
    tokenizer = tokenizer or experiment.workload.prepare(experiment).tokenizer
    experiment = experiment.complete(tokenizer)
    init = functools.partial(init_params, experiment.build_model())
    example = experiment.objective.example()
    params = randomised(jax.eval_shape(init, jax.random.key(7), example))
    write_run(folder, experiment, tokenizer, jax.device_get(params), {})
