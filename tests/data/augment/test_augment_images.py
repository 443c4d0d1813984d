"""Augmentation of images: what it does, that it can be repeated, and that it ends."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from tfm_jax.data.augment.geometry import erased, mirrored, padded_crop, resized_crop
from tfm_jax.data.augment.images import CHANGES, Augment, Config, augment_of
from tfm_jax.data.augment.randaugment import OPERATIONS, randaugment
from tfm_jax.data.batch import ImageBatch
from tfm_jax.data.batches import eval_batches, train_batches
from tfm_jax.data.prepared import Prepared
from tfm_jax.data.rows import images as rows

EVERY = Config(
    crop_padding=1, resized_crop=0.5, flip=0.5, randaugment_layers=2, erasing=0.5,
    mixup=0.5, cutmix=1.0,
)  # fmt: skip
KNOBS = {field.name: getattr(EVERY, field.name) for field in dataclasses.fields(EVERY)}
ALONE = {n: {n: x} for n, x in KNOBS.items() if n != "randaugment_magnitude"}
PIXELS = np.random.default_rng(0).integers(0, 256, (30, 7, 9, 3), np.uint8)
ROWS = ImageBatch(PIXELS, np.arange(30, dtype=np.int32) % 4, np.ones(30, np.float32))


def draws(seed=0):
    return np.random.default_rng(seed)


def data(cfg):
    augment = augment_of(cfg)
    return Prepared(None, [ROWS], [ROWS], [], {}, {}, "", {}, None, augment)


def batches(cfg=EVERY, total=8, batch_tokens=12, seed=5, shuffle=True, **options):
    order = rows.Config(prefetch=0, shuffle=shuffle)
    sizes = dict(batch_tokens=batch_tokens, total_batches=total, seed=seed)
    return list(train_batches(order, data(cfg), **sizes, **options))


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", [*CHANGES, "mixup", "cutmix"])
def test_each_knob_changes_images_alone_and_at_0_nothing_is_changed(name):
    both = batches(Config()), batches(Config(**ALONE[name]))
    for plain, changed in zip(*both, strict=True):
        assert changed.images.shape == plain.images.shape
        assert changed.images.dtype == np.uint8
        assert (changed.images != plain.images).any()
        np.testing.assert_array_equal(changed.labels, plain.labels)
        assert (changed.mixed_labels is None) == (name in CHANGES)
    assert augment_of(Config()) is None


def test_the_magnitude_of_randaugment_counts():
    weak, strong = (
        np.concatenate([b.images for b in batches(cfg)])
        for cfg in (
            Config(randaugment_layers=2, randaugment_magnitude=m) for m in (1.0, 9.0)
        )
    )
    assert (weak != strong).any()


def test_an_image_depends_on_seed_epoch_and_row_alone():
    """Not on the batch it is in, on the devices or on where training was resumed."""
    whole, resumed = batches(), batches(start=3)
    for one, other in zip(whole[3:], resumed, strict=True):
        assert_same(one, other)
    shares = [batches(shards=2, own=[n], row_multiple=2) for n in (0, 1)]
    for one, *parts in zip(whole, *shares, strict=True):
        assert_same(one, [np.concatenate(pair) for pair in zip(*parts, strict=True)])
    by_number = {}
    for size in (6, 12):  # 96 images: all epochs of 30, and more
        flat = batches(total=96 // size, batch_tokens=size, shuffle=False)
        by_number[size] = [np.concatenate(field) for field in zip(*flat, strict=True)]
    assert_same(by_number[6], by_number[12])


def test_another_epoch_or_seed_changes_an_image_otherwise():
    augment, one = Augment(EVERY), np.zeros(1, int)
    seeds = [[0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]]
    images = [augment(ROWS, one, np.array([seed])).images for seed in seeds]
    np.testing.assert_array_equal(images[0], images[3])
    assert (images[0] != images[1]).any() and (images[0] != images[2]).any()


def test_evaluation_sees_images_as_they_are():
    valid_batches = list(eval_batches(data(EVERY), "valid", batch_tokens=8))
    images = np.concatenate([batch.images for batch in valid_batches])
    np.testing.assert_array_equal(images[:30], PIXELS)
    assert not images[30:].any() and valid_batches[-1].weights.sum() == 30 % 8
    assert all(batch.mixed_labels is None for batch in valid_batches)


def test_a_crop_is_the_image_moved_by_up_to_its_padding():
    image, crops = PIXELS[0], set()
    around = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    moved = {
        around[y : y + 7, x : x + 9].tobytes(): (y, x)
        for y in range(5)
        for x in range(5)
    }
    for seed in range(300):
        crops.add(moved[padded_crop(image, 2, draws(seed)).tobytes()])
    assert len(crops) == 25


def test_a_resized_crop_of_the_whole_area_is_nearly_the_image():
    ramp = np.linspace(0, 255, 64, dtype=np.uint8).reshape(1, 64, 1).repeat(48, 0)
    for seed in range(20):
        small = resized_crop(ramp, 0.1, draws(seed)).astype(int)
        assert small.shape == (48, 64, 1)
        assert (np.diff(small[0, :, 0]) >= -1).all()  # still a ramp, or a part of it
        assert np.ptp(small) >= 0.2 * 255 * np.sqrt(0.1)
    ranges = [np.ptp(resized_crop(ramp, 1.0, draws(seed))) for seed in range(20)]
    assert min(ranges) > 180 > 255 * np.sqrt(0.1)


def test_a_mirror_image_is_as_likely_as_said():
    there = [
        (mirrored(PIXELS[0], 0.25, draws(seed)) == PIXELS[0][:, ::-1]).all()
        for seed in range(400)
    ]
    assert 0.15 < np.mean(there) < 0.35


def test_an_erased_rectangle_has_the_area_that_was_published():
    image = np.full((50, 50, 1), 7, np.uint8)
    shares = [(erased(image, 1.0, draws(n)) != 7).mean() for n in range(100)]
    assert 0.01 < min(shares) < 0.1 and 0.25 < max(shares) <= 0.41
    assert erased(image, 0.0, draws()) is image and (image == 7).all()


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_larger_magnitude_is_a_stronger_change(name, mode):
    ramp = np.add.outer(np.arange(24) * 5, np.arange(32) * 4)[..., None]
    ramp = np.minimum(ramp + [0, 20, 40], 255).astype(np.uint8)
    ramp[4:8, 4:8] = 255  # an edge, to be sharpened
    image = Image.fromarray(ramp).convert(mode)
    before = np.asarray(image).astype(float)
    levels = (0.0, 0.5, 1.0)
    change = [
        np.abs(np.asarray(OPERATIONS[name](image, level, 1)) - before).mean()
        for level in levels
    ]
    if name in ("autocontrast", "equalize"):
        assert change[0] == change[1] == change[2]  # they have no magnitude
    elif name == "identity" or (name == "color" and mode == "L"):
        assert change == [0, 0, 0]
    else:
        assert change[0] <= 1 and change[0] < change[1] < change[2]


def test_every_operation_is_drawn():
    """With both signs; no two make the same of an image, if it is large enough."""
    image = draws().integers(20, 200, (20, 30, 3), np.uint8)
    outputs = {
        (name, np.asarray(operation(Image.fromarray(image), 1.0, sign)).tobytes())
        for name, operation in OPERATIONS.items()
        for sign in (1, -1)
    }
    images = {pixels for _, pixels in outputs}
    assert len(images) == len(outputs) > len({name for name, _ in outputs})
    assert {randaugment(image, 1, 10, draws(n)).tobytes() for n in range(300)} == images
    assert randaugment(image[..., :1], 3, 10, draws()).shape == (20, 30, 1)


def test_mixup_is_the_weighted_mean_of_two_images_of_the_set():
    batch = batches(Config(mixup=1.0))[0]
    plain = batches(Config())[0]
    assert 0 <= batch.mixed_shares.min() < 0.3 < 0.7 < batch.mixed_shares.max() <= 1
    for image, own, share, label in zip(
        batch.images, plain.images, batch.mixed_shares, batch.mixed_labels, strict=True
    ):
        mixtures = (1 - share) * own + share * PIXELS
        (partner,) = np.flatnonzero(np.abs(mixtures - image).max((1, 2, 3)) < 0.51)
        assert ROWS.labels[partner] == label


def test_cutmix_has_as_much_of_the_other_label_as_of_its_pixels():
    batch, plain = batches(Config(cutmix=1.0))[0], batches(Config())[0]
    for image, own, share, label in zip(
        batch.images, plain.images, batch.mixed_shares, batch.mixed_labels, strict=True
    ):
        other = (image != own).any(-1)
        assert share == pytest.approx(other.mean(), abs=1e-6)
        if not other.any():
            continue
        ys, xs = np.flatnonzero(other.any(1)), np.flatnonzero(other.any(0))
        assert other.sum() == len(ys) * len(xs), "a rectangle"
        partners = (PIXELS[:, other] == image[other]).all((1, 2))
        assert label in ROWS.labels[partners]


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"data\.augment\.flip=1\.5 must be from 0 to"):
        Config(flip=1.5)
