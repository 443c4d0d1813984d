"""Keys, a query, and the label of the nearest: what images show, and who is right."""

import dataclasses

import numpy as np
import pytest

from tfm_jax.data.prepared import prepare
from tfm_jax.data.rows import images
from tfm_jax.data.sources.images import nearest

FEW = nearest.Config(keys=5, side=3, labels=4, train=60, valid=30, test=20)
OTHERS = dict(keys=6, side=4, labels=5, noise=2.0, train=59, valid=29, test=19, seed=1)


def read(pixels, side):
    """(keys [n, K, entries], lit pixel of each [n, K], query, lights of the query)."""
    count, _, width, _ = pixels.shape
    patches = pixels.reshape(count, side, width // side, side, 2)
    patches = patches.transpose(0, 2, 1, 3, 4).reshape(count, width // side, -1, 2)
    lit = patches[..., 1]
    assert (lit[:, :-1].astype(int).sum(-1) == 255).all(), "one pixel"
    return (
        patches[:, :-1, :, 0],
        lit[:, :-1].argmax(-1),
        patches[:, -1, :, 0],
        lit[:, -1],
    )


@pytest.mark.parametrize("noise", [0.0, 0.5, 3.0])
def test_an_oracle_that_computes_distances_is_always_right(noise):
    cfg = dataclasses.replace(FEW, noise=noise)
    drawn, report = nearest.load(cfg, "train")
    keys, labels, query, lights = read(drawn.pixels, cfg.side)
    assert not lights.any() and {*labels.ravel()} == {0, 1, 2, 3}
    apart = np.linalg.norm(keys.astype(float) - query[:, None], axis=-1)
    np.testing.assert_array_equal(
        np.take_along_axis(labels, apart.argmin(-1)[:, None], 1)[:, 0], drawn.labels
    )
    assert (apart.min(1) == 0).all() == (noise == 0)
    assert report["chance"] == 0.25


def test_splits_differ_and_every_knob_changes_what_there_is():
    def everything(cfg):
        parts = [nearest.load(cfg, split)[0] for split in nearest.SPLITS]
        return [(x.pixels.shape, x.pixels.tobytes(), x.labels.tobytes()) for x in parts]

    usual = everything(FEW)
    assert len({pixels for _, pixels, _ in usual}) == 3
    assert OTHERS.keys() == {field.name for field in dataclasses.fields(FEW)}
    for name, value in OTHERS.items():
        assert everything(dataclasses.replace(FEW, **{name: value})) != usual, name


def test_they_are_images_with_a_class_each():
    data = prepare(images.KIND, images.Config(source="nearest", nearest=FEW), None)
    (rows,) = data.valid
    assert rows.images.shape == (30, 3, 18, 2)
    assert data.report["train"]["labels"] == ["0", "1", "2", "3"]
    np.testing.assert_array_equal(rows.labels, nearest.load(FEW, "valid")[0].labels)


def test_more_labels_than_pixels_are_refused():
    with pytest.raises(ValueError, match="data.nearest.labels=10 of .*side=3"):
        dataclasses.replace(FEW, labels=10)
