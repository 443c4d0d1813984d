"""Trained models that make images of noise, in a notebook."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tfm_jax.config import build
from tfm_jax.decode import diffusion
from tfm_jax.knobs import no_choice
from tfm_jax.notebook.images import ImagesRun
from tfm_jax.objectives.denoise import to_pixels
from tfm_jax.runs import saved
from tfm_jax.settings import new_runs
from tfm_jax.workloads.denoise import Sampler, noised_and_restored, sample


class DenoiseRun(ImagesRun):
    """A model that draws images, [n, H, W, C] uint8, as ``data.sampler`` says.

    Its methods take knobs of that section, too: ``draw([3], steps=10, guidance=2)``.
    """

    __slots__ = ()

    @property
    def labels(self) -> list[str]:
        """Names of the classes, in the order of their numbers; none without classes."""
        return saved.label_names(self) if self.model.cfg.labels else []

    def draw(
        self, labels: Sequence[int | str], *, seed: int = 0, **sampler: Any
    ) -> np.ndarray:
        """An image for each label; image i depends on (seed, i) and its label alone.

        Args:
            labels: names or numbers of classes; ``model.labels``, their number, is
                none of them: an image of no label.
            sampler: knobs of ``data.sampler`` with other values than the run has.
        Raises: ValueError for a label that the model does not know; ConfigError naming
            the knob of the sampler, the value and the legal choices.
        """
        return self._sample(labels, sampler, seed=seed)

    def denoise(
        self, images: Any, labels: Sequence[int | str], *, step: int, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """(images with the noise of a step, what the model takes them to be).

        Both [n, H, W, C] uint8, with what lies outside of black and white clipped.

        Args:
            images: [n, H, W, C] uint8. labels: as in ``draw``.
            step: from 0, the least noise, to ``data.noise.steps`` - 1.
        Raises: ValueError for another number of labels, a shape, label or step that
            the model does not know.
        """
        images, data = np.asarray(images), self.config.data.noise
        numbers = self._numbers(labels, images)
        if not 0 <= step < data.steps:
            raise ValueError(f"step={step} must be from 0 to {data.steps - 1}")
        given = self.params, images, numbers, step, jax.random.key(seed)
        both = noised_and_restored(self.model, data, *given)
        noisy, restored = map(to_pixels, both)
        return noisy, restored

    def inpaint(
        self,
        images: Any,
        mask: Any,
        labels: Sequence[int | str],
        *,
        seed: int = 0,
        **sampler: Any,
    ) -> np.ndarray:
        """Images with all but ``mask`` drawn anew.

        Args:
            images: [n, H, W, C] uint8. mask: [H, W] bool, what is kept of them.
            sampler: see ``draw``.
        """
        images, mask = np.asarray(images), np.asarray(mask, bool)
        self._numbers(labels, images)
        if mask.shape != images.shape[1:3]:
            raise ValueError(f"mask {mask.shape} must be {images.shape[1:3]}")
        return self._sample(labels, sampler, seed=seed, known=(images, mask))

    def interpolate(
        self,
        label: int | str,
        count: int = 10,
        *,
        seeds: tuple[int, int] = (0, 1),
        **sampler: Any,
    ) -> np.ndarray:
        """``count`` images from one to another: on the arc between two draws of noise.

        What lies between is an image of its own if the sampler draws nothing on the
        way: ``method="ddim"`` with ``eta=0``, or ``"dpm_solver"``.

        Args: sampler: see ``draw``.
        """
        shape = *self.model.cfg.image, self.model.cfg.channels
        keys = jax.numpy.stack([jax.random.key(seed) for seed in seeds])
        first, last = diffusion.draw(keys, shape, 0)
        shares = np.linspace(0.0, 1.0, count)
        noise = jax.vmap(lambda share: diffusion.slerp(first, last, share))(shares)
        return self._sample([label] * count, sampler, noise=noise)

    def _numbers(self, labels, images=None):
        """Of classes by name or number, [n]; as many as ``images``."""
        if isinstance(labels, str | int):
            raise TypeError(f"labels={labels!r} is one label; write [{labels!r}]")
        cfg, names = self.model.cfg, self.labels
        for label in labels:
            if isinstance(label, str) and label not in names:
                raise ValueError(no_choice("labels", label, tuple(names)))
        numbers = [names.index(x) if isinstance(x, str) else int(x) for x in labels]
        if not all(0 <= number <= cfg.labels for number in numbers):
            raise ValueError(
                f"labels={numbers} must be from 0 to {cfg.labels}, which is no label"
            )
        shape = len(labels), *cfg.image, cfg.channels
        if images is not None and images.shape != shape:
            raise ValueError(
                f"images {images.shape} must be {shape}, of {len(labels)} labels"
            )
        return np.asarray(numbers, np.int32)

    def _sample(self, labels, sampler, **options):
        numbers, data = self._numbers(labels), self.config.data
        knobs = dataclasses.asdict(data.sampler) | sampler
        changed = build(Sampler, knobs, "data.sampler")
        experiment = self.config.reading(dataclasses.replace(data, sampler=changed))
        experiment.workload.check(experiment)
        given = [f"data.sampler.{name}" for name in sampler]
        new_runs.check_read(experiment, given, whole=False)
        return sample(experiment, self.model, self.params, numbers, **options)
