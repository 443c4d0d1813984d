"""Listed: the images of a split before they are decoded, from each kind of source."""

import hashlib
import importlib.metadata
import io
import math
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfm_jax.data.errors import DataError
from tfm_jax.data.sources import tfds
from tfm_jax.data.sources.text_files import read_bytes
from tfm_jax.data.watchdog import awaited, each

SUFFIXES = {".png", ".jpg", ".jpeg"}
# names of the arrays of images and labels of a split, as archives have them
ARRAYS = (("images", "labels"), ("x_{}", "y_{}"), ("{}_images", "{}_labels"))
ALIASES = {"valid": ("valid", "val", "validation")}
_BYTES = 0x08  # how an IDX file calls numbers of 8 bits


class Listed(NamedTuple):
    """Images with a class each; entry n of each belongs to entry n of the others.

    Attributes:
        items: what ``read`` takes.
        labels: names of classes, or numbers; None: unknown.
        origin: number -> where that image is from, in words.
        report: plain JSON. names: of the classes 0, 1, ... if the source has them.
        read: item -> what ``decoding.pixels`` takes.
    """

    items: Sequence[Any]
    labels: Sequence[str | None]
    origin: Callable[[int], str]
    report: dict[str, Any]
    names: Sequence[str] = ()
    read: Callable[[Any], Any] = lambda item: item


def _digits(cfg, split):
    """1,797 digits of 8 x 8 pixels and 17 levels of grey (Alpaydin & Kaynak 1998)."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError(
            f"data.source='digits' needs the package scikit-learn ({error}): "
            "pip install scikit-learn"
        ) from error
    images, labels = datasets.load_digits(return_X_y=True)
    images = np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    report = {"scikit-learn": importlib.metadata.version("scikit-learn")}
    return Listed(images, [*map(str, labels)], "digit {}".format, report)


def _idx(cfg, split):
    """Two files for each split, of images and of labels, as MNIST has them."""
    knob = f"data.{split}_files"
    paths = getattr(cfg, f"{split}_files")
    if len(paths) != 2:
        raise DataError(
            f"{knob}={paths} must name two IDX files, of images and of labels"
        )
    files = {str(path): read_bytes(path, knob) for path in paths}
    images, labels = (_idx_array(files[str(path)], path, knob) for path in paths)
    if images.ndim not in (3, 4) or labels.ndim != 1 or len(images) != len(labels):
        raise DataError(
            f"{knob}: {paths[0]} has an array of shape {images.shape}, {paths[1]} one "
            f"of {labels.shape}; expected as many images as labels, in this order"
        )
    return _of_arrays(images, labels, str(paths[0]), files)


def _idx_array(data, path, knob):
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _BYTES:
        raise DataError(f"{knob}: {path} is no IDX file of bytes, as MNIST's are")
    start = 4 + 4 * data[3]
    shape = tuple(int.from_bytes(data[i : i + 4]) for i in range(4, start, 4))
    if len(data) - start != math.prod(shape):
        raise DataError(
            f"{knob}: {path} is damaged: it has {max(len(data) - start, 0):,} bytes "
            f"for an array of shape {shape}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _npz(cfg, split):
    """Archives of NumPy: ``images`` and ``labels``, or names with the split's in it."""
    knob = f"data.{split}_files"
    paths = getattr(cfg, f"{split}_files")
    if len(paths) != 1:
        raise DataError(f"{knob}={paths} must name one .npz file")
    path, data = paths[0], read_bytes(paths[0], knob)
    try:
        with np.load(io.BytesIO(data)) as file:
            if not hasattr(file, "files"):
                raise ValueError("one array, and no archive of some")
            names = _names_of_arrays(file.files, split)
            images, labels = (file[name] for name in names)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{knob}: cannot read {path}: {error}") from error
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if images.ndim not in (3, 4) or labels.ndim != 1 or len(images) != len(labels):
        raise DataError(
            f"{knob}: in {path}, {names[0]} has shape {images.shape} and {names[1]} "
            f"{labels.shape}; expected [N, height, width] or [N, height, width, C] and "
            "[N]"
        )
    return _of_arrays(images, labels, f"{path} {names[0]}", {str(path): data})


def _names_of_arrays(there, split):
    wanted = [
        (image.format(alias), label.format(alias))
        for image, label in ARRAYS
        for alias in ALIASES.get(split, (split,))
    ]
    for names in wanted:
        if {*names} <= {*there}:
            return names
    choices = " or ".join(f"{image}, {label}" for image, label in dict.fromkeys(wanted))
    raise ValueError(f"it has the arrays {', '.join(there)}, and not {choices}")


def _of_arrays(images, labels, where, files):
    if images.dtype != np.uint8:
        raise DataError(
            f"{where} are numbers of {images.dtype}; images must be uint8, 0 to 255"
        )
    named = [*map(str, labels.tolist())]
    sums = {k: {"sha256": hashlib.sha256(x).hexdigest()} for k, x in files.items()}
    return Listed(images, named, f"{where}, number {{}}".format, {"files": sums})


def _folder(cfg, split):
    """A folder for each class, which holds its images, in folders below too."""
    knob = f"data.folder_{split}"
    root = Path(cfg.folder, getattr(cfg, knob.removeprefix("data.")))
    if not cfg.folder or not root.is_dir():
        raise DataError(
            f"data.folder={cfg.folder!r}, {knob}={root.name!r}: {root} is no folder"
        )
    items, labels, others = [], [], 0
    with awaited(root):
        classes = sorted(path for path in _seen(root.iterdir()) if path.is_dir())
        for folder in classes:
            for path in sorted(_seen(folder.rglob("*"))):
                if path.suffix.lower() in SUFFIXES:
                    items.append(path)
                    labels.append(folder.name)
                else:
                    others += path.is_file()
    if not items:
        raise DataError(
            f"{root} has no folder of images for each class, in files that end in "
            f"{', '.join(sorted(SUFFIXES))}"
        )
    report = {"folder": str(root), "other_files": others}
    return Listed(items, labels, lambda n: str(items[n]), report)


def _seen(paths):
    """Those that are not hidden."""
    return (path for path in paths if not path.name.startswith("."))


def _tfds(cfg, split):
    """The features ``image`` and ``label`` of a set that is on disk."""
    topic = "image_classification"
    examples, builder = tfds.open_split(cfg, topic, split, ("image", "label"))
    labels = [int(one["label"]) for one in each(examples, cfg.tfds_name)]
    wanted = getattr(cfg, f"tfds_{split}")
    return Listed(
        range(len(labels)),
        [None if label < 0 else str(label) for label in labels],
        f"{cfg.tfds_name} {wanted}: example {{}}".format,
        {"tfds": builder.info.full_name, "split": wanted},
        names=builder.info.features["label"].names or (),
        read=lambda n: examples[n]["image"],
    )


SOURCES: dict[str, Callable[[Any, str], Listed]] = {
    "digits": _digits,
    "idx": _idx,
    "npz": _npz,
    "folder": _folder,
    "tfds": _tfds,
}


def content(cfg: Any) -> Any:
    """Plain JSON that changes with what a source holds; None: the files' own bytes.

    Folders and sets of TFDS are too large to be read whole whenever a run starts: the
    names, sizes and times of their files count.
    """
    if cfg.source == "folder":
        return _stamps(Path(cfg.folder)) if cfg.folder else []
    if cfg.source == "tfds":
        topic, features = "image_classification", ("image", "label")
        _, builder = tfds.open_split(cfg, topic, "train", features)
        return _stamps(Path(builder.data_path))
    return None


def _stamps(folder):
    with awaited(folder):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        stats = [(path.relative_to(folder), path.stat()) for path in files]
    return [[p.as_posix(), s.st_size, s.st_mtime_ns] for p, s in stats]
