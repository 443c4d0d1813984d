"""Judges: trained classifiers by which the images of other models are measured."""

import hashlib
import logging

import jax
import numpy as np

from tfm_jax.config import ConfigError
from tfm_jax.data.sources.images.splits import digest
from tfm_jax.decode.classifying import Judge
from tfm_jax.runs import saved
from tfm_jax.runs.storage import arrays
from tfm_jax.settings.experiment import Experiment

WANTED = "the workdir of a run of task=classify_images with model_name=vit"


def read(experiment: Experiment) -> Judge | None:
    """The classifier that ``eval.judge`` names; None if it names none.

    Raises: ConfigError if there is none, or it is one of other images.
    """
    path = experiment.eval.judge
    if not path:
        return None
    try:
        run = saved.load(path)
        labels = saved.label_names(run)
    except (OSError, ValueError) as error:
        raise ConfigError(f"eval.judge={path!r}: {error}; name {WANTED}") from error
    judge = run.experiment
    if judge.task != "classify_images" or judge.model_name != "vit":
        raise ConfigError(
            f"eval.judge={path!r} is one of task={judge.task!r} with model_name="
            f"{judge.model_name!r}; name {WANTED}"
        )
    ours, its = ((*m.image, m.channels) for m in (experiment.model, judge.model))
    if ours != its:
        raise ConfigError(
            f"eval.judge={path!r} sees images of {its}, the model draws some of {ours} "
            "(height, width, channels)"
        )
    features = judge.build_model(head="features")
    # of no device: what it is to judge is trained on a mesh, and drawn on one device
    params = jax.device_get(run.params)
    return Judge(
        name_of(run), labels, run.model, features, params, _trained_on(judge, path)
    )


def name_of(run: saved.Saved) -> str:
    """Its family and a digest of its parameters."""
    return f"{run.experiment.model_name} {_digest(run.params)}"


def _trained_on(experiment, path):
    try:
        data = experiment.workload.read(experiment.data, None)  # prepared already
    except (OSError, ValueError) as error:
        logging.warning(
            "eval.judge=%r: what it was trained on cannot be read, so nothing tells "
            "whether it has seen the images held out here: %s",
            *(path, error),
        )
        return None
    (rows,) = data.train
    return frozenset(map(digest, rows.images[rows.weights > 0]))


def _digest(params):
    """12 hexadecimal digits of what a model has learnt."""
    digest = hashlib.sha256()
    for path, x in sorted(arrays.leaves(params).items()):
        digest.update(path.encode() + np.asarray(x).tobytes())
    return digest.hexdigest()[:12]
