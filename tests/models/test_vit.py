import dataclasses

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import PartitionSpec

from tests.models.tiny_images import ONE, TINY, images, run, tiny
from tfm_jax.config import ConfigError, section
from tfm_jax.layers.images.patches import patches
from tfm_jax.layers.layout import abstract, init_params, to_scanned
from tfm_jax.layers.positions import POSITIONS
from tfm_jax.models import bert, vit
from tfm_jax.ops.interpolation import INTERPOLATIONS, interpolate

# millions, with [CLS], 224 pixels and 1,000 classes; Dosovitskiy et al. 2021 and
# Touvron et al. 2021 round to 6, 22, 86, 307 and 632
PUBLISHED = {
    **{"ti16": 5.72, "s16": 22.05, "b16": 86.57, "b32": 88.22},
    **{"l16": 304.33, "h14": 632.05},
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_parameters_are_as_many_as_published(size):
    cfg = vit.Config(**vit.SIZES[size], layout="scanned")  # one layer for all
    of_model = abstract(vit.Vit(cfg), ONE).params
    count = sum(leaf.size for leaf in jax.tree.leaves(of_model))
    assert round(count / 1e6, 2) == PUBLISHED[size]


def test_patches_are_cut_row_by_row_and_keep_the_order_of_their_pixels():
    batch = images().images
    cut = patches(batch, (2, 4))
    assert cut.shape == (2, 6, 2, 4, 2)
    for number in range(6):
        row, column = divmod(number, 2)
        wanted = batch[:, 2 * row : 2 * row + 2, 4 * column : 4 * column + 4]
        np.testing.assert_array_equal(cut[:, number], wanted)


def test_the_first_loss_is_that_of_chance():
    """The map to the classes starts at 0: every class is as likely."""
    model, _ = tiny()
    params = jax.jit(lambda key: init_params(model, key, ONE))(jax.random.key(0))
    np.testing.assert_array_equal(run(model, params, images()), np.zeros((2, 5)))
    table = params["encoder"]["embedding"]["position"]["table"]
    assert table.shape == (7, 8) and 0.01 < table.std() < 0.03
    assert not params["encoder"]["embedding"]["cls"].any()


SHAPES = {"classify": (2, 5), "features": (2, 8), "states": (2, 7, 8)}


@pytest.mark.parametrize("head", SHAPES)
def test_a_head_has_its_shape_and_no_parameters_of_others(head):
    model, params = tiny(head=head)
    assert run(model, params, images()).shape == SHAPES[head]
    assert set(params.get("head", {})) == {"classify"} & {head}
    assert set(SHAPES) == set(vit.HEADS)


@pytest.mark.parametrize("pool", vit.POOLS)
def test_classes_stand_on_what_is_pooled_and_registers_are_not(pool):
    """Through the tanh layer, if there is one."""
    sizes = dict(pool=pool, registers=3, representation_width=4)
    model, params = tiny(**sizes)
    batch = images()
    states = np.asarray(run(model, params, batch, "encode"))
    assert states.shape == (2, (pool == "cls") + 3 + 6, 8)
    patches = states[:, -6:]
    if pool == "map":
        head, attend = params["head"]["attention_pool"], vit.AttentionPool(model.cfg)
        pooled, backwards = (run(attend, head, x) for x in (patches, patches[:, ::-1]))
        np.testing.assert_allclose(backwards, pooled, atol=1e-5)
    else:
        pooled = states[:, 0] if pool == "cls" else patches.mean(1)
    head = jax.device_get(params["head"])
    hidden, out = head["representation"], head["classify"]["out"]
    hidden = np.tanh(np.asarray(pooled) @ hidden["kernel"] + hidden["bias"])
    wanted = hidden @ out["kernel"] + out["bias"]
    np.testing.assert_allclose(run(model, params, batch), wanted, atol=1e-5)


@pytest.mark.parametrize("positions", POSITIONS)
def test_only_positions_tell_where_a_patch_lies(positions):
    model, params = tiny(positions=positions, pool="mean")
    batch = images()
    turned = batch._replace(images=np.roll(batch.images, 2, axis=1))  # whole patches
    before, after = (np.asarray(run(model, params, x)) for x in (batch, turned))
    apart = np.abs(after - before).max()
    assert apart < 1e-5 if positions == "none" else apart > 1e-4


def test_an_image_of_another_size_has_the_positions_of_its_own_grid():
    """Where no table was learnt; the model of its size computes the same."""
    for positions in ("sincos2d", "rotary2d"):
        model, params = tiny(positions=positions)
        larger, _ = tiny(positions=positions, image_size=(8, 16))
        batch = images(size=(8, 16))
        logits, wanted = (run(m, params, batch) for m in (model, larger))
        np.testing.assert_array_equal(logits, wanted)


@pytest.mark.parametrize("kind", INTERPOLATIONS)
def test_positions_are_interpolated_to_the_size_of_a_run(kind):
    """By position_resize; [CLS] keeps its own, and all else is as it was."""
    (small, params), (large, wanted) = tiny(), tiny(image_size=(12, 16))
    now = dataclasses.replace(large.cfg, position_resize=kind)
    before = flatten_dict(params, sep="/")
    after = vit.for_size(before, small.cfg, now)
    assert {path: x.shape for path, x in after.items()} == {
        path: x.shape for path, x in flatten_dict(wanted, sep="/").items()
    }
    path = "encoder/embedding/position/table"
    assert [p for p in after if after[p] is not before[p]] == [path]
    np.testing.assert_array_equal(after[path][0], before[path][0])
    grids = (
        x[path][1:].reshape(*rows, 8) for x, rows in ((before, (3, 2)), (after, (6, 4)))
    )
    before, after = grids
    np.testing.assert_array_equal(after, interpolate(before, (6, 4), kind))


def test_pixels_are_scaled_and_floats_are_read_as_they_are():
    cfg = dict(pixel_mean=(0.2, 0.4), pixel_std=(0.5, 0.1))
    model, params = tiny(**cfg)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 2)).astype(np.uint8)
    batch = images()
    scaled = (pixels / 255 - cfg["pixel_mean"]) / cfg["pixel_std"]
    logits = run(model, params, batch._replace(images=pixels))
    wanted = run(model, params, batch._replace(images=scaled.astype(np.float32)))
    np.testing.assert_allclose(logits, wanted, atol=1e-4)


def test_scanned_layers_compute_the_same():
    model, params = tiny()
    scanned, _ = tiny(layout="scanned", remat="full")
    wanted = run(model, params, images())
    logits = run(scanned, to_scanned(params), images())
    np.testing.assert_allclose(logits, wanted, atol=1e-5)


def test_every_parameter_has_its_axes_on_a_mesh():
    model, _ = tiny(registers=2, pool="map")
    specs = abstract(model, ONE).specs
    embedding, pool = specs["encoder"]["embedding"], specs["head"]["attention_pool"]
    assert embedding["patch"]["kernel"] == PartitionSpec(None, None, None, "embed")
    assert embedding["position"]["table"] == PartitionSpec(None, "embed")
    assert embedding["registers"] == pool["probe"] == PartitionSpec(None, "embed")
    assert pool["ffn"]["up"]["kernel"] == PartitionSpec("embed", "mlp")


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(patch_size=(4,)), r"patch_size=\(4,\) must divide model.image_size=\(6,"),
        (dict(image_size=(0,)), r"image_size=\(0,\) must be one or two integers from"),
        (dict(image_size=(6, 8, 3)), "must be one or two integers from 1 to 16,384"),
        (dict(pixel_mean=(0.1,) * 3), "one number or one for each of model.channels=2"),
        (dict(pixel_std=(0.0,)), r"model.pixel_std=\(0.0,\) must be positive"),
        (
            dict(positions="rotary2d", width=12),
            "model.key_size=6 must be a multiple of 4 with model.positions='rotary2d'",
        ),
        (
            dict(positions="sincos2d", width=10),
            "model.width=10 must be a multiple of 4 with model.positions='sincos2d'",
        ),
        (dict(registers=-1), "model.registers=-1 must not be negative"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        vit.Config(**(TINY | change))


def test_images_that_do_not_fit_are_refused():
    model, params = tiny()
    for batch, message in [
        (images(size=(8, 8)), r"images have 8x8 pixels, not model.image_size=\(6, 8\)"),
        (images(channels=3), "images have 3 channels, model.channels=2"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.apply({"params": params}, batch, train=False)
    model, params = tiny(positions="rotary2d")
    with pytest.raises(ValueError, match="7x8 pixels, not multiples of model.patch_s"):
        model.apply({"params": params}, images(size=(7, 8)), train=False)


def test_a_text_has_no_grid():
    with pytest.raises(ConfigError, match="positions='sincos2d'; choose from .sinusoi"):
        section(bert.Config, positions="sincos2d")
