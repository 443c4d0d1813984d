"""What is said of images that a model has drawn."""

import numpy as np
import pytest

from tfm_jax.data.batch import ImageBatch
from tfm_jax.data.sources.images.splits import digest
from tfm_jax.workloads import image_quality
from tfm_jax.workloads.image_quality import Images, compared

RANDOM = np.random.default_rng(0)


def images(count):
    """Noise of 2 x 3 pixels."""
    pixels = RANDOM.integers(0, 256, (count, 2, 3, 1), np.uint8)
    return Images(pixels, np.arange(count) % 2)


TRAIN, HELDOUT = images(300), images(100)


def test_new_images_are_nearest_to_training_images_as_often_as_by_chance():
    drawn = images(4_000)
    scores = compared(drawn, TRAIN, HELDOUT)
    chance = scores["nearest_is_train_by_chance"]
    assert chance == 0.75 and scores["samples"] == 4_000
    assert scores["nearest_is_train"] == pytest.approx(chance, abs=0.06)


def test_images_that_were_learnt_by_heart_are_nearest_to_training_images_alone():
    scores = compared(TRAIN, TRAIN, HELDOUT)
    assert scores["nearest_is_train"] == 1
    assert scores["nearest_train"] == scores["nearest_ratio"] == 0
    one = Images(TRAIN.pixels[:1] // 2 + 10, TRAIN.labels[:1])
    moved = Images(one.pixels + 5, one.labels)
    near = compared(moved, one, HELDOUT)
    assert near["nearest_train"] == pytest.approx(5)  # grey levels


class Reader:
    """A judge that reads the class and the features off the first pixels."""

    name, labels = "reader 0", ["even", "odd"]
    trained_on = frozenset(map(digest, HELDOUT.pixels[:25]))

    def look(self, pixels):
        return pixels[:, 0, :2, 0] / 255, pixels[:, 0, 0, 0] % 2


def test_what_a_judge_says_of_training_images_is_what_they_are():
    pixels = TRAIN.pixels.copy()
    pixels[:, 0, 0, 0] = pixels[:, 0, 0, 0] // 2 * 2 + TRAIN.labels
    train = Images(pixels, TRAIN.labels)
    scores = image_quality.judged(Reader(), train, train, HELDOUT, labels=True)
    assert scores["sample_accuracy"] == 1 and scores["sample_accuracy_sd"] == 0
    assert scores["frechet"] == pytest.approx(0, abs=1e-9) and scores["frechet_sd"] > 0
    assert scores["frechet_floor"] == pytest.approx(scores["frechet_heldout"])
    assert (scores["judge"], scores["judge_has_seen"]) == ("reader 0", 0.25)
    # pixels of a Gaussian say nothing of what they are in their last bit
    assert scores["gaussian_accuracy"] == pytest.approx(0.5, abs=0.15)
    assert scores["gaussian_frechet"] < 0.05
    unasked = image_quality.judged(Reader(), train, train, HELDOUT, labels=False)
    assert scores.keys() - unasked.keys() == set(image_quality.OF_LABELS)


def test_images_without_a_class_are_not_compared_with(monkeypatch):
    weights = np.array([1, 0, 1, 1, 1, 1], np.float32)
    rows = ImageBatch(TRAIN.pixels[:6], TRAIN.labels[:6], weights)
    np.testing.assert_array_equal(
        image_quality.real([rows]).pixels, TRAIN.pixels[[0, 2, 3, 4, 5]]
    )
    monkeypatch.setattr(image_quality, "MOST", 3)
    np.testing.assert_array_equal(
        image_quality.real([rows]).pixels, TRAIN.pixels[[0, 3, 5]]
    )
