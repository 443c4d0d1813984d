"""Images as a trained model reads them, and its probability of each class."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tfm_jax.config import ConfigError, from_flag
from tfm_jax.data.errors import DataError
from tfm_jax.data.sources.images.decoding import BrokenImage, pixels, strictly
from tfm_jax.data.sources.images.listed import SUFFIXES, files_below
from tfm_jax.decode.classifying import over_images
from tfm_jax.runs import saved


def read(run: saved.Saved, items: Iterable[Any]) -> np.ndarray:
    """[n, height, width, C] uint8, converted and resized as the model needs it.

    Args: items: paths, images of Pillow, or arrays uint8 [H, W] or [H, W, C].
    Raises: DataError naming the first that is no such image.
    """
    data, model = run.experiment.data, run.experiment.model
    model = getattr(model, "vision", model)  # the part that reads images
    size = getattr(model, "image", data.image_size)
    color = {1: "grey", 3: "rgb"}.get(getattr(model, "channels", 0), data.color)
    images: list[np.ndarray] = []
    with strictly():
        for number, item in enumerate(items):
            name = item if isinstance(item, str | Path) else f"image {number}"
            try:
                images.append(pixels(item, size, color, data.fit))
            except FileNotFoundError as error:
                raise DataError(f"there is no file {name}") from error
            except BrokenImage as error:
                raise DataError(f"{name} is broken: {error}") from error
            if images[-1].shape != images[0].shape:
                raise DataError(
                    f"{name} has shape {images[-1].shape}, the first one "
                    f"{images[0].shape}, and the run has no data.image_size"
                )
    return np.stack(images) if images else np.zeros((0, 1, 1, 1), np.uint8)


def logits(run: saved.Saved, images: np.ndarray, **options: Any) -> np.ndarray:
    """Of each class [n, labels] float32, in the order of ``saved.label_names``.

    Args: images: of ``read``. options: of ``over_images``.
    """
    if not len(images):
        return np.zeros((0, run.experiment.model.labels), np.float32)
    return over_images(run.model, run.params, images, **options)


def probabilities(run: saved.Saved, images: np.ndarray, **options: Any) -> np.ndarray:
    """The same as probabilities."""
    return np.asarray(jax.nn.softmax(logits(run, images, **options), axis=-1))


def named(text: str) -> list[str]:
    """The paths that ``--input`` names: one that is there, or several between commas.

    Raises: ConfigError.
    """
    if os.path.exists(text):
        return [text]
    if not (names := from_flag(text, tuple[str, ...], "--input")):
        raise ConfigError(f"--input={text} names no file and no folder")
    return [*names]


def files(names: Sequence[str]) -> list[Path]:
    """Files, and those images below folders that are trained on. Raises: DataError."""
    paths: list[Path] = []
    for path in map(Path, names):
        if path.is_dir():
            below = files_below(path)
            paths += [file for file in below if file.suffix.lower() in SUFFIXES]
        else:
            paths.append(path)
    if not paths:
        raise DataError(
            f"{', '.join(names)} holds no file {', '.join(sorted(SUFFIXES))}"
        )
    return paths
