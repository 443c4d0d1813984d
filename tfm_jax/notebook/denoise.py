"""Trained models that make images of noise, in a notebook."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tfm_jax.decode import diffusion
from tfm_jax.notebook.run import ScoredRun
from tfm_jax.runs import pictures
from tfm_jax.workloads.denoise import sample


class DenoiseRun(ScoredRun):
    """A model that draws images, [n, H, W, C] uint8, as ``data.sampler`` says."""

    __slots__ = ()

    def draw(
        self, labels: Sequence[int], *, seed: int = 0, guidance: float | None = None
    ) -> np.ndarray:
        """An image for each label; image i depends on (seed, i) and its label alone.

        Args:
            labels: numbers of classes; ``model.labels`` is none of them.
            guidance: towards the label; by default ``data.sampler.guidance``.
        Raises: ValueError for a label that the model does not know.
        """
        return self._sample(labels, seed=seed, guidance=guidance)

    def inpaint(
        self, images: Any, mask: Any, labels: Sequence[int], *, seed: int = 0
    ) -> np.ndarray:
        """Images with all but ``mask`` drawn anew.

        Args: images: [n, H, W, C] uint8. mask: [H, W] bool, what is kept of them.
        """
        images, mask = np.asarray(images), np.asarray(mask, bool)
        shape = *self.model.cfg.image, self.model.cfg.channels
        if images.shape != (len(labels), *shape) or mask.shape != shape[:2]:
            raise ValueError(
                f"images {images.shape} and mask {mask.shape} must be [n, *{shape}] "
                f"and {shape[:2]}, of n={len(labels)} labels"
            )
        return self._sample(labels, seed=seed, known=(images, mask))

    def interpolate(
        self, label: int, count: int = 10, *, seeds: tuple[int, int] = (0, 1)
    ) -> np.ndarray:
        """``count`` images from one to another: on the arc between two draws of noise.

        What lies between is an image of its own if the sampler draws nothing on the
        way: ``data.sampler.method=ddim`` with ``eta=0``, or ``dpm_solver``.
        """
        shape = *self.model.cfg.image, self.model.cfg.channels
        keys = jax.numpy.stack([jax.random.key(seed) for seed in seeds])
        first, last = diffusion.draw(keys, shape, 0)
        shares = np.linspace(0.0, 1.0, count)
        noise = jax.vmap(lambda share: diffusion.slerp(first, last, share))(shares)
        return self._sample([label] * count, noise=noise)

    def picture(self, images: Any) -> Any:
        """Images beside one another, a matplotlib figure."""
        return pictures.images(np.asarray(images))

    def _sample(self, labels, **options):
        most = self.model.cfg.labels
        if not all(0 <= label <= most for label in labels):
            raise ValueError(f"labels={list(labels)} must be from 0 to {most}")
        return sample(self.config, self.model, self.params, labels, **options)
