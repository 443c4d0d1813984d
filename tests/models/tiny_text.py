"""Encoders of text that are small enough to compile fast, and rows for them."""

import functools

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from tests.layers.weights import randomised
from tfm_jax.data.batch import TextBatch
from tfm_jax.layers.layout import abstract, init_params

V = 19
TINY = dict(width=8, heads=2, ffn_width=12, depth=2, vocab=V, max_length=12)
NARROW = {  # family -> what else it has to be small in
    "albert": dict(embedding_width=8),
    "electra": dict(
        embedding_width=8, generator_width=4, generator_heads=1, generator_ffn_width=8,
        generator_depth=1,
    ),
}  # fmt: skip
ONE = TextBatch(np.ones((1, 2), np.int32), np.ones((1, 2), np.int32))


def sizes(model, batch=ONE):
    """Path of each parameter to the number of its elements; nothing is computed."""
    flat = flatten_dict(abstract(model, batch).params, sep="/")
    return {path: leaf.size for path, leaf in flat.items()}


def tiny(module, **changes):
    """A model with random weights, biases and norms: (model, params)."""
    model = module.Model(module.Config(**(TINY | changes)))
    return model, randomised(_shapes(model))


@functools.cache
def _shapes(model):
    return jax.eval_shape(lambda: init_params(model, jax.random.key(0), ONE))


def rows(groups, length=0, seed=0):
    """A ``TextBatch``; a row holds a document of so many tokens, or a list, packed."""
    packed = isinstance(groups[0], list)
    groups = groups if packed else [[n] for n in groups]
    length = length or max(map(sum, groups))
    tokens, segments, positions, types = np.zeros((4, len(groups), length), np.int32)
    for row, group in enumerate(groups):
        start = 0
        for number, n in enumerate(group, 1):
            rng = np.random.default_rng([seed, n])
            end = start + n
            tokens[row, start:end] = rng.integers(1, V, n)
            segments[row, start:end] = number
            positions[row, start:end] = np.arange(n)
            types[row, start:end] = np.arange(n) > n // 2
            start = end
    return TextBatch(tokens, segments, positions if packed else None, types)


@functools.partial(jax.jit, static_argnums=(0, 3))
def run(model, params, batch, method=None):
    return model.apply({"params": params}, batch, train=False, method=method)
