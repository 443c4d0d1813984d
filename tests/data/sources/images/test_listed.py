"""Which files are images of which class, in folders and archives made here."""

import os
import unicodedata
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tfm_jax.config import ConfigError
from tfm_jax.data.errors import DataError
from tfm_jax.data.prepared import prepare
from tfm_jax.data.rows.images import KIND, Config
from tfm_jax.data.sources import tfds
from tfm_jax.data.sources.images.labelled import load_images
from tfm_jax.data.sources.images.listed import SOURCES, content
from tfm_jax.runs import heldout, pictures
from tfm_jax.runs.images import classified

NOISE = np.random.default_rng(0).integers(0, 256, (12, 4, 4), np.uint8)


def photos(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.fromarray(NOISE[number]).save(folder / name)


def archive(path, labels, **others):
    labels = np.asarray(labels)
    np.savez(path, images=NOISE[: len(labels)], labels=labels, **others)
    return (str(path),)


def listed(root, split="train", **options):
    """[(class, path below the root)] of a split."""
    cfg = Config(source="folder", folder=str(root), **options)
    images = SOURCES["folder"](cfg, split)
    below = [os.path.relpath(path, root) for path in images.items]
    return [*zip(images.labels, below, strict=True)]


def test_prepared_data_is_known_by_all_files_that_are_read(tmp_path):
    """Behind links, and in splits that lie elsewhere, too."""
    root, there = tmp_path / "pets", tmp_path / "there"
    photos(root / "train" / "dog", "1.png")
    photos(there / "cats", "1.png")
    photos(there / "valid" / "dog", "1.png")
    (root / "train" / "cat").symlink_to(there / "cats")
    (root / "train" / "cat" / "gone.png").symlink_to(tmp_path / "nowhere")
    places = dict(folder_train="train", folder_valid=str(there / "valid"))
    cfg = Config(source="folder", folder=str(root), **places)
    seen = [content(cfg)]
    for folder in (there / "cats", there / "valid" / "dog", root / "train" / "dog"):
        photos(folder, "2.png")
        assert content(cfg) not in seen
        seen.append(content(cfg))


def test_links_are_followed_once_and_never_upwards(tmp_path):
    root, there = tmp_path / "pets", tmp_path / "there"
    photos(root / "cat", "1.png")
    photos(there, "2.png")
    for name, place in {"a": there, "b": there, "c": root, "d": root / "cat"}.items():
        (root / "cat" / name).symlink_to(place)
    wanted = [("cat", "cat/1.png"), ("cat", "cat/a/2.png")]
    assert listed(root) == wanted
    (root / "dog").symlink_to(there)
    assert listed(root) == [*wanted, ("dog", "dog/2.png")]


def test_what_is_hidden_is_neither_trained_on_nor_classified(tmp_path):
    photos(tmp_path / "cat", "1.png", "._1.png")
    photos(tmp_path / "cat" / ".ipynb_checkpoints", "2.png")
    photos(tmp_path / ".git", "3.png")
    assert listed(tmp_path) == [("cat", "cat/1.png")]
    assert classified.files([str(tmp_path)]) == [tmp_path / "cat" / "1.png"]


def test_files_beside_the_folders_of_classes_are_counted(tmp_path):
    photos(tmp_path, "1.png", "2.png")
    photos(tmp_path / "cat", "3.png")
    cfg = Config(source="folder", folder=str(tmp_path), valid_share=0.0)
    assert load_images(cfg, "train")[1]["other_files"] == 2


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("to", ["nowhere", "link.png"])
def test_a_link_that_leads_nowhere_is_a_broken_image(tmp_path, share, to):
    photos(tmp_path / "cat", "1.png", "2.png", "3.png", "4.png")
    photos(tmp_path / "cat" / "folder.png", "5.png")
    (tmp_path / "cat" / "link.png").symlink_to(tmp_path / "cat" / to)
    places = dict(source="folder", folder=str(tmp_path), valid_share=share)
    with pytest.raises(DataError, match=r"link\.png is broken: .*, 1 in all"):
        prepare(KIND, Config(**places), None)
    report = prepare(KIND, Config(**places, broken="drop"), None).report
    splits = [part for part in (report["train"], report["valid"]) if part["read"]]
    assert sum(part["kept"] for part in splits) == 5
    assert sum(part["broken"]["images"] for part in splits) == 1


@pytest.mark.parametrize("pack", [np.savez, np.savez_compressed])
def test_a_damaged_archive_is_said_to_be_one_whichever_byte_it_is(tmp_path, pack):
    path = tmp_path / "a.npz"
    pack(path, images=np.zeros((6, 4, 4), np.uint8), labels=np.arange(6))
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 129]) + whole[place + 1 :]
        )
        try:
            SOURCES["npz"](Config(source="npz", train_files=(str(path),)), "train")
        except DataError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > len(whole) / 2


@pytest.mark.parametrize(
    "labels, names",
    [
        ([1, 0, -1], ("0", "1")),
        (np.array([1, 0, 1], np.uint64), ("0", "1")),
        (np.array([b"dog", b"caf\xc3\xa9", b"dog"]), ("café", "dog")),
        (["dog", "cat", "dog"], ("cat", "dog")),
        ([True, False, True], ("False", "True")),
    ],
)
def test_labels_of_archives_are_whole_numbers_or_text(tmp_path, labels, names):
    """Numbers below 0 are unknown, as in the sets of TFDS."""
    files = archive(tmp_path / "a.npz", labels)
    cfg = Config(source="npz", train_files=files, valid_share=0.0)
    images, report = load_images(cfg, "train")
    assert images.names == names and images.labels[:2].tolist() == [1, 0]
    assert report["unlabelled"] == (labels[2] == -1)


@pytest.mark.parametrize("labels", [[0.0, np.nan], [1j, 0]])
def test_other_numbers_are_no_labels(tmp_path, labels):
    files = archive(tmp_path / "a.npz", labels)
    with pytest.raises(DataError, match=r"a\.npz images have labels of .*; expected"):
        load_images(Config(source="npz", train_files=files), "train")


@pytest.mark.parametrize("shape", [(3, 0, 8), (3, 8, 8, 0)])
def test_an_archive_of_images_without_pixels_is_refused(tmp_path, shape):
    np.savez(tmp_path / "a.npz", images=np.zeros(shape, np.uint8), labels=np.arange(3))
    files = (str(tmp_path / "a.npz"),)
    cfg = Config(source="npz", train_files=files, image_size=(8,))
    with pytest.raises(DataError, match=r"a\.npz images have the shape \(3, .* pixel$"):
        load_images(cfg, "train")


def test_an_array_of_the_split_goes_before_one_of_no_split(tmp_path):
    test = dict(test_images=NOISE[5:7], test_labels=np.array([0, 1]))
    files = archive(tmp_path / "a.npz", [0, 1, 0], **test)
    cfg = Config(source="npz", train_files=files, test_files=files, valid_share=0.0)
    assert len(load_images(cfg, "train")[0].labels) == 3
    np.testing.assert_array_equal(
        load_images(cfg, "test")[0].pixels[..., 0], NOISE[5:7]
    )


def test_numbers_are_names_of_classes_where_these_are_numbers(tmp_path):
    """Whichever numbers a split has."""
    names = ("1", "2", "3")
    for held_out in ([1, 2], [3, 2], [3]):
        files = archive(tmp_path / "valid.npz", held_out)
        cfg = Config(source="npz", valid_files=files, labels=names)
        images, _ = load_images(cfg, "valid", names)
        assert [names[label] for label in images.labels] == [*map(str, held_out)]
    files = archive(tmp_path / "train.npz", [0, 1, 2])
    cfg = Config(source="npz", train_files=files, labels=names)
    with pytest.raises(DataError, match=r"has the label '0'; choose from \(1, 2, 3\)"):
        load_images(cfg, "train")


def test_what_is_drawn_is_read_back_as_the_same_classes(tmp_path):
    names, path = ("1", "2", "3"), tmp_path / "drawn.npz"
    pictures.FILES[".npz"](NOISE[:3, ..., None], np.array(names)[[1, 1, 0]], path)
    cfg = Config(source="npz", train_files=(str(path),), labels=names, valid_share=0.0)
    assert load_images(cfg, "train")[0].labels.tolist() == [1, 1, 0]


@pytest.mark.parametrize("names", [(), ("one", "two", "three")])
def test_labels_of_tfds_count_its_classes_whatever_these_are_called(monkeypatch, names):
    own = "1", "2", "3"
    examples = [{"image": NOISE[n], "label": n % 3} for n in (1, 2, 4)]
    label = SimpleNamespace(names=own)
    info = SimpleNamespace(features={"label": label}, full_name="numbers/1.0.0")
    opened = examples, SimpleNamespace(info=info)
    monkeypatch.setattr(tfds, "open_split", lambda *args: opened)
    cfg = Config(source="tfds", labels=names, valid_share=0.0)
    images, _ = load_images(cfg, "train")
    assert images.labels.tolist() == [1, 2, 1] and images.names == (names or own)


def test_a_class_whose_images_are_all_held_out_is_one(tmp_path):
    files = archive(tmp_path / "a.npz", [*"aaabbbbbbbb", "c"])
    classes = set()
    for seed in range(8):
        knobs = dict(source="npz", train_files=files, split_seed=seed, valid_share=0.3)
        report = prepare(KIND, Config(**knobs), None).report
        assert report["train"]["labels"] == [*"abc"]
        classes.add(report["train"]["images_of_each"][2])
    assert classes == {0, 1}  # held out by some seeds


def test_two_spellings_of_a_class_in_unicode_are_one(tmp_path):
    for split, form in (("train", "NFC"), ("valid", "NFD")):
        photos(tmp_path / split / unicodedata.normalize(form, "café"), "1.png")
        photos(tmp_path / split / "dog", "2.png")
    places = dict(folder_train="train", folder_valid="valid")
    data = prepare(KIND, Config(source="folder", folder=str(tmp_path), **places), None)
    assert data.valid[0].labels.tolist() == data.train[0].labels.tolist() == [0, 1]
    photos(tmp_path / "both" / unicodedata.normalize("NFC", "café"), "1.png")
    photos(tmp_path / "both" / unicodedata.normalize("NFD", "café"), "2.png")
    cfg = Config(source="folder", folder=str(tmp_path), folder_train="both")
    assert load_images(cfg, "train")[0].labels.tolist() == [0, 0]


def test_a_path_with_commas_is_one_if_it_is_there_and_may_stand_in_quotes(tmp_path):
    path = tmp_path / "my, data.npz"
    assert classified.named(f"{path},b") == [f"{tmp_path}/my", "data.npz", "b"]
    assert classified.named(f"'{path}',b") == [str(path), "b"]
    path.touch()
    assert classified.named(str(path)) == [str(path)]
    read = heldout._reading(Config(source="npz"), str(path))
    assert read.valid_files == (str(path),)
    with pytest.raises(ConfigError, match="reads one folder"):
        heldout._reading(Config(source="folder", folder="x"), f"{tmp_path},b")
