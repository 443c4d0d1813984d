"""Adafactor: the second moments of a matrix as those of its rows and columns."""

import math

import jax
import optax

from tfm_jax.optim import layerwise

LEAST = 128  # rows and columns of a matrix whose moments are factored, at least


def as_matrix(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which a parameter is factored: of two axes, if it is worth it.

    An attention kernel [D, H, K] or [H, K, D] is the map [D, H * K] or [H * K, D]: of
    all ways to cut the axes in two the one with the largest smaller side.
    """
    cuts = [(math.prod(shape[:i]), math.prod(shape[i:])) for i in range(1, len(shape))]
    best = max(cuts, key=min, default=())
    return best if min(best, default=0) >= LEAST else shape


def scale_by_factored_rms() -> optax.GradientTransformation:
    """Divides gradients by the root of their mean square, which is kept factored.

    Source: Shazeer and Stern 2018, arXiv:1804.04235, algorithm 4, through optax.
    Deviates: parameters with a side below LEAST are not factored (optax); of scanned
    layers each is a parameter of its own.
    """
    inner = optax.scale_by_factored_rms(min_dim_size_to_factor=LEAST)

    def init(params):
        def of_one(x):
            state = inner.init(x.reshape(as_matrix(x.shape)))
            return state.v_row, state.v_col, state.v

        moments = _split(layerwise.each_layer(of_one, params), params, 3)
        return optax.FactoredState(inner.init({}).count, *moments)

    def update(updates, state, params=None):
        del params

        def of_one(g, *moments):
            matrix = g.reshape(as_matrix(g.shape))
            one = optax.FactoredState(state.count, *moments)
            scaled, one = inner.update(matrix, one, matrix)
            return scaled.reshape(g.shape), one.v_row, one.v_col, one.v

        found = layerwise.each_layer(of_one, updates, *state[1:])
        updates, *moments = _split(found, updates, 4)
        count = optax.safe_increment(state.count)
        return updates, optax.FactoredState(count, *moments)

    return optax.GradientTransformation(init, update)


def _split(tree, like, count):
    """A tree of tuples -> a tuple of trees."""
    tuples = jax.tree.structure((0,) * count)
    return jax.tree.transpose(jax.tree.structure(like), tuples, tree)
