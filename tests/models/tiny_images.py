"""Vision Transformers that are small enough to compile fast, and images for them."""

import functools

import jax
import numpy as np

from tests.layers.weights import randomised
from tfm_jax.data.batch import ImageBatch
from tfm_jax.layers.layout import init_params
from tfm_jax.models import vit

# three rows of two patches, none of them square
TINY = dict(width=8, heads=2, ffn_width=12, depth=2, labels=5, channels=2)
TINY |= dict(image_size=(6, 8), patch_size=(2, 4))
ONE = ImageBatch(np.zeros((1, 1, 1, 1), np.float32), None, None)


def tiny(**changes):
    """A model with random weights, biases and norms: (model, params)."""
    model = vit.Vit(vit.Config(**(TINY | changes)))
    return model, randomised(shapes(model))


@functools.cache
def shapes(model):
    """Shapes of the parameters; nothing is computed."""
    return jax.eval_shape(lambda: init_params(model, jax.random.key(0), ONE))


def images(count=2, size=(6, 8), channels=2, seed=0):
    """An ``ImageBatch`` of noise."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(size=(count, *size, channels)).astype(np.float32)
    return ImageBatch(pixels, None, None)


@functools.partial(jax.jit, static_argnums=(0, 3))
def run(model, params, batch, method=None):
    return model.apply({"params": params}, batch, train=False, method=method)
