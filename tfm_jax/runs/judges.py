"""Judges: trained classifiers by which the images of other models are measured."""

import hashlib

import jax
import numpy as np

from tfm_jax.config import ConfigError
from tfm_jax.decode.classifying import Judge
from tfm_jax.runs import saved
from tfm_jax.runs.storage import arrays
from tfm_jax.settings.experiment import Experiment


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
        raise ConfigError(f"eval.judge={path!r}: {error}") from error
    judge, wanted = run.experiment, "a run of task=classify_images with model_name=vit"
    if judge.task != "classify_images" or judge.model_name != "vit":
        raise ConfigError(
            f"eval.judge={path!r} is one of task={judge.task!r} with model_name="
            f"{judge.model_name!r}; name {wanted}"
        )
    ours, its = ((*m.image, m.channels) for m in (experiment.model, judge.model))
    if ours != its:
        raise ConfigError(
            f"eval.judge={path!r} sees images of {its}, the model draws some of {ours} "
            "(height, width, channels)"
        )
    features = judge.build_model(head="features")
    name = f"{judge.model_name} {_digest(run.params)}"
    # of no device: what it is to judge is trained on a mesh, and drawn on one device
    return Judge(name, labels, run.model, features, jax.device_get(run.params))


def _digest(params):
    """12 hexadecimal digits of what a model has learnt."""
    digest = hashlib.sha256()
    for path, x in sorted(arrays.leaves(params).items()):
        digest.update(path.encode() + np.asarray(x).tobytes())
    return digest.hexdigest()[:12]
