import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.interop.denoisers import batch_of
from tests.layers.weights import randomised
from tfm_jax.layers.images.patches import from_patches, patches
from tfm_jax.layers.layout import init_params, to_scanned
from tfm_jax.models.dit import CONDITIONINGS, SIZES, Config, Dit

TINY = dict(width=16, heads=2, ffn_width=24, depth=2, channels=2, labels=5)
TINY |= dict(image_size=(6, 4), variance="fixed")
BATCH = batch_of((3, 6, 4), Config(**TINY))


def initial(model):
    return init_params(model, jax.random.key(0), BATCH)


def count(depth, **fields):
    """Millions of parameters; every layer has as many as the second."""

    def of(depth):
        model = Dit(Config(**fields, depth=depth))
        shapes = jax.eval_shape(lambda: initial(model))
        return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes)) / 1e6

    one, two = of(1), of(2)
    return one + (depth - 1) * (two - one)


@pytest.mark.parametrize(
    ("size", "millions"),
    [
        ("s2", 32.9),
        ("b2", 130.3),
        ("b4", 130.4),
        ("l2", 457.8),
        ("xl2", 674.8),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(size, millions):
    assert count(**SIZES[size]) == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(
    ("conditioning", "millions"),
    [("in_context", 449), ("cross_attention", 598), ("adaln", 600)],
)
def test_every_way_of_conditioning_has_the_published_number(conditioning, millions):
    """Peebles and Xie 2023, table 4, of XL/2."""
    parameters = count(**SIZES["xl2"], conditioning=conditioning)
    assert parameters == pytest.approx(millions, abs=0.5)


@functools.partial(jax.jit, static_argnums=0)
def run(model, params, batch):
    return model.apply({"params": params}, batch, train=False)


def test_an_untrained_model_predicts_zero_and_only_its_last_map_has_a_gradient():
    model = Dit(Config(**TINY | dict(depth=1)))

    def loss(params):
        y = model.apply({"params": params}, BATCH, train=False)
        return jnp.sum((y - 1) ** 2), y

    params = jax.jit(lambda: initial(model))()
    (_, y), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    np.testing.assert_array_equal(y, np.zeros_like(BATCH.images))
    moved = {path[0] for path, x in flatten_dict(grads).items() if np.any(x)}
    assert moved == {"final"}
    flat = flatten_dict(params, sep="/")
    assert not any(np.any(x) for path, x in flat.items() if "modulation" in path)
    query = flat["stack/layer_0/self_attention/query/kernel"]
    limit = math.sqrt(6 / (4 * 16))  # of query, key and value as one matrix
    assert 0.8 * limit < np.abs(query).max() <= limit
    assert flat["time/up/kernel"].std() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_every_way_of_conditioning_reads_time_and_label(conditioning):
    """Unrolled and scanned alike, on images that are no square."""
    model = Dit(Config(**TINY, conditioning=conditioning))
    params = randomised(jax.eval_shape(lambda: initial(model)))
    y = run(model, params, BATCH)
    assert y.shape == BATCH.images.shape and y.dtype == jnp.float32
    for changed in (dict(times=BATCH.times + 9), dict(labels=BATCH.labels + 1)):
        moved = np.abs(run(model, params, BATCH._replace(**changed)) - y)
        assert np.all(moved.max((1, 2, 3)) > 1e-4)
    scanned = Dit(Config(**TINY, conditioning=conditioning, layout="scanned"))
    np.testing.assert_allclose(run(scanned, to_scanned(params), BATCH), y, atol=1e-5)


def test_a_label_is_dropped_while_training_alone_and_the_last_is_none():
    model = Dit(Config(**TINY, label_dropout=0.99))
    params = randomised(jax.eval_shape(lambda: initial(model)))
    none = run(model, params, BATCH._replace(labels=np.full(3, 5)))
    train = jax.jit(functools.partial(model.apply, train=True))
    rngs = {"dropout": jax.random.key(1)}
    dropped = train({"params": params}, BATCH, rngs=rngs)
    np.testing.assert_allclose(dropped, none, atol=1e-5)


def test_images_come_back_from_their_patches():
    x = np.random.default_rng(0).normal(size=(2, 6, 8, 3))
    cut = patches(x, (3, 2))
    np.testing.assert_array_equal(from_patches(cut, (2, 4)), x)


def test_an_image_of_another_size_is_denoised_on_its_own_grid():
    model, larger = (Dit(Config(**TINY | dict(image_size=s))) for s in [(6, 4), (4, 8)])
    params = randomised(jax.eval_shape(lambda: initial(model)))
    batch = batch_of((3, 4, 8), model.cfg)
    wanted = run(larger, params, batch)
    np.testing.assert_array_equal(run(model, params, batch), wanted)
    with pytest.raises(ValueError, match="images have 5x4 pixels, not multiples of"):
        run(model, params, batch_of((3, 5, 4), model.cfg))
