"""Labelled images: their classes, and their pixels, decoded and alike."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfm_jax.data.policies import POLICIES
from tfm_jax.data.sources import scenes, tfds
from tfm_jax.data.sources.images import decoded, nearest, splits
from tfm_jax.data.sources.images.listed import SOURCES, by_number, one_form
from tfm_jax.data.sources.tables import numbers_of
from tfm_jax.knobs import knob

_CHUNK = 1024  # images whose moments are taken at a time
_Scenes = scenes.OneObject  # a field hides the module
_SCENES = scenes.knobs_of(_Scenes)
_Nearest = nearest.Config
_NEAREST = nearest.KNOBS


@dataclasses.dataclass(frozen=True)
class Config(decoded.Config):
    """Where images come from, which of them are held out, and what they become."""

    ROLE = "training"

    source: str = knob(
        "digits",
        "where images come from; digits: those of scikit-learn; scenes: rendered; "
        "nearest: labelled keys and a query; idx: "
        "files as MNIST's; folder: a folder for each class",
        choices=SOURCES,
    )
    train_files: tuple[str, ...] = knob(
        (), "source=idx: of images and of labels; source=npz: one file"
    )
    valid_files: tuple[str, ...] = knob((), "of the validation split; (): valid_share")
    test_files: tuple[str, ...] = knob((), "of the test split; (): test_share")
    folder: str = knob("", "source=folder: where the images are")
    folder_train: str = knob("", 'folder below it of those to train on; "": itself')
    folder_valid: str = knob("", 'of the validation split; "": valid_share')
    folder_test: str = knob("", 'of the test split; "": test_share')
    tfds_name: str = tfds.name_knob("mnist")
    tfds_data_dir: str = tfds.data_dir_knob()
    tfds_train: str = tfds.train_knob()
    tfds_valid: str = knob("", 'its validation split; "": valid_share')
    tfds_test: str = knob("", 'its test split; "": test_share')
    valid_share: float = knob(
        0.1, "of the training images, if there is no validation split", low=0, below=1
    )
    test_share: float = knob(0.0, "the same of the test split", low=0, below=1)
    split_seed: int = knob(0, "chooses the images held out", low=0)
    labels: tuple[str, ...] = knob(
        (),
        "names of the classes in order, which labels that are numbers count unless a "
        "name is a number, too; (): the source's, or those of the training images, "
        "sorted",
        role="architecture",
    )
    scenes: _Scenes = _Scenes()
    nearest: _Nearest = _Nearest()
    leaked: str = knob(
        "keep",
        "what a held-out image gets that is trained on, too, pixel by pixel",
        choices=POLICIES,
    )

    READ_WITH = {
        ("source", ("idx", "npz")): ("train_files", "valid_files", "test_files"),
        ("source", ("folder",)): (
            "folder",
            "folder_train",
            "folder_valid",
            "folder_test",
        ),
        ("source", ("tfds",)): tfds.KNOBS,
        ("source", ("scenes",)): _SCENES,
        ("source", ("nearest",)): _NEAREST,
        ("source", ("folder", "tfds")): ("broken",),
        ("valid_files", ((),)): ("valid_share",),
        ("folder_valid", ("",)): ("valid_share",),
        ("tfds_valid", ("",)): ("valid_share",),
        ("test_files", ((),)): ("test_share",),
        ("folder_test", ("",)): ("test_share",),
        ("tfds_test", ("",)): ("test_share",),
    }

    def __post_init__(self):
        getattr(super(), "__post_init__", lambda: None)()
        shares = self.valid_share, self.test_share
        if sum(shares) >= 1:
            raise ValueError(
                f"data.valid_share={self.valid_share} and data.test_share="
                f"{self.test_share} must leave some to train on"
            )
        held_out = self.folder_valid or self.folder_test
        if held_out and not self.folder_train:
            raise ValueError(
                f"data.folder_train='' holds data.folder_valid={self.folder_valid!r} "
                f"and data.folder_test={self.folder_test!r}; name a folder beside them"
            )
        if len({*self.labels}) < len(self.labels):
            raise ValueError(f"data.labels={self.labels} has a name twice")

    def reading(self, *files: str) -> "Config":
        """The same with ``files``, as a training split has them, as validation split.

        Raises: ValueError for a source that reads none, or not so many.
        """
        if self.source == "folder":
            if len(files) != 1:
                raise ValueError("data.source='folder' reads one folder")
            places: Any = dict(folder_train=".", folder_valid=".", folder_test="")
            return dataclasses.replace(self, folder=files[0], **places)
        if self.source in ("digits", *splits.GENERATED, "tfds"):
            raise ValueError(f"data.source={self.source!r} reads no files")
        return dataclasses.replace(
            self, train_files=(), valid_files=files, test_files=()
        )


class Images(NamedTuple):
    """Images of one split, and the class of each."""

    pixels: np.ndarray  # [n, height, width, C] uint8
    labels: np.ndarray  # [n] int32 indices in ``names``; 0: unknown
    known: np.ndarray  # [n] bool
    names: tuple[str, ...]

    def counts(self) -> dict[str, Any]:
        """How many there are, and of each class; plain JSON."""
        known = self.labels[self.known]
        return {
            "kept": len(self.labels),
            "unlabelled": len(self.labels) - len(known),
            "images_of_each": np.bincount(known, minlength=len(self.names)).tolist(),
        }


def load_images(
    cfg: Any, split: str, names: Sequence[str] | None = None
) -> tuple[Images, dict[str, Any]]:
    """The images of one split: (Images, report of what was read).

    A held-out split that is not named is a share of the training split, chosen by a
    hash of each image: equal ones are all in one split, and an image stays in its split
    when others come or go.

    Args: names: of the classes in order; None: those of the config or of the source.
    Raises: DataError for data that is absent or damaged, images of different sizes that
        are to stay as they are, and classes that the training split does not have.
    """
    listed = splits.chosen(cfg, split)
    if listed is None or not len(listed.items):
        empty = np.zeros((0, 1, 1, 1), np.uint8), np.zeros(0, np.int32)
        there = tuple(names or ())
        return Images(*empty, np.zeros(0, bool), there), {"read": 0, "labels": [*there]}
    known = np.array([label is not None for label in listed.labels], bool)
    classes, labels = _numbered(cfg, listed, names)
    pixels, keep, broken = decoded.pixels_of(cfg, listed)
    images = Images(pixels, labels[keep], known[keep], classes)
    report = {
        **listed.report,
        "read": len(keep),
        **broken,
        **images.counts(),
        "labels": list(classes),
        "shape": list(pixels.shape[1:]),
    }
    return images, report | (_moments(pixels) if split == "train" else {})


def _numbered(cfg, listed, names):
    """(names of classes, [n] int32)."""
    labels = listed.labels
    numbers = all(label is None or label.isdecimal() for label in labels)
    if cfg.labels and numbers and not any(name.isdecimal() for name in cfg.labels):
        labels = by_number(labels, cfg.labels, listed.origin)
    names = tuple(names or cfg.labels or listed.classes())
    origins = map(listed.origin, range(len(labels)))
    alike = [label if label is None else one_form(label) for label in labels]
    return names, numbers_of(alike, origins, [*map(one_form, names)])


def _moments(pixels):
    """Mean and standard deviation of each channel, of pixels in [0, 1]."""
    total = np.zeros((2, pixels.shape[-1]))
    for first in range(0, len(pixels), _CHUNK):
        part = pixels[first : first + _CHUNK].reshape(-1, pixels.shape[-1]) / 255.0
        total += part.sum(0), np.square(part).sum(0)
    mean, square = total / pixels[..., 0].size
    std = np.sqrt(np.maximum(square - np.square(mean), 0))  # rounding errors
    return {"pixel_mean": mean.round(4).tolist(), "pixel_std": std.round(4).tolist()}
