"""Transformers that are small enough to run eagerly, and batches for them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from tests.layers.weights import randomised
from tfm_jax.data.batch import PairBatch
from tfm_jax.layers.embed import TokenEmbedding
from tfm_jax.layers.layout import init_params
from tfm_jax.models.transformer import Config, Transformer
from tfm_jax.objectives.translation import example

V = 11


def tiny(**changes):
    """A model with random weights, biases and norms: (model, params)."""
    fields = dict(width=8, heads=2, ffn_width=12, encoder_depth=1, decoder_depth=2)
    fields |= dict(source_vocab=V, target_vocab=V, max_length=16)
    model = Transformer(Config(**(fields | changes)))
    return model, randomised(shapes(model.cfg))


@functools.cache
def shapes(cfg):
    """Shapes of the parameters."""
    return jax.eval_shape(
        lambda: init_params(Transformer(cfg), jax.random.key(0), example())
    )


def sentences(source_lengths, target_lengths, seed=0):
    """Random token sequences, without padding."""
    generator = np.random.default_rng(seed)
    return [
        (generator.integers(4, V, s), generator.integers(4, V, t))
        for s, t in zip(source_lengths, target_lengths, strict=True)
    ]


def rows(groups, source_length=0, target_length=0):
    """A ``PairBatch``; a row holds a pair of sentences, or a list of pairs, packed."""
    packed = isinstance(groups[0], list)
    groups = groups if packed else [[pair] for pair in groups]
    fields = []
    for side, length in enumerate((source_length, target_length)):
        length = length or max(sum(len(pair[side]) for pair in g) for g in groups)
        tokens, segments, positions = np.zeros((3, len(groups), length), np.int32)
        for row, group in enumerate(groups):
            start = 0
            for number, pair in enumerate(group, 1):
                end = start + len(pair[side])
                tokens[row, start:end] = pair[side]
                segments[row, start:end] = number
                positions[row, start:end] = np.arange(end - start)
                start = end
        fields.append((tokens, segments, positions if packed else None))
    (source, s_segments, s_positions), (target, t_segments, t_positions) = fields
    return PairBatch(
        source, s_segments, s_positions, target, target, t_segments, t_positions
    )


def logits(model, params, batch):
    return np.asarray(model.apply({"params": params}, batch, train=False))


def moved(model, params, batch, source_delta, target_delta):
    """Logits when something is added to the token vectors of either side."""

    def add(call, args, kwargs, context):
        y = call(*args, **kwargs)
        if isinstance(context.module, TokenEmbedding) and args:
            y += source_delta if args[0] is batch.source else 0.0
            y += target_delta if args[0] is batch.target_inputs else 0.0
        return y

    with nn.intercept_methods(add):
        return model.apply({"params": params}, batch, train=False)


def reach(model, params, batch, row=0, width=0):
    """How far each token of one row reaches: derivatives of the logits.

    Args: width: of token vectors, by default that of the model.
    Returns: [T, S] and [T, T], at t by the vector of source or target token s.
    """
    length, width = batch.source.shape[1], width or model.cfg.width
    copies = jax.tree.map(lambda x: np.repeat(x[row : row + 1], 2 * length, 0), batch)
    direction = np.random.default_rng(0).normal(size=(length, width))
    moves = np.zeros((2, 2 * length, length, width), np.float32)
    for s in range(length):  # one copy of the row for each token that moves
        moves[0, s, s] = moves[1, length + s, s] = direction[s]
    _, change = jax.jvp(
        lambda *deltas: moved(model, params, copies, *deltas),
        (jnp.zeros_like(moves[0]),) * 2,
        tuple(moves),
    )
    change = jnp.abs(change).max(-1).T
    return change[:, :length], change[:, length:]
