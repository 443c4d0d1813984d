"""Reach: how the gradient of an output depends on the distance of the input."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.costs.curve import Curve
from tfm_jax import api
from tfm_jax.api import Experiment

LONGEST = 512  # positions of the rows whose gradients are taken
OUTPUTS = 16  # positions whose gradients are taken
SIDES = ("source", "target")
CURVES = {
    "source_gradient": Curve("encoder", "distance in tokens", "gradient"),
    "target_gradient": Curve("decoder", "distance in tokens", "gradient"),
}
SCORES = tuple(f"{side}_{name}" for side in SIDES for name in ("reach", "far"))


def tokens(experiment: Experiment, rows: int, n: int) -> jax.Array:
    """[rows, n] of random tokens that are on both sides' tables."""
    model = experiment.model
    vocab = min(model.source_vocab, model.target_vocab)
    key = jax.random.key(experiment.seed)
    return jax.random.randint(key, (rows, n), 0, vocab)


def pairs(batch: Any, tokens: jax.Array) -> Any:
    """A batch like ``batch`` of rows without padding, the tokens on both sides."""
    ones = jnp.ones_like(tokens)
    return batch._replace(
        source=tokens,
        source_segments=ones,
        source_positions=None,
        target_inputs=tokens,
        target_labels=tokens,
        target_segments=ones,
        target_positions=None,
    )


def measure(
    experiment: Experiment, model: nn.Module, params: Any, batch: Any
) -> tuple[dict[str, float], dict[str, list]]:
    """Gradients of outputs by the token vectors that lie ``d`` positions away.

    On the source side the outputs are the encoder's memory, and d counts both ways; on
    the target side they are the logits, and d counts back. Norms of a random readout's
    gradient are averaged over pairs of positions; all are divided by that for d = 1.

    Returns: scores of either side: ``reach``, the most positions whose gradient at one
        output is not exactly 0, and ``far``, the gradient for d of an eighth of the
        row; curves: [d, gradient].
    """
    length = min(LONGEST, experiment.data.target_length)
    row = tokens(experiment, 1, length)
    both = pairs(batch, row)
    outputs = np.unique(np.linspace(0, length - 1, OUTPUTS).astype(int))
    back = outputs[:, None] - np.arange(length)
    sides: dict[str, tuple] = {
        "source": (0, dict(method="encode"), (row, jnp.ones_like(row)), np.abs(back)),
        "target": (1, {}, (both,), back),
    }
    scores: dict[str, float] = {}
    curves: dict[str, list] = {}
    for side, (call, options, arguments, distance) in sides.items():
        run = functools.partial(model.apply, train=False, **options)
        inputs = ({"params": params}, *arguments)
        norms = _norms(run, inputs, call, outputs, length, experiment.seed)
        unit = norms[distance == 1].mean()
        curves[f"{side}_gradient"] = [
            [d, float(norms[distance == d].mean() / unit)] for d in _distances(length)
        ]
        scores[f"{side}_reach"] = int((norms > 0).sum(1).max())
        scores[f"{side}_far"] = float(norms[distance == length // 8].mean() / unit)
    return scores, curves


def _distances(length):
    """1, 2, 3, 4, 6, 8, 12, ... up to half of ``length``."""
    doubled = [2**n for n in range(length.bit_length())]
    return sorted(n for n in {*doubled, *(3 * n for n in doubled)} if n <= length // 2)


def _norms(run, inputs, call, outputs, length, seed):
    """[outputs, T] norms of the gradients by the vectors of embedding no. ``call``.

    Of what ``run(*inputs)`` returns the first array with a vector for each position
    counts. The batch has one row, so that it may come first or after the positions.
    """
    shapes = []

    def noted(vectors):
        shapes.append(vectors.shape)
        return vectors

    jax.eval_shape(lambda *inputs: _with(noted, call, run, inputs), *inputs)

    @jax.jit  # nothing that depends on the seed is a constant: it is compiled once
    def gradients(inputs, added, key):
        def by_position(added):
            y = _with(lambda vectors: vectors + added, call, run, inputs)
            arrays = (x for x in jax.tree.leaves(y) if x.ndim == 3)
            return next(x for x in arrays if length in x.shape).reshape(length, -1)

        y, pull = jax.vjp(by_position, added)
        readout = jax.random.normal(key, y.shape[-1:])

        def at(t):
            by_vectors = pull(jnp.zeros_like(y).at[t].set(readout))[0]
            return by_vectors.reshape(length, -1)

        return jax.lax.map(at, outputs)

    grads = gradients(inputs, jnp.zeros(shapes[0]), jax.random.key(seed))
    return np.linalg.norm(np.asarray(grads, np.float64), axis=-1)  # small ones squared


def _with(change, call, run, inputs):
    """``run(*inputs)``, the vectors changed that embedding no. ``call`` looks up."""
    calls = itertools.count()

    def intercept(function, arguments, keywords, context):
        y = function(*arguments, **keywords)
        looks_up = isinstance(context.module, api.TokenEmbedding)
        if not looks_up or context.method_name != "__call__" or next(calls) != call:
            return y
        return change(y)

    with nn.intercept_methods(intercept):
        return run(*inputs)
