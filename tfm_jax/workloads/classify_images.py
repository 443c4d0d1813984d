"""A class for an image."""

from typing import Any

from tfm_jax.config import ConfigError
from tfm_jax.data.rows import images
from tfm_jax.objectives import classify_images
from tfm_jax.workloads.classify import ClassEvaluator
from tfm_jax.workloads.workload import TOKEN_SCORES, Workload


def check(experiment: Any) -> None:
    """The model's images are those of the data, as far as both say it.

    Raises: ConfigError.
    """
    wanted = getattr(experiment.model, "image", ())
    size = experiment.data.image_size
    if wanted and size and (size[0], size[-1]) != tuple(wanted):
        raise ConfigError(
            f"data.image_size={size} makes images of {size[0]}x{size[-1]} pixels, "
            f"model.image_size={experiment.model.image_size} is for others"
        )


def fits(experiment: Any, data: Any) -> None:
    """The same of the images that there are. Raises: ConfigError."""
    shapes = {k: x["shape"] for k, x in data.report.items() if "shape" in x}
    if not shapes:
        return
    first = "train" if "train" in shapes else next(iter(shapes))
    height, width, channels = shapes[first]
    for split, shape in shapes.items():
        if shape != shapes[first]:
            raise ConfigError(
                f"images of the {split} split have the shape {shape}, those of the "
                f"{first} split {shapes[first]}: data.image_size and data.color make "
                "them alike"
            )
    size = getattr(experiment.model, "image", (height, width))
    wanted = (*size, getattr(experiment.model, "channels", channels))
    if wanted != (height, width, channels):
        raise ConfigError(
            f"the images have {height}x{width} pixels of {channels} channels, the "
            f"model is for {wanted[0]}x{wanted[1]} of {wanted[2]}: set "
            "model.image_size and model.channels, or data.image_size and data.color"
        )
    layers = experiment.data.augment.randaugment_layers
    if layers and channels not in (1, 3):
        raise ConfigError(
            f"data.augment.randaugment_layers={layers} changes images of 1 or 3 "
            f"channels, these have {channels}"
        )


def _has_score(experiment, score):
    return score != "top5_accuracy" or experiment.model.labels > classify_images.TOP


# Beyer et al. 2022, arXiv:2205.01580, as released; its weight decay of 1e-4 is not
# multiplied with the peak of the learning rate, 1e-3
DEFAULTS: dict[str, dict[str, Any]] = {
    "optim": dict(
        optimizer="adamw",
        schedule="cosine",
        b2=0.999,
        eps=1e-8,
        weight_decay=0.1,
        decay="kernels",
        clip_norm=1.0,
    ),
    "train": dict(label_smoothing=0.0, batch_tokens=1024),
    "eval": dict(batch_tokens=1024),
}

WORKLOAD = Workload(
    name="classify_images",
    objective=classify_images,
    data=images.KIND,
    scores={**TOKEN_SCORES, "top5_accuracy": max, "f1": max, "matthews": max},
    has_score=_has_score,
    evaluator=ClassEvaluator,
    vocabularies={},
    labels="labels",
    check=check,
    fits=fits,
    longest=lambda data: 0,
    tokens=lambda batch: int((batch.weights > 0).sum()),
    counted="images",
    loss_unit="nats per image",
    size=lambda data: f"{data.report['train']['kept']:,} images",
    defaults=DEFAULTS,
)
