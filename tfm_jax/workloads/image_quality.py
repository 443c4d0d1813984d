"""Samples of a model compared with real images: the scores, and their names.

The features are those of a judge, a classifier that was trained here: distances are
comparable only of one judge, and none of them is an FID.
"""

import logging
import math
from typing import Any, NamedTuple

import numpy as np

from tfm_jax.data.sources.images.splits import digest
from tfm_jax.decode.classifying import Judge
from tfm_jax.metrics import samples

MOST = 50_000  # real images of a split, evenly spaced, that are compared with
LINEAR = 4096  # most dimensions whose covariance is decomposed
NEAREST = (
    *("samples", "nearest_train", "nearest_heldout", "nearest_ratio"),
    *("nearest_is_train", "nearest_is_train_by_chance"),
)
OF_LABELS = ("sample_accuracy", "sample_accuracy_sd")
JUDGED = (
    *("frechet", "frechet_sd", "frechet_heldout", "frechet_floor"),
    *("gaussian_frechet", "gaussian_accuracy"),
    *("judge", "judge_accuracy", "judge_has_seen"),
)


class Images(NamedTuple):
    """Images with a class each: pixels [n, H, W, C] uint8, labels [n]."""

    pixels: np.ndarray
    labels: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """[n, H * W * C]."""
        return self.pixels.reshape(len(self.pixels), -1)


def real(row_sets: list[Any]) -> Images:
    """Those of a split whose class is known, see ``MOST``."""
    (rows,) = row_sets
    known = np.flatnonzero(rows.weights)
    if len(known) > MOST:
        known = known[np.linspace(0, len(known) - 1, MOST).astype(int)]
    return Images(np.asarray(rows.images[known]), np.asarray(rows.labels[known]))


def has_linear(model: Any) -> bool:
    """Whether ``linear_noise_error`` is computed of the images of a model."""
    return math.prod((*model.image, model.channels)) <= LINEAR


def names(model: Any, *, judged: bool) -> tuple[str, ...]:
    """Of all scores of samples. Args: model: its configuration."""
    linear = ("linear_noise_error",) if has_linear(model) else ()
    of_labels = OF_LABELS if model.labels else ()
    return NEAREST + linear + (of_labels + JUDGED if judged else ())


def compared(drawn: Images, train: Images, heldout: Images) -> dict[str, float]:
    """How near they are to real images: grey levels, root mean square, medians.

    An image that was not learnt by heart is nearest to one of the training images as
    often as these are among all real ones (``nearest_is_train_by_chance``), since it
    knows no more of them than of the others.
    """
    to_train, to_heldout = (
        samples.nearest(drawn.rows, images.rows) for images in (train, heldout)
    )
    medians = [float(np.median(each)) for each in (to_train, to_heldout)]
    both = len(train.labels) + len(heldout.labels)
    return {
        "samples": len(drawn.labels),
        "nearest_train": medians[0],
        "nearest_heldout": medians[1],
        "nearest_ratio": medians[0] / max(medians[1], 1e-9),
        "nearest_is_train": float(np.mean(to_train < to_heldout)),
        "nearest_is_train_by_chance": len(train.labels) / both,
    }


def judged(
    judge: Judge, drawn: Images, train: Images, heldout: Images, *, labels: bool
) -> dict[str, Any]:
    """Scores by a judge, of samples and of as many images of one Gaussian a class.

    ``frechet`` is the distance of its features to those of the training images,
    ``frechet_floor`` that of the held-out ones; of fewer images it comes out higher.
    ``judge_has_seen`` is the share of these that the judge was trained on, nan if what
    it was trained on cannot be read any more.

    Args: labels: whether ``drawn`` are conditioned on their classes.
    """
    asked = np.resize(np.unique(train.labels), len(drawn.labels))
    pixels = samples.class_gaussians(train.rows, train.labels, asked)
    pixels = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
    gaussian = Images(pixels.reshape(-1, *train.pixels.shape[1:]), asked)
    every = {"drawn": drawn, "gaussian": gaussian, "heldout": heldout}
    features, right = {}, {}
    for name, images in every.items():
        features[name], classes = judge.look(images.pixels)
        right[name] = float(np.mean(classes == images.labels))
    reference = samples.fit(judge.look(train.pixels)[0])
    fitted = {name: samples.fit(x) for name, x in features.items()}
    count, accuracy = len(drawn.labels), right["drawn"]
    seen = None
    if judge.trained_on is not None:
        seen = sum(digest(one) in judge.trained_on for one in heldout.pixels)
    if seen:
        logging.warning(
            "eval.judge was trained on %d of %d held-out images: judge_accuracy and "
            "distances to them flatter",
            *(seen, len(heldout.labels)),
        )
    of_labels = {
        "sample_accuracy": accuracy,
        "sample_accuracy_sd": math.sqrt(accuracy * (1 - accuracy) / count),
    }
    return (of_labels if labels else {}) | {
        "frechet": samples.frechet(fitted["drawn"], reference),
        "frechet_sd": samples.frechet_sd(features["drawn"], reference),
        "frechet_heldout": samples.frechet(fitted["drawn"], fitted["heldout"]),
        "frechet_floor": samples.frechet(fitted["heldout"], reference),
        "gaussian_frechet": samples.frechet(fitted["gaussian"], reference),
        "gaussian_accuracy": right["gaussian"],
        "judge_accuracy": right["heldout"],
        "judge": judge.name,
        "judge_has_seen": math.nan if seen is None else seen / len(heldout.labels),
    }
