"""A Q-Former that is small enough to compile fast, and pairs for it."""

import dataclasses

import jax
import numpy as np

from tests.layers.weights import randomised
from tfm_jax.data.batch import ImageTextBatch
from tfm_jax.layers.layout import init_params
from tfm_jax.models import qformer
from tfm_jax.objectives import retrieval

VISION = dict(width=6, heads=2, ffn_width=8, depth=1, channels=2)
VISION |= dict(image_size=(4, 8), patch_size=(4,))
TEXT = dict(width=8, heads=2, ffn_width=12, depth=2, max_length=9, vocab=13)
SIZES = dict(vision=qformer.Vision(**VISION), text=qformer.Text(**TEXT))
SIZES |= dict(queries=3, embed_width=5)


def config(vision=None, text=None, **changes):
    """Of the tiny model, with other values."""
    parts = {
        name: dataclasses.replace(SIZES[name], **knobs)
        for name, knobs in dict(vision=vision or {}, text=text or {}).items()
    }
    return qformer.Config(**SIZES | parts | changes)


def tiny(**changes):
    """A model with random weights, biases and norms: (model, params)."""
    model = qformer.Retriever(config(**changes))
    key, example = jax.random.key(0), retrieval.example()
    return model, randomised(jax.eval_shape(lambda: init_params(model, key, example)))


def pairs(lengths=(5, 3, 4), seed=0, empty=0):
    """An ``ImageTextBatch``; behind its rows so many that hold nothing."""
    rng, count = np.random.default_rng(seed), len(lengths) + empty
    real = np.arange(6) < np.array([*lengths, *[0] * empty])[:, None]
    rows = np.where(real, rng.integers(2, 13, (2, count, 6)), 0).astype(np.int32)
    tokens, labels = rows
    tokens[:, 0] = real[:, 0]
    pixels = rng.integers(0, 256, (count, 1, 4, 8, 2)).astype(np.uint8)
    segments, weights = real.astype(np.int32), real.astype(np.float32)
    counts = np.ones(count, np.int32)
    return ImageTextBatch(
        tokens, segments, None, None, labels, weights, pixels, counts, segments
    )
