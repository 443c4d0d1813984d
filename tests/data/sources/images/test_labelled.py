"""Labelled images from each source; files are made here."""

import dataclasses
import gzip
import json
import sys

import numpy as np
import pytest
from PIL import Image

from tests.workloads.image_runs import write_idx
from tfm_jax.data.cache import prepared
from tfm_jax.data.errors import DataError
from tfm_jax.data.prepared import prepare
from tfm_jax.data.rows.images import KIND, Config
from tfm_jax.data.sources.images import labelled
from tfm_jax.data.sources.images.labelled import load_images
from tfm_jax.data.sources.images.listed import Listed

NOISE = np.random.default_rng(0).integers(0, 256, (40, 5, 4), np.uint8)
CLASSES = np.arange(40) % 3


def splits(cfg, kind=KIND):
    return prepare(kind, cfg, None)


def sets(data):
    """The images of each split, as bytes."""
    named = {name: getattr(data, name) for name in ("train", "valid", "test")}
    return {
        name: [image.tobytes() for rows in some for image in rows.images]
        for name, some in named.items()
    }


@pytest.fixture
def idx(tmp_path):
    """Images and labels, one of them gzipped."""
    images = write_idx(tmp_path / "images.gz", NOISE)
    return images, write_idx(tmp_path / "labels", CLASSES)


def test_the_digits_of_scikit_learn_are_split_without_a_common_image():
    data = splits(Config(test_share=0.2))
    images = sets(data)
    assert sum(map(len, images.values())) == 1797
    assert 120 < len(images["valid"]) < 240 and 300 < len(images["test"]) < 420
    assert not {*images["train"]} & {*images["valid"], *images["test"]}
    report = data.report["train"]
    assert report["labels"] == [str(n) for n in range(10)]
    assert sum(report["images_of_each"]) == report["kept"] == len(images["train"])
    mean = data.train[0].images.mean() / 255
    assert report["pixel_mean"] == pytest.approx([mean], abs=1e-4)
    assert data.train[0].images.max() == 255


def test_without_scikit_learn_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DataError, match="pip install scikit-learn"):
        splits(Config())


def test_idx_files_give_images_labels_and_shares(idx):
    data = splits(Config(source="idx", train_files=idx, valid_share=0.2))
    images = sets(data)
    assert sorted(images["train"] + images["valid"]) == sorted(
        x.tobytes() for x in NOISE
    )
    assert images["valid"] and not images["test"]
    labels = {x.tobytes(): str(n) for x, n in zip(NOISE, CLASSES, strict=True)}
    names = data.report["train"]["labels"]
    for rows in (*data.train, *data.valid):
        for image, label in zip(rows.images, rows.labels, strict=True):
            assert names[label] == labels[image.tobytes()]


def test_a_held_out_split_of_its_own_takes_nothing_off_the_training_images(idx):
    cfg = Config(source="idx", train_files=idx, test_files=idx, valid_share=0.0)
    data = splits(cfg)
    assert [len(x) for x in sets(data).values()] == [40, 0, 40]


def test_equal_images_are_in_one_split(tmp_path):
    twice = (
        write_idx(tmp_path / "i", np.concatenate([NOISE, NOISE])),
        write_idx(tmp_path / "l", np.tile(CLASSES, 2)),
    )
    images = sets(splits(Config(source="idx", train_files=twice, valid_share=0.5)))
    assert not {*images["train"]} & {*images["valid"]}
    assert len(images["valid"]) == 2 * len({*images["valid"]})


@pytest.mark.parametrize("policy, kept", [("keep", 40), ("drop", 20), ("error", None)])
def test_held_out_images_that_are_trained_on_are_counted(
    idx, tmp_path, policy, kept, caplog
):
    half = (
        write_idx(tmp_path / "half.i", NOISE[:20]),
        write_idx(tmp_path / "half.l", CLASSES[:20]),
    )
    files = dict(train_files=half, test_files=idx, valid_share=0.0)
    cfg = Config(source="idx", leaked=policy, **files)
    if kept is None:
        with pytest.raises(DataError, match="test image 0 is trained on.*20 in all"):
            splits(cfg)
        return
    data = splits(cfg)
    assert data.report["test"]["leaked"] == {"policy": policy, "images": 20}
    assert len(sets(data)["test"]) == data.report["test"]["kept"] == kept
    assert sum(data.report["test"]["images_of_each"]) == kept
    assert "20 of 40 test images are trained on, too" in caplog.text


NAMES = ("shirt", "shoe", "hat")


def test_numbers_have_the_names_that_the_config_gives_them(idx):
    cfg = Config(source="idx", train_files=idx, labels=NAMES, valid_share=0.0)
    images, report = load_images(cfg, "train")
    assert images.names == NAMES and report["labels"] == [*NAMES]
    np.testing.assert_array_equal(images.labels, CLASSES)
    with pytest.raises(DataError, match="number 2 has the label 2, and the 2 names"):
        load_images(Config(source="idx", train_files=idx, labels=NAMES[:2]), "train")


def test_a_label_that_is_unknown_changes_the_meaning_of_no_other():
    """Labels that are names of classes, though numbers, are no places in the list."""
    cfg, origin = Config(source="tfds", labels=("1", "0")), "example {}".format
    for labels in (["0", "1", "1"], ["0", None, "1"]):
        listed = Listed([], labels, origin, {})
        names, numbers = labelled._numbered(cfg, listed, None)
        there = [x for x, label in zip(numbers, labels, strict=True) if label]
        assert [names[x] for x in there] == [x for x in labels if x]


@pytest.mark.parametrize("grey", [13, 0, 255])
def test_images_of_one_grey_have_no_deviation(tmp_path, grey):
    """Whatever rounding makes of the mean of the squares."""
    path = arrays(tmp_path / "a.npz", images=np.full_like(NOISE, grey), labels=CLASSES)
    _, report = load_images(Config(source="npz", train_files=path), "train")
    assert report["pixel_mean"] == pytest.approx([grey / 255], abs=1e-4)
    assert report["pixel_std"] == [0.0]


def arrays(path, **named):
    np.savez(path, **named)
    return (str(path),)


@pytest.mark.parametrize("image, label", [("x_", "y_"), ("", "")])
def test_archives_of_numpy_have_arrays_for_each_split(tmp_path, image, label):
    names = ("x_train", "y_train", "x_test", "y_test")
    images = NOISE, CLASSES, NOISE[:7], CLASSES[:7, None]  # as Keras and CIFAR have it
    if not image:
        names = "train_images", "train_labels", "test_images", "test_labels"
    path = arrays(tmp_path / "a.npz", **dict(zip(names, images, strict=True)))
    cfg = Config(source="npz", train_files=path, test_files=path, valid_share=0.0)
    train, _ = load_images(cfg, "train")
    test, _ = load_images(cfg, "test", train.names)
    np.testing.assert_array_equal(train.pixels[..., 0], NOISE)
    np.testing.assert_array_equal(test.labels, CLASSES[:7])


def test_pickles_in_an_archive_are_never_read(tmp_path):
    evil = np.array([print], object)
    path = arrays(tmp_path / "a.npz", images=evil, labels=CLASSES)
    with pytest.raises(DataError, match=r"a\.npz: .*allow_pickle=False"):
        load_images(Config(source="npz", train_files=path), "train")


def test_an_archive_of_floats_says_so_of_the_whole_of_it(tmp_path):
    path = arrays(tmp_path / "a.npz", images=NOISE / 255, labels=CLASSES)
    with pytest.raises(
        DataError, match=r"a\.npz images are numbers of float64; .*uint8"
    ):
        load_images(Config(source="npz", train_files=path), "train")


def photo(path, color, size=(9, 7), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Two classes, in files of two kinds and sizes; and what is no image."""
    root = tmp_path / "pets"
    for number in range(6):
        photo(root / "train" / "cat" / f"{number}.png", (number, 0, 0))
        deep = root / "train" / "dog" / "more" / f"{number}.JPG"
        photo(deep, (0, 40 * number, 0), (12, 12), format="JPEG")
    photo(root / "val" / "dog" / "0.jpeg", (0, 255, 0))
    (root / "train" / "cat" / "notes.txt").write_text("cats")
    (root / "train" / "cat" / ".hidden.png").write_text("")
    return root


def of_folder(root, **changes):
    usual = dict(folder=str(root), folder_train="train", folder_valid="val")
    return Config(source="folder", **{**usual, "image_size": (6, 8), **changes})


def test_a_folder_for_each_class_is_read_with_its_sub_folders(folder):
    data = splits(of_folder(folder))
    assert data.train[0].images.shape == (12, 6, 8, 3)
    assert data.train[0].labels.tolist() == [0] * 6 + [1] * 6
    assert data.valid[0].labels.tolist() == [1] and not data.test
    report = data.report["train"]
    assert report["labels"] == ["cat", "dog"] and report["other_files"] == 1
    assert report["images_of_each"] == [6, 6]


def test_a_broken_file_is_an_error_with_its_name_or_dropped_and_counted(folder):
    (folder / "train" / "cat" / "3.png").write_bytes(b"")
    dog = folder / "train" / "dog" / "more" / "1.JPG"
    dog.write_bytes(dog.read_bytes()[:300])
    with pytest.raises(DataError, match=r"3\.png is broken: .*, 2 in all.*broken=drop"):
        splits(of_folder(folder))
    data = splits(of_folder(folder, broken="drop"))
    report = data.report["train"]
    assert report["broken"] == {"policy": "drop", "images": 2}
    assert (report["read"], report["kept"]) == (12, 10)
    assert data.train[0].labels.tolist() == [0] * 5 + [1] * 5


def test_if_all_files_are_broken_none_is_left(folder):
    for path in (folder / "val").rglob("*.jpeg"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of 1 images is left: 1 broken$"):
        splits(of_folder(folder, broken="drop"))


WRONG = {
    "no folder": (dict(folder="nowhere"), "nowhere/train is no folder"),
    "no class": (
        dict(folder_train="train/cat", folder_valid="train"),
        "has no folder of images for each class",
    ),
    "other sizes": (
        dict(image_size=()),
        r"0\.JPG is 12x12 pixels of 3 channels, .*0\.png is 7x9.*data\.image_size",
    ),
    "other classes": (
        dict(folder_train="val", folder_valid="train"),
        r"cat/0\.png has the label 'cat'; choose from \(dog\)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_folder_is_said_in_one_line(folder, name):
    changes, message = WRONG[name]
    with pytest.raises(DataError, match=message) as error:
        splits(of_folder(folder, **changes))
    assert "\n" not in str(error.value)


def damaged(tmp_path):
    """name -> (two IDX files, what is said)."""
    good = write_idx(tmp_path / "i", NOISE), write_idx(tmp_path / "l", CLASSES)
    whole = (tmp_path / "i").read_bytes()
    contents = {
        "short": (whole[:-7], r"it has 793 bytes for an array of shape \(40, 5, 4\)"),
        "no head": (whole[:6], "is damaged"),
        "text": (b"no numbers", "is no IDX file of bytes"),
        "half of gzip": (gzip.compress(whole)[:-9], "cannot read"),
    }
    cases = {}
    for name, (data, message) in contents.items():
        (tmp_path / name).write_bytes(data)
        cases[name] = (str(tmp_path / name), good[1]), message
    cases["too few labels"] = (
        (good[0], write_idx(tmp_path / "few", CLASSES[:5])),
        r"shape \(40, 5, 4\), .*few one of \(5,\)",
    )
    cases["one file"] = good[:1], "must name two IDX files"
    cases["swapped"] = good[::-1], "as many images as labels, in this order"
    return cases


def test_what_is_wrong_with_an_idx_file_is_said_in_one_line(tmp_path):
    for files, message in damaged(tmp_path).values():
        with pytest.raises(DataError, match=message) as error:
            load_images(Config(source="idx", train_files=files), "train")
        assert "\n" not in str(error.value)


def test_decoded_images_are_kept_mapped_into_memory_whatever_augments_them(
    folder, tmp_path
):
    from tfm_jax.data.augment.images import Config as Augment

    cfg, cache = of_folder(folder), tmp_path / "cache"
    made = prepared(KIND, cfg, None, cache)
    again = prepared(KIND, of_folder(folder, augment=Augment(flip=0.5)), None, cache)
    assert isinstance(again.train[0].images.base, np.memmap)
    np.testing.assert_array_equal(made.train[0].images, again.train[0].images)
    assert made.fingerprint == again.fingerprint
    assert made.augment_train is None and again.augment_train is not None
    json.dumps(again.report)
    photo(folder / "train" / "cat" / "new.png", (1, 2, 3))
    assert len(prepared(KIND, cfg, None, cache).train[0].labels) == 13


def test_a_share_and_a_place_of_a_folder_exclude_each_other():
    with pytest.raises(ValueError, match="data.folder_train='' holds"):
        Config(source="folder", folder="pets", folder_valid="val")
    with pytest.raises(ValueError, match=r"data\.image_size=\(0,\)"):
        Config(image_size=(0,))
    with pytest.raises(ValueError, match="must leave some to train on"):
        Config(valid_share=0.5, test_share=0.5)


WIDE = dict(image_size=(4, 8))
CHANGED = {  # knob -> (a changed value, other knobs that it is read with)
    "valid_share": (0.2, {}),
    "test_share": (0.1, {}),
    "split_seed": (1, {}),
    "image_size": ((6,), {}),
    "fit": ("stretch", WIDE),
    "color": ("rgb", {}),
    "leaked": ("drop", {}),
}
ELSEWHERE = {  # in the tests above
    *("source", "train_files", "valid_files", "test_files", "labels", "broken"),
    *("folder", "folder_train", "folder_valid", "folder_test"),
    *("tfds_name", "tfds_data_dir", "tfds_train", "tfds_valid", "tfds_test"),
    *("shuffle", "prefetch", "timeout_seconds"),  # of Order
    "augment",  # tests/data/augment
    "scenes",  # tests/data/sources/test_scenes.py
    "nearest",  # tests/data/sources/images/test_nearest.py
}


def test_every_knob_of_the_section_has_a_case_here():
    fields = {field.name for field in dataclasses.fields(Config)}
    assert fields == {*CHANGED} | ELSEWHERE


@pytest.mark.parametrize("knob", CHANGED)
def test_a_knob_changes_what_is_prepared(idx, knob):
    value, others = CHANGED[knob]
    base = Config(source="idx", train_files=idx, **others)
    if knob == "leaked":
        base = dataclasses.replace(base, valid_files=idx)
    changed = dataclasses.replace(base, **{knob: value})
    assert splits(base).fingerprint != splits(changed).fingerprint
