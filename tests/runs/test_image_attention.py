"""Attention of a Vision Transformer over its image, layer by layer and rolled out."""

import numpy as np
import pytest

from tests.models.tiny_images import images, tiny
from tfm_jax.models import vit
from tfm_jax.runs.images.attention import attention


@pytest.fixture(scope="module", params=vit.POOLS)
def pooled_maps(request):
    """(pooling, weights of an image) of a model with two registers."""
    model, params = tiny(pool=request.param, registers=2)
    return request.param, attention(model, params, images(1).images[0])


def test_weights_are_those_of_each_layer_head_and_token(pooled_maps):
    pool, maps = pooled_maps
    tokens = (pool == "cls") + 2 + 6
    assert maps.weights.shape == (2, 2, tokens, tokens) and maps.grid == (3, 2)
    np.testing.assert_allclose(maps.weights.sum(-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(maps.pooled.sum(), 1.0, atol=1e-6)
    assert maps.pooled[-8:-6].sum() == 0.0, "no register is pooled"
    if pool == "cls":
        np.testing.assert_array_equal(
            maps.on_grid(maps.weights)[0, 1].ravel(), maps.weights[0, 1, 0, -6:]
        )


def test_rolled_out_weights_are_products_of_layers_with_their_residuals(pooled_maps):
    """Abnar and Zuidema 2020, equation 1: of each layer half is what it adds to."""
    _, maps = pooled_maps
    first, second = (
        (layer.mean(0) + np.eye(layer.shape[-1])) / 2 for layer in maps.weights
    )
    rolled = maps.rollout()
    np.testing.assert_allclose(rolled[0], first, atol=1e-6)
    np.testing.assert_allclose(rolled[1], second @ first, atol=1e-6)
    np.testing.assert_allclose(rolled.sum(-1), 1.0, atol=1e-5)


def test_they_are_drawn_over_the_image(pooled_maps, tmp_path):
    _, maps = pooled_maps
    figure = maps.plot(layer=0)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["image", "rollout", "head 0", "head 1"]
    drawn = figure.axes[1].images[1].get_array()
    np.testing.assert_allclose(drawn, maps.on_grid(maps.rollout()[0]))
    assert len(figure._repr_png_()) > 1000
    assert repr(maps).startswith("ImageAttention(3x2 patches, [2, 2, ")
    for layer in (2, -3):
        with pytest.raises(ValueError, match=f"layer={layer} must be from -2 to 1"):
            maps.plot(layer=layer)


def test_one_image_is_asked_for():
    model, params = tiny()
    with pytest.raises(ValueError, match=r"image has shape \(2, 6, 8, 2\), not"):
        attention(model, params, images().images)
