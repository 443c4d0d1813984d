"""Listed: the images of a split before they are decoded, from each kind of source."""

import functools
import hashlib
import importlib.metadata
import io
import math
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfm_jax.data.errors import DataError
from tfm_jax.data.sources import scenes, tfds
from tfm_jax.data.sources.images import nearest
from tfm_jax.data.sources.tables import in_order
from tfm_jax.data.sources.text_files import read_bytes
from tfm_jax.data.watchdog import awaited, each

SUFFIXES = {".png", ".jpg", ".jpeg"}
# names of the arrays of images and labels of a split, as archives have them
ARRAYS = (("x_{}", "y_{}"), ("{}_images", "{}_labels"), ("images", "labels"))
# kind of numbers or text of NumPy -> label -> name of its class; None: unknown
NAMED: dict[str, Callable[[Any], str | None]] = {
    "i": lambda number: None if number < 0 else str(number),
    **dict.fromkeys("buU", str),
    "S": lambda text: text.decode(errors="backslashreplace"),
}
ALIASES = {"valid": ("valid", "val", "validation")}
_BYTES = 0x08  # how an IDX file calls numbers of 8 bits


class Listed(NamedTuple):
    """Images with a class each; entry n of each belongs to entry n of the others.

    Attributes:
        items: what ``read`` takes.
        labels: names of classes, or numbers; None: unknown.
        origin: number -> where that image is from, in words.
        report: plain JSON. names: of all classes, in order; (): those of ``labels``.
        read: item -> what ``decoding.pixels`` takes.
    """

    items: Sequence[Any]
    labels: Sequence[str | None]
    origin: Callable[[int], str]
    report: dict[str, Any]
    names: Sequence[str] = ()
    read: Callable[[Any], Any] = lambda item: item

    def classes(self) -> tuple[str, ...]:
        """``names``, or those of ``labels``; two spellings in Unicode are one."""
        spelled = {one_form(x): x for x in self.labels if x is not None}
        return tuple(self.names or in_order(spelled.values()))


one_form = functools.partial(unicodedata.normalize, "NFC")


def by_number(
    labels: Sequence[str | None], names: Sequence[str], origin: Callable[[int], str]
) -> list[str | None]:
    """Names, of labels that are numbers in them. Raises: DataError."""
    for number, label in enumerate(labels):
        if label is not None and int(label) >= len(names):
            raise DataError(
                f"{origin(number)} has the label {label}, and the {len(names)} names "
                f"are {', '.join(names)}"
            )
    return [None if label is None else names[int(label)] for label in labels]


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
    except Exception as error:  # of whatever unpacks it
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
    if 0 in images.shape[1:]:
        raise DataError(f"{where} have the shape {images.shape}, without a pixel")
    if labels.dtype.kind not in NAMED:
        raise DataError(
            f"{where} have labels of {labels.dtype}; expected whole numbers or text"
        )
    named = [*map(NAMED[labels.dtype.kind], labels.tolist())]
    sums = {k: {"sha256": hashlib.sha256(x).hexdigest()} for k, x in files.items()}
    return Listed(images, named, f"{where}, number {{}}".format, {"files": sums})


def _folder(cfg, split):
    """A folder for each class, which holds its images, in folders below too."""
    root = _root(cfg, split)
    items, labels, others = [], [], 0
    for name, path in _by_class(root):
        if name and path.suffix.lower() in SUFFIXES:
            items.append(path)
            labels.append(name)
        else:
            others += path.is_file()
    if not items:
        raise DataError(
            f"{root} has no folder of images for each class, in files that end in "
            f"{', '.join(sorted(SUFFIXES))}"
        )
    report = {"folder": str(root), "other_files": others}
    return Listed(items, labels, lambda n: str(items[n]), report)


def _root(cfg, split):
    knob = f"data.folder_{split}"
    root = Path(cfg.folder, getattr(cfg, knob.removeprefix("data.")))
    if not cfg.folder or not root.is_dir():
        raise DataError(
            f"data.folder={cfg.folder!r}, {knob}={root.name!r}: {root} is no folder"
        )
    return root


def _by_class(root):
    """(name of the class, file) of all files below ``root``; "": of no class."""
    with awaited(root):
        for name in sorted(_seen(os.listdir(root))):
            path = root / name
            if path.is_dir():
                yield from ((name, file) for file in files_below(path))
            else:
                yield "", path


def files_below(folder: Path) -> list[Path]:
    """All files but hidden ones, in the order of names.

    Links are followed, to each folder once and to none above; hidden folders are not
    entered. Raises: DataError for a folder that cannot be read.
    """
    files: list[Path] = []
    entered = {*map(str, Path(os.path.realpath(folder)).parents)}
    for place, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in entered else sorted(_seen(folders))
        if real not in entered:
            files += (Path(place, name) for name in _seen(names))
        entered.add(real)
    return sorted(files)


def _refuse(error):
    raise DataError(f"cannot read {error.filename}: {error.strerror}") from error


def _seen(names: Iterable[str]) -> Iterator[str]:
    """Those that are not hidden."""
    return (name for name in names if not name.startswith("."))


def _tfds(cfg, split):
    """The features ``image`` and ``label`` of a set that is on disk."""
    topic = "image_classification"
    examples, builder = tfds.open_split(cfg, topic, split, ("image", "label"))
    labels = [NAMED["i"](int(one["label"])) for one in each(examples, cfg.tfds_name)]
    wanted = getattr(cfg, f"tfds_{split}")
    origin = f"{cfg.tfds_name} {wanted}: example {{}}".format
    names = cfg.labels or builder.info.features["label"].names or ()
    return Listed(
        range(len(labels)),
        by_number(labels, names, origin) if names else labels,
        origin,
        {"tfds": builder.info.full_name, "split": wanted},
        names,
        read=lambda n: examples[n]["image"],
    )


def _scenes(cfg, split):
    """Rendered scenes of one object, whose colour and shape is the class."""
    drawn, report = scenes.load(cfg.scenes, split)
    labels = [one.references[0].removeprefix("a ") for one in drawn.examples]
    return Listed(drawn.pixels, labels, "scene {}".format, report, scenes.CLASSES)


def _nearest(cfg, split):
    drawn, report = nearest.load(cfg.nearest, split)
    names = [*map(str, range(cfg.nearest.labels))]
    labels = [names[label] for label in drawn.labels]
    return Listed(drawn.pixels, labels, "image {}".format, report, names)


SOURCES: dict[str, Callable[[Any, str], Listed]] = {
    "digits": _digits,
    "scenes": _scenes,
    "nearest": _nearest,
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
        held_out = [s for s in ("valid", "test") if getattr(cfg, f"folder_{s}")]
        roots = [_root(cfg, split) for split in ("train", *held_out)]
        return [stamps(root, [x for _, x in _by_class(root)]) for root in roots]
    if cfg.source == "tfds":
        topic, features = "image_classification", ("image", "label")
        _, builder = tfds.open_split(cfg, topic, "train", features)
        folder = Path(builder.data_path)
        return stamps(folder, files_below(folder))
    return None


def stamps(folder: Path, files: Iterable[Path]) -> list[list[Any]]:
    """Name below ``folder``, size and time of each file; plain JSON."""
    with awaited(folder):
        stats = [(x, x.stat() if x.exists() else x.lstat()) for x in files]
    return [
        [path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns]
        for path, stat in stats
    ]
