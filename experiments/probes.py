"""Runs that measure and do not train: a model as it is initialised.

    python -m experiments.probes --probe=gradients --config=FILE.py --workdir=DIR ...

Takes the flags of ``tfm_jax.main`` and leaves ``config.json`` and ``results.json``.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import identity
from experiments.sizes import first_batch
from tfm_jax import main as cli
from tfm_jax import terminal
from tfm_jax.audit import audit_transformer
from tfm_jax.config import ConfigError, to_json
from tfm_jax.layers.layout import init_params
from tfm_jax.ops.attention import SCORES, attention_weights
from tfm_jax.runs import exits, runtime
from tfm_jax.runs.workdir import Lease, preflight, replace
from tfm_jax.settings.experiment import (
    TASKS,
    Experiment,
    build_model,
    complete,
    resolve,
)
from tfm_jax.terminal import say
from tfm_jax.train.evaluate import apply

DEPTHS = (2, 4, 8, 16)
KEY_SIZES = (8, 32, 128, 512)


def gradients(experiment: Experiment) -> dict:
    """How the gradient of the last feed-forward map depends on depth at the start.

    Source: Xiong et al. 2020, arXiv:2002.04745, theorem 1: O(sqrt(log D)) whatever the
    depth with Post-LN, shrinking as 1 / sqrt(depth) with Pre-LN.
    Returns: ``norm_L``, Frobenius norm of the gradient of the last decoder layer's
        second feed-forward matrix with L + L layers, and ``slope`` of log norm against
        log L by least squares.
    """
    data = identity.data_of(experiment)
    experiment = complete(experiment, data.tokenizer)
    task, batch = TASKS[experiment.task].losses, first_batch(experiment, data)
    norms = {}
    for depth in DEPTHS:
        model = build_model(
            experiment, encoder_depth=depth, decoder_depth=depth, layout="scanned"
        )
        params = init_params(model, jax.random.key(experiment.seed), task.example())

        @jax.jit
        def norm(params, model=model):
            run = functools.partial(apply, model)

            def mean(params):
                total, weight = task.loss_sum(run, params, batch, train=False)
                return total / weight

            layers = jax.grad(mean)(params)["decoder"]["layers"]
            return jnp.linalg.norm(layers["ffn"]["down"]["kernel"][-1])

        norms[depth] = float(norm(params))
    slope = np.polyfit(np.log(list(norms)), np.log(list(norms.values())), 1)[0]
    return {"slope": float(slope)} | {f"norm_{n}": x for n, x in norms.items()}


def scores(experiment: Experiment) -> dict:
    """What the size of the keys does to attention weights and gradients at the start.

    Queries and keys have independent entries of mean 0 and variance 1, so that a dot
    product has variance d_k.

    Source: Vaswani et al. 2017, section 3.2.1 and footnote 4.
    Returns: for each d_k in ``KEY_SIZES``: ``entropy_K``, mean entropy of the weights
        over 64 keys, 1 being uniform, and ``gradient_K``, root mean square of the
        derivative of the weights by the logits, relative to that of uniform weights;
        ``entropy_lost`` from the smallest d_k to the largest.
    """
    name, length, heads = experiment.model.score, 64, 8
    key = jax.random.key(experiment.seed)
    found = {}
    for size in KEY_SIZES:
        q, k, vector = (
            jax.random.normal(jax.random.fold_in(key, n), shape)
            for n, shape in enumerate(
                ((2, length, heads, size),) * 2 + ((heads, size),)
            )
        )
        parameter = None
        if SCORES[name].shape:  # as the layer initialises it
            shape = SCORES[name].shape(heads, size)
            scale = np.sqrt(6.0 / sum(shape)) / np.sqrt(3.0) if len(shape) > 1 else 0.0
            constant = jnp.full(shape, SCORES[name].initial)
            parameter = vector * scale if scale else constant
        weights = attention_weights(q, k, score=name, parameter=parameter)
        entropy = -jnp.sum(weights * jnp.log(jnp.maximum(weights, 1e-30)), -1)
        found[f"entropy_{size}"] = float(jnp.mean(entropy) / np.log(length))
        found[f"gradient_{size}"] = _softness(weights) / _softness(
            jnp.full((1, 1, 1, length), 1.0 / length)
        )
    lost = found[f"entropy_{KEY_SIZES[0]}"] - found[f"entropy_{KEY_SIZES[-1]}"]
    return {"entropy_lost": lost} | found


def masks(experiment: Experiment) -> dict:
    """Whether the model sees what its mask hides.

    Returns: ``leak``, largest change of a logit if only later tokens change, and
        ``difference``, largest difference of a logit to a model of equal parameters
        with mask_style "before", both in standard deviations of the logits.
    """
    data = identity.data_of(experiment)
    experiment = complete(experiment, data.tokenizer)
    model = build_model(experiment)
    example = TASKS[experiment.task].losses.example()
    params = init_params(model, jax.random.key(experiment.seed), example)
    found = audit_transformer(model, params, seed=experiment.seed, show=False)
    batch = first_batch(experiment, data)
    before = dataclasses.replace(model.cfg, mask_style="before")
    a, b = (
        np.asarray(
            jax.jit(functools.partial(apply, m, rng=None, train=False))(params, batch)
        )
        for m in (model, model.clone(cfg=before))
    )
    real = np.asarray(batch.target_segments) > 0
    difference = np.abs(a - b)[real].max() / b[real].std()
    return {"leak": found.look_ahead.measured, "difference": float(difference)}


class Probe(NamedTuple):
    """``measure(experiment)`` -> ``scores``, by these names."""

    measure: Callable[[Experiment], dict]
    scores: tuple[str, ...]


_KINDS = ("entropy", "gradient")
PROBES = {
    "gradients": Probe(gradients, ("slope", *(f"norm_{n}" for n in DEPTHS))),
    "scores": Probe(
        scores, ("entropy_lost", *(f"{kind}_{n}" for n in KEY_SIZES for kind in _KINDS))
    ),
    "masks": Probe(masks, ("leak", "difference")),
}


def _softness(weights):
    """Root mean square of d weights / d logits = diag(w) - w w^T, per query."""
    square = jnp.sum(weights**2, -1)
    cube = jnp.sum(weights**3, -1)
    return float(jnp.sqrt(jnp.mean(square - 2 * cube + square**2)))


def main(argv):
    """Exit code of the command ``argv``."""
    name = next((a for a in argv if a.startswith("--probe=")), "")
    rest = [argument for argument in argv if argument != name]
    name = name.removeprefix("--probe=")
    try:
        if name not in PROBES:
            raise ConfigError(f"--probe={name}; choose from {tuple(PROBES)}")
        values, knobs = cli.parse(rest)
        experiment = resolve(cli.load_config(values, knobs))
        workdir = preflight(values.workdir)
        runtime.prepare(experiment.mesh.cpu_devices)
        with Lease(workdir):
            replace(workdir / "config.json", to_json(experiment.as_dict()))
            found = PROBES[name].measure(experiment)
            results = {"step": 0, "probe": found}
            replace(workdir / "results.json", results)
        say("  ".join(f"{k} {v:.4g}" for k, v in found.items()))
    except Exception as error:
        code = exits.exit_code(error)
        if code == exits.UNKNOWN:
            raise
        say(f"experiments.probes: {exits.one_line(error)}", file=sys.stderr)
        return code
    return exits.OK


if __name__ == "__main__":
    terminal.install()
    sys.exit(main(sys.argv[1:]))
