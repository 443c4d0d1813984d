"""Runs that measure and do not train: a model as it is initialised, or what it costs.

    python -m experiments.probes --probe=gradients --config=FILE.py --workdir=DIR ...

Takes the flags of ``tfm_jax.main`` and leaves ``config.json`` and ``results.json``.
"""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.costs import lengths
from experiments.costs.curve import Curve
from tfm_jax import api
from tfm_jax.api import Experiment

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
    experiment, batch, _ = api.start(experiment)
    norms = {}
    for depth in DEPTHS:
        model = experiment.build_model(
            encoder_depth=depth, decoder_depth=depth, layout="scanned"
        )

        @jax.jit
        def norm(params, model=model):
            def loss(params):
                return api.mean_loss(experiment, model, params, batch)

            layers = jax.grad(loss)(params)["decoder"]["layers"]
            return jnp.linalg.norm(layers["ffn"]["down"]["kernel"][-1])

        norms[depth] = float(norm(api.initial_params(experiment, model)))
    slope = np.polyfit(np.log(list(norms)), np.log(list(norms.values())), 1)[0]
    return {"slope": float(slope)} | {f"norm_{n}": x for n, x in norms.items()}


def scores(experiment: Experiment) -> dict:
    """What the size of the keys does to attention weights and gradients at the start.

    Queries and keys have independent entries of mean 0 and variance 1, so that a dot
    product has variance d_k.

    Source: Vaswani et al. 2017, section 3.2.1 and footnote 4.
    Returns: for each d_k in ``KEY_SIZES``: ``entropy_K``, mean entropy of the weights
        over 64 keys, 1 being uniform, ``gradient_K``, root mean square over queries of
        the derivative of the weights by the logits, relative to that of uniform
        weights, and ``median_gradient_K``, that of the median query; ``entropy_lost``
        from the smallest d_k to the largest.
    """
    name, length, heads = experiment.model.score, 64, 8
    score = api.SCORES[name]
    key = jax.random.key(experiment.seed)
    measured = {}
    for size in KEY_SIZES:
        q, k, vector = (
            jax.random.normal(jax.random.fold_in(key, n), shape)
            for n, shape in enumerate(
                ((2, length, heads, size),) * 2 + ((heads, size),)
            )
        )
        parameter = None
        if score.shape:  # as the layer initialises it
            shape = score.shape(heads, size)
            scale = np.sqrt(6.0 / sum(shape)) / np.sqrt(3.0) if len(shape) > 1 else 0.0
            constant = jnp.full(shape, score.initial)
            parameter = vector * scale if scale else constant
        weights = api.attention_weights(q, k, score=name, parameter=parameter)
        entropy = -jnp.sum(weights * jnp.log(jnp.maximum(weights, 1e-30)), -1)
        measured[f"entropy_{size}"] = float(jnp.mean(entropy) / np.log(length))
        uniform = _softness(jnp.full((length,), 1.0 / length))
        softness = _softness(weights) / uniform
        measured[f"gradient_{size}"] = float(jnp.sqrt(jnp.mean(softness**2)))
        measured[f"median_gradient_{size}"] = float(jnp.median(softness))
    first, last = (
        measured[f"entropy_{size}"] for size in (KEY_SIZES[0], KEY_SIZES[-1])
    )
    return {"entropy_lost": first - last} | measured


def masks(experiment: Experiment) -> dict:
    """Whether the model sees what its mask hides.

    Returns: ``leak``, largest change of a logit if only later tokens change, and
        ``difference``, largest difference of a logit to a model of equal parameters
        with mask_style "before", both in standard deviations of the logits.
    """
    experiment, batch, _ = api.start(experiment)
    model = experiment.build_model()
    params = api.initial_params(experiment, model)
    audit = api.audit_transformer(model, params, seed=experiment.seed, show=False)
    before = experiment.build_model(mask_style="before")
    a, b = (
        np.asarray(jax.jit(functools.partial(api.logits, m))(params, batch))
        for m in (model, before)
    )
    real = np.asarray(batch.target_segments) > 0
    difference = np.abs(a - b)[real].max() / b[real].std()
    return {"leak": audit.look_ahead.measured, "difference": float(difference)}


class Probe(NamedTuple):
    """What runs measure instead of training.

    Attributes:
        measure: experiment -> sections of results.json: "probe", score -> number, and
            those of curves if it has any: "curves", name -> [[x, y], ...]; "parameters"
            and "conditions", name -> number or text, under which it was measured.
        scores: their names. curves: name -> what it is.
        alone: whether its runs take turns on a machine, as those that look at a clock.
    """

    measure: Callable[[Experiment], dict]
    scores: tuple[str, ...]
    curves: Mapping[str, Curve] = MappingProxyType({})
    alone: bool = False


def _only(scores):
    """The sections of a probe that has but scores."""
    return lambda experiment: {"probe": scores(experiment)}


_KINDS = ("entropy", "gradient", "median_gradient")
PROBES = {
    "gradients": Probe(_only(gradients), ("slope", *(f"norm_{n}" for n in DEPTHS))),
    "scores": Probe(
        _only(scores),
        ("entropy_lost", *(f"{kind}_{n}" for n in KEY_SIZES for kind in _KINDS)),
    ),
    "masks": Probe(_only(masks), ("leak", "difference")),
    "lengths": Probe(lengths.measure, lengths.SCORES, lengths.CURVES, alone=True),
}


def _softness(weights):
    """Frobenius norm of d weights / d logits = diag(w) - w w^T, of each query."""
    square = jnp.sum(weights**2, -1)
    cube = jnp.sum(weights**3, -1)
    return jnp.sqrt(jnp.maximum(square - 2 * cube + square**2, 0.0))


@api.exits.command("experiments.probes")
def main(argv: Sequence[str]) -> Any:
    """Exit code of the command ``argv``."""
    name = next((a for a in argv if a.startswith("--probe=")), "")
    rest = [argument for argument in argv if argument != name]
    name = name.removeprefix("--probe=")
    if name not in PROBES:
        raise api.ConfigError(f"--probe={name}; choose from ({', '.join(PROBES)})")
    experiment, workdir = api.read_command(rest)
    workdir = api.preflight(workdir)
    api.set_up(experiment)
    with api.Lease(workdir):
        api.replace(workdir / "config.json", api.to_json(experiment.as_dict()))
        measured = PROBES[name].measure(experiment)
        api.replace(workdir / "results.json", {"step": 0} | measured)
    api.say("  ".join(f"{k} {v:.4g}" for k, v in measured["probe"].items()))


if __name__ == "__main__":
    api.install()
    sys.exit(main(sys.argv[1:]))
