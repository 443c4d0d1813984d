"""Attention to an image of a Q-Former's queries, and of the words of Flamingo."""

import jax
import numpy as np
import pytest

from tests.layers.weights import randomised
from tests.models import tiny_pairs, tiny_text
from tests.models.test_flamingo import RESAMPLER, TINY, TOKENS, V, config_of, initial
from tfm_jax.data.batch import ImageTextBatch, TextBatch
from tfm_jax.models import gpt
from tfm_jax.models.flamingo import Flamingo
from tfm_jax.runs import pictures
from tfm_jax.runs.images.cross_attention import of_queries, of_words

WORDS = ("the", "first", "$x$")
PATCHES = 4


def case(**resampler):
    """(model, parameters that look trained)."""
    model = Flamingo(config_of(**TINY | dict(resampler=RESAMPLER | resampler)))
    return model, randomised(jax.eval_shape(lambda: initial(model)))


def rows_of(tokens):
    """One row with an image behind its first token, of which three words count."""
    real, index = np.ones_like(tokens), np.minimum(np.arange(6), 1)[None]
    image = np.random.default_rng(5).integers(0, 256, (1, 1, 4, 4, 1)).astype(np.uint8)
    weights = np.array([[0, 1, 1, 1, 0, 0]], np.float32)
    counts = np.ones(1, np.int32)
    fields = tokens, real, None, None, tokens, weights, image, counts, index
    return ImageTextBatch(*fields)


@pytest.fixture(scope="module")
def flamingo():
    """(model, params, rows, maps) with a resampler of two layers."""
    model, params = case(depth=2)
    rows = rows_of(TOKENS[:1] % (V - 1))
    return model, params, rows, of_words(model, params, rows, WORDS)


def test_words_attend_to_patches_through_the_latents(flamingo):
    """Their weights times what went into each latent, by hand, path after path."""
    model, params, rows, maps = flamingo
    assert maps.layers == (0, 2) and maps.weights.shape == (2, 2, 3, 2)
    np.testing.assert_allclose(maps.weights.sum(-1), 1.0, atol=1e-6)
    kept = pictures.intermediates(model, params, rows)["resampler"]["stack"]
    first, second = (
        np.mean(kept[f"layer_{n}"]["latent_attention"]["weights"][0][0], axis=0)
        for n in (0, 1)
    )  # [latents, patches + latents]
    for latent in range(2):
        for patch in range(PATCHES):
            before = [first[k, patch] / 2 for k in range(2)]
            through = sum(second[latent, PATCHES + k] * before[k] for k in range(2))
            whole = (second[latent, patch] + through + before[latent]) / 2
            row, column = divmod(patch, 2)
            assert maps.patches[latent, row, column] == pytest.approx(
                float(whole), abs=1e-6
            )
    for layer in (0, 1):
        wanted = maps.weights[layer].mean(0) @ maps.patches.reshape(2, PATCHES)
        on_grid = maps.on_grid(layer).reshape(3, PATCHES)
        np.testing.assert_allclose(on_grid, wanted, atol=1e-6)
    np.testing.assert_array_equal(maps.on_grid(), maps.on_grid(-1))


def test_no_map_depends_on_a_later_word(flamingo):
    model, params, rows, maps = flamingo
    tokens = rows.tokens.copy()
    tokens[0, 3] = tokens[0, 3] % (V - 1) + 1  # what the third word is predicted from
    later = of_words(model, params, rows._replace(tokens=tokens), WORDS)
    moved = np.abs(later.weights - maps.weights).max((0, 1, 3)) > 1e-6
    assert [*moved] == [False, False, True]


@pytest.mark.parametrize("kind", ["transformer", "mlp", "none"])
def test_where_there_are_no_latents_a_map_adds_up_to_one(kind):
    model, params = case(kind=kind)
    maps = of_words(model, params, rows_of(TOKENS[:1] % (V - 1)), WORDS)
    np.testing.assert_allclose(maps.on_grid().sum((1, 2)), 1.0, atol=1e-5)
    alone = np.array_equal(maps.patches.reshape(PATCHES, PATCHES), np.eye(PATCHES))
    assert alone == (kind != "transformer")


def test_a_model_without_gated_layers_has_no_such_maps():
    model, params = tiny_text.tiny(gpt)
    with pytest.raises(ValueError, match="Gpt has no gated layers, as Flamingo has"):
        of_words(model, params, rows_of(TOKENS[:1] % (V - 1)), WORDS)


def test_maps_are_drawn_over_the_image(flamingo, tmp_path):
    *_, maps = flamingo
    figure = maps.plot(layer=0)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:5] == ["image", "mean", *WORDS]
    drawn = figure.axes[2].images[1].get_array()
    np.testing.assert_allclose(drawn, maps.on_grid(0)[0])
    assert len(figure._repr_png_()) > 1000
    assert repr(maps) == "CrossAttention('the first $x$', 2x2, [2, 2, 3, 2])"
    for layer in (2, -3, 0.5, "last"):
        with pytest.raises(ValueError, match=f"layer={layer} must be from -2 to 1"):
            maps.plot(layer=layer)


def test_queries_attend_to_patches_and_see_a_text_if_there_is_one():
    model, params = tiny_pairs.tiny()
    batch = jax.tree.map(lambda x: x[:1], tiny_pairs.pairs())
    image, text = batch.images[0, 0], TextBatch(batch.tokens, batch.segments)
    alone, read = (of_queries(model, params, image, x) for x in (None, text))
    beside = alone.weights.shape[-1] - 2
    assert alone.layers == (0,) and alone.weights.shape[:3] == (1, 2, 3)
    assert alone.labels == ("query 0", "query 1", "query 2")
    np.testing.assert_allclose(alone.weights.sum(-1), 1.0, atol=1e-6)
    on_patches = alone.weights[0, ..., beside:].mean(0)
    np.testing.assert_allclose(alone.on_grid().reshape(3, 2), on_patches, atol=1e-6)
    assert np.abs(read.weights - alone.weights).max() > 1e-4
