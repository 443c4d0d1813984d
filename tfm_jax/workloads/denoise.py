"""Images out of noise."""

import dataclasses
import functools
import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tfm_jax.config import ConfigError, check_numbers, knob
from tfm_jax.data.prepared import SPLITS
from tfm_jax.data.rows import images
from tfm_jax.decode import diffusion
from tfm_jax.decode.diffusion import METHODS, SPACINGS
from tfm_jax.mesh import fetch
from tfm_jax.metrics.samples import linear_noise_error
from tfm_jax.objectives import denoise
from tfm_jax.ops.diffusion import PREDICTIONS, q_sample, scales
from tfm_jax.workloads import classify_images, image_quality
from tfm_jax.workloads.evaluator import Evaluator, Scored, apply
from tfm_jax.workloads.workload import Workload

AT_ONCE = 128  # images that are drawn together, at most
PICTURED = 100  # that people are shown


@dataclasses.dataclass(frozen=True)
class Sampler:
    """How images are drawn."""

    ROLE = "operation"

    method: str = knob("ddim", "how a step back is made", choices=METHODS)
    steps: int = knob(
        50, "of the schedule that are made, at most all of them", low=1, high=100_000
    )
    spacing: str = knob(
        "trailing",
        "which of them are; leading begins below pure noise",
        choices=SPACINGS,
    )
    eta: float = knob(
        0.0, "of DDIM, between no noise and as much as DDPM's", low=0.0, high=1.0
    )
    guidance: float = knob(
        1.0,
        "how far towards the label, classifier-free; 1: as learned",
        low=0.0,
        high=1000.0,
    )
    clip: bool = knob(True, "the image that the model sees to [-1, 1], in every step")

    READ_WITH = {("method", ("ddim",)): ("eta",)}

    def __post_init__(self):
        check_numbers(self, "data.sampler")


_Noise = denoise.Noise


@dataclasses.dataclass(frozen=True)
class Config(images.Config):
    """Where images come from, what noise is added to them, how they are drawn."""

    noise: _Noise = _Noise()
    sampler: Sampler = Sampler()


def sample(
    experiment: Any,
    model: Any,
    params: Any,
    labels: Any,
    *,
    seed: int = 0,
    noise: Any = None,
    known: tuple[Any, Any] | None = None,
    on_batch: Callable[[int], object] = lambda count: None,
) -> np.ndarray:
    """Images [N, H, W, C] uint8, image i by (seed, i) and its label alone.

    Args:
        model, params: see ``Evaluator.unrolled``.
        labels: [N] int; ``model.labels`` is none.
        noise: [N, H, W, C] to begin with, instead of what (seed, i) draw.
        known: (images [N, H, W, C] uint8, bool mask [H, W] of what is kept of them).
        on_batch: called with the number of images of each batch when it is drawn.
    Raises: ConfigError for images with numbers that are not finite.
    """
    section, shape = experiment.data, (*model.cfg.image, model.cfg.channels)
    how = model, section.sampler, section.noise
    labels, of_seed = np.asarray(labels, np.int32), jax.random.key(seed)
    count, size = len(labels), min(max(len(labels), 1), AT_ONCE)
    images, mask = known or (None, None)
    mask = mask if mask is None else np.asarray(mask)[..., None]
    drawn = [np.zeros((0, *shape), np.uint8)]
    for first in range(0, count, size):
        indices = np.arange(first, first + size)  # all alike: one program
        chosen = np.minimum(indices, count - 1)
        rows = [x if x is None else np.asarray(x)[chosen] for x in (noise, images)]
        keys = diffusion.keys_of(of_seed, jnp.asarray(indices))
        x = fetch(_draw(*how, params, keys, labels[chosen], *rows, mask))
        try:
            drawn.append(denoise.to_pixels(x))
        except ValueError as error:
            raise ConfigError(
                f"{error}; data.sampler.guidance={section.sampler.guidance} and "
                f"data.sampler.clip={section.sampler.clip} say how they are drawn"
            ) from error
        on_batch(min(size, count - first))
    return np.concatenate(drawn)[:count]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _draw(model, cfg, data, params, keys, labels, noise, images, mask):
    """Images [B, H, W, C] in [-1, 1] by the keys [B]; of ``images`` the mask stays."""
    shape = *model.cfg.image, model.cfg.channels
    steps = diffusion.plan(
        data.make_schedule(),
        min(cfg.steps, data.steps),
        method=cfg.method,
        spacing=cfg.spacing,
        eta=cfg.eta,
        variance=data.variance,
    )
    run = functools.partial(apply, model, params, rng=None, train=False)

    def conditioned(x, t, labels):
        return denoise.predict(run, data, x, t, labels)

    null = jnp.full_like(labels, model.cfg.labels)
    guided = diffusion.guided(conditioned, labels, null, cfg.guidance, shape[-1])
    return diffusion.sample(
        guided if cfg.guidance != 1.0 else lambda x, t: conditioned(x, t, labels),
        diffusion.draw(keys, shape, 0) if noise is None else noise,
        steps,
        keys,
        prediction=data.prediction,
        clip=cfg.clip,
        known=None if mask is None else (denoise.to_signal(images), mask),
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def noised_and_restored(
    model: Any,
    data: denoise.Noise,
    params: Any,
    images: jax.Array,
    labels: jax.Array,
    step: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """(x_t, x_0 as ``model`` takes it to be) of images at one step, [B, H, W, C].

    Args: images: [B, H, W, C] uint8. step: t, 0 has the least noise.
    """
    x0, t = denoise.to_signal(images), jnp.full(len(images), step)
    keys = diffusion.keys_of(key, jnp.arange(len(images)))
    schedule, drawn = data.make_schedule(), diffusion.draw(keys, x0.shape[1:], 0)
    x = q_sample(schedule, x0, t, drawn)
    run = functools.partial(apply, model, params, rng=None, train=False)
    y = denoise.predict(run, data, x, t, labels)[..., : x0.shape[-1]]
    return x, PREDICTIONS[data.prediction].x0(y, x, *scales(schedule, t, x0))


class DenoiseEvaluator(Evaluator):
    """Draws images besides, ``eval.samples`` of them, of each class in turn."""

    def setup(self) -> None:
        """The judge knows the classes of the data. Raises: ConfigError."""
        names = self.data.report.get("train", {}).get("labels", [])
        if self.judge and names and self.judge.labels != names:
            raise ConfigError(
                f"eval.judge={self.cfg.judge!r} has labels "
                f"{','.join(self.judge.labels)}, the data {','.join(names)}"
            )

    def during(
        self, params: dict[str, Any], *, poll: Callable[[], object] = lambda: None
    ) -> tuple[dict, np.ndarray | dict]:
        """Draws some of the images besides, if pictures are wanted."""
        scores = self.loss(params, "valid", poll=poll)
        if not (self.cfg.samples and self.cfg.pictures):
            return scores, {}
        with self.unrolled(params) as parts:
            try:
                return scores, self._drawn(parts, PICTURED, poll)[0]
            except ConfigError as error:  # a model may become what can be drawn
                logging.warning("nothing is drawn: %s", error)
                return scores, {}

    def final(
        self,
        params: dict[str, Any],
        split: str,
        *,
        poll: Callable[[], object] = lambda: None,
    ) -> Scored:
        """Says besides how like real images they are, in the first held-out split."""
        scored = super().final(params, split, poll=poll)
        if not scored.scores or not _draws(self.experiment, self.data, split):
            return scored
        model, noise = self.experiment.model, self.experiment.data.noise
        real = [image_quality.real(getattr(self.data, n)) for n in ("train", split)]
        with self.unrolled(params) as parts:
            drawn = image_quality.Images(*self._drawn(parts, self.cfg.samples, poll))
            scores = image_quality.compared(drawn, *real)
            if self.judge:
                asked = model.labels > 0
                scores |= image_quality.judged(self.judge, drawn, *real, labels=asked)
        if image_quality.has_linear(model):
            signal = noise.make_schedule().alpha_bar
            error = linear_noise_error(real[0].rows, signal, scale=127.5)
            scores["linear_noise_error"] = error
        lines = (self._said(*real),) if self.judge else ()
        return Scored(scored.scores | scores, lines, images=drawn.pixels[:PICTURED])

    def _drawn(self, parts, most, poll):
        """(images, labels), the same in each evaluation; of each class in turn."""
        count, classes = min(self.cfg.samples, most), self.experiment.model.labels
        labels = np.arange(count) % max(classes, 1)
        progress = dict(on_batch=lambda _: poll())
        return sample(self.experiment, *parts, labels, **progress), labels

    def _said(self, train, heldout):
        return (
            f"judge: {self.judge.name} ({self.cfg.judge}); images: "
            f"{self.cfg.samples:,} drawn, compared with {len(train.labels):,} trained "
            f"on and {len(heldout.labels):,} held out"
        )


def _draws(experiment, data, split):
    """Whether its evaluation draws images: that of the first held-out split does."""
    first = "valid" if data.valid else "test"
    return bool(experiment.eval.samples and data.train and split == first)


def _final_scores(experiment, data, split):
    if not _draws(experiment, data, split):
        return ()
    return image_quality.names(experiment.model, judged=bool(experiment.eval.judge))


def _check(experiment):
    classify_images.check(experiment)
    data, model = experiment.data, experiment.model
    learned = getattr(model, "variance", "fixed") == "learned"
    if learned != (data.noise.variance == "learned"):
        raise ConfigError(
            f"data.noise.variance={data.noise.variance!r} does not fit "
            f"model.variance={model.variance!r}: both are learned, or neither is"
        )
    if data.augment.mixup or data.augment.cutmix:
        raise ConfigError(
            f"data.augment.mixup={data.augment.mixup} and data.augment.cutmix="
            f"{data.augment.cutmix}: mixtures are no images to be drawn; leave both "
            "at 0"
        )
    if data.sampler.steps > data.noise.steps and experiment.eval.samples:
        raise ConfigError(
            f"data.sampler.steps={data.sampler.steps} must be at most data.noise.steps="
            f"{data.noise.steps}"
        )
    if data.sampler.guidance != 1.0 and not model.labels:
        raise ConfigError(
            f"data.sampler.guidance={data.sampler.guidance} needs model.labels above 0"
        )


def _check_new(experiment):
    samples, labels = experiment.eval.samples, experiment.model.labels
    if experiment.eval.judge and 0 < samples < labels:
        raise ConfigError(
            f"eval.samples={samples} with eval.judge must be at least model.labels="
            f"{labels}: else classes are missing"
        )


def _fits(experiment, data):
    classify_images.fits(experiment, data)
    names, labels = data.report.get("train", {}).get("labels"), experiment.model.labels
    if names is not None and labels not in (0, len(names)):
        raise ConfigError(
            f"model.labels={labels} must be 0, or {len(names)} as the training data has"
        )
    for split in SPLITS if not labels else ():
        if count := data.report.get(split, {}).get("unlabelled"):
            raise ConfigError(
                f"model.labels=0 needs no label, but {count:,} images of the {split} "
                "split have none and would not count: give them one, any, or leave "
                "them out"
            )
    levels = experiment.data.noise.grey_levels
    for rows in (*data.train, *data.valid, *data.test) if levels < 256 else ():
        pixels = np.unique(rows.images[:: 1 + len(rows.images) // 1_000])
        nearest = np.round(pixels / 255 * (levels - 1)) / (levels - 1) * 255
        if np.any(wrong := np.abs(pixels - nearest) > 0.5):
            raise ConfigError(
                f"data.noise.grey_levels={levels}: a pixel of {pixels[wrong][0]} is "
                "none of these, evenly spaced from 0 to 255; choose 256"
            )


# Peebles and Xie 2023, arXiv:2212.09748, section 4
DEFAULTS: dict[str, dict[str, Any]] = {
    "optim": dict(
        optimizer="adamw",
        schedule="constant",
        warmup_steps=0,
        peak_lr=1e-4,
        b2=0.999,
        eps=1e-8,
        weight_decay=0.0,
    ),
    "train": dict(label_smoothing=0.0, batch_tokens=256, ema_decay=0.9999),
    "eval": dict(batch_tokens=256, samples=100),
}

WORKLOAD = Workload(
    name="denoise",
    objective=denoise.Objective(),
    objective_of=lambda experiment: denoise.Objective(experiment.data.noise),
    data=images.KIND._replace(
        Config=Config, unstored=(*images.KIND.unstored, "noise", "sampler")
    ),
    scores={"denoising_loss": min, "noise_error": min, "bits_per_dim": min},
    final_scores=_final_scores,
    smooths=False,
    compared=lambda experiment: ("train",) if experiment.eval.judge else (),
    evaluator=DenoiseEvaluator,
    eval_knobs=("samples", "judge"),
    measured_with=("data.sampler.", "eval.samples"),
    vocabularies={},
    check=_check,
    check_new=_check_new,
    fits=_fits,
    longest=classify_images.WORKLOAD.longest,
    tokens=classify_images.WORKLOAD.tokens,
    counted=classify_images.WORKLOAD.counted,
    loss_unit="weighted squared error",
    size=classify_images.WORKLOAD.size,
    defaults=DEFAULTS,
)
