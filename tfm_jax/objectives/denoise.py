"""Denoising: what a model sees in an image with noise, against what was there.

Source: Ho et al. 2020, arXiv:2006.11239; learned variances: Nichol and Dhariwal 2021,
arXiv:2102.09672. Deviates: an image is evaluated at noise levels that are spread evenly
over all, with noise that is drawn by its pixels alone: scores depend on no batch.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tfm_jax.config import check_numbers, knob
from tfm_jax.data.batch import ImageBatch, NoisyBatch
from tfm_jax.objectives.classify_images import example
from tfm_jax.ops import diffusion
from tfm_jax.ops.diffusion import PREDICTIONS, SCHEDULES, VARIANCES, WEIGHTS
from tfm_jax.ops.dropout import row_keys

TIMES = 1000.0  # of a whole schedule, as models read them
LEVELS = 10  # of noise, at which an image is evaluated besides the lowest one
# of the bound, in nats, beside L_simple: Nichol and Dhariwal 2021, equation 16; in the
# released code the bound is in bits
LEARNED = 0.001 / math.log(2)


@dataclasses.dataclass(frozen=True)
class Noise:
    """What is added to images, and what is predicted of it."""

    steps: int = knob(1000, "of the schedule, T", low=2, high=100_000)
    schedule: str = knob("linear", "how much noise a step has", choices=SCHEDULES)
    snr_scale: float = knob(
        1.0,
        "factor on the signal-to-noise ratio; published: (64 / d)^2 for d x d pixels",
        low=1e-6,
        high=1e6,
    )
    prediction: str = knob("eps", "what the model predicts", choices=PREDICTIONS)
    variance: str = knob(
        "small", "of a step back, in the bound and in DDPM", choices=VARIANCES
    )
    weights: str = knob(
        "simple", "of the squared error by its step", role="training", choices=WEIGHTS
    )
    grey_levels: int = knob(
        256, "of a channel, in the bound", role="training", low=2, high=65536
    )

    def __post_init__(self):
        check_numbers(self, "data.noise")

    def make_schedule(self) -> diffusion.Schedule:
        """A_t of all steps."""
        return diffusion.make_schedule(self.schedule, self.steps, self.snr_scale)


def to_signal(images: Any) -> jax.Array:
    """uint8 pixels as float32 in [-1, 1]."""
    return jnp.asarray(images, jnp.float32) / 127.5 - 1


def to_pixels(x: Any) -> np.ndarray:
    """The inverse of ``to_signal``. Raises: ValueError for what is not finite."""
    if not np.isfinite(x).all():
        raise ValueError("images have numbers that are not finite")
    return np.asarray(jnp.round((jnp.clip(x, -1, 1) + 1) * 127.5), np.uint8)


def predict(
    apply: Callable, noise: Noise, x: jax.Array, t: jax.Array, labels: Any
) -> jax.Array:
    """``apply`` of a ``NoisyBatch`` at steps t [B]: [B, H, W, C], or 2 C channels."""
    return apply(NoisyBatch(x, t * (TIMES / noise.steps), labels))


@dataclasses.dataclass(frozen=True)
class Objective:
    """See `objectives`; of images with noise as a section says."""

    noise: Noise = Noise()

    example = staticmethod(example)

    def loss_sum(
        self,
        apply: Callable,
        params: Mapping[str, Any],
        batch: ImageBatch,
        *,
        rng: jax.Array | None = None,
        smoothing: float = 0.0,
        train: bool,
    ) -> tuple[jax.Array, jax.Array]:
        """(weighted squared error of a dimension, summed over images, their number).

        Args:
            apply: ``apply(params, batch, rng=..., train=...)`` of a ``NoisyBatch``.
            batch: ``ImageBatch``. rng: JAX key, of steps, noise and dropout; None: 0.
        """
        del smoothing
        rng = jax.random.key(0) if rng is None else rng
        of_rows, of_dropout = jax.random.split(rng)
        x0 = to_signal(batch.images)

        def draw(key):
            of_step, of_noise = jax.random.split(key)
            t = jax.random.randint(of_step, (), 0, self.noise.steps)
            return t, jax.random.normal(of_noise, x0.shape[1:])

        t, noise = jax.vmap(draw)(row_keys(of_rows, len(x0)))
        run = functools.partial(apply, params, rng=of_dropout, train=train)
        terms = self._compared(run, x0, t, noise, batch.labels, train=True)
        return jnp.sum(terms["loss"] * batch.weights), jnp.sum(batch.weights)

    def eval_sums(
        self, apply: Callable, params: Mapping[str, Any], batch: ImageBatch
    ) -> dict[str, jax.Array]:
        """Sums over images: ``loss``, ``bound`` [nats per dimension], ``errors``.

        The last are mean squared errors of the noise, at step 0 and in each of equal
        parts of the others, [1 + LEVELS].
        """
        steps, x0 = self.noise.steps, to_signal(batch.images)
        run = functools.partial(apply, params, rng=None, train=False)
        keys = _keys(batch.images)

        def at(level):
            def draw(key):
                own = jax.random.fold_in(key, level)
                share, noise = jax.random.split(own)
                return (
                    jax.random.uniform(share),
                    jax.random.normal(noise, x0.shape[1:]),
                )

            share, noise = jax.vmap(draw)(keys)
            t = step_at(level, share, steps)
            return self._compared(run, x0, t, noise, batch.labels, train=False)

        terms = jax.lax.map(at, jnp.arange(1 + LEVELS))  # each [1 + LEVELS, B]
        sums = {name: x @ batch.weights for name, x in terms.items()}
        of_all = np.array([1] + [(steps - 1) / LEVELS] * LEVELS, np.float32)
        prior = diffusion.prior_term(self.noise.make_schedule(), x0) @ batch.weights
        return {
            "loss": of_all @ sums["loss"] / steps,
            "noise_error": of_all @ sums["error"] / steps,
            "bound": of_all @ sums["bound"] + prior,
            "errors": sums["error"],
            "images": jnp.sum(batch.weights),
        }

    def scores(self, totals: Mapping[str, Any], report: Mapping[str, Any]) -> dict:
        """What is reported of ``images``.

        ``denoising_loss``, as it is trained; ``noise_error``, the same of the noise and
        without weights, whatever is predicted; ``bits_per_dim``, a bound on them;
        ``noise_error_at_P``, the second from P percent of the steps on.
        """
        del report
        images = max(float(totals["images"]), 1.0)
        shares = [0, *(round(100 * i / LEVELS) for i in range(LEVELS))]
        named = list(zip(shares, totals["errors"], strict=True))[1:]
        return {
            "denoising_loss": float(totals["loss"]) / images,
            "noise_error": float(totals["noise_error"]) / images,
            "bits_per_dim": float(totals["bound"]) / images / math.log(2),
            "images": int(images),
            **{f"noise_error_at_{p}": float(x) / images for p, x in named},
        }

    def _compared(self, run, x0, t, noise, labels, *, train):
        """``loss``, ``error`` of the noise and ``bound`` of each image, [B]."""
        cfg, schedule = self.noise, self.noise.make_schedule()
        kind = PREDICTIONS[cfg.prediction]
        a, s = diffusion.scales(schedule, t, x0)
        x = diffusion.q_sample(schedule, x0, t, noise)
        y = predict(run, cfg, x, t, labels)
        y, *rest = jnp.split(y, y.shape[-1] // x0.shape[-1], axis=-1)
        weights = diffusion.loss_weights(schedule, cfg.prediction, cfg.weights)
        error = diffusion.mean_of_images(jnp.square(y - kind.target(x0, noise, a, s)))
        loss = error * jnp.asarray(weights, jnp.float32)[t]
        of_noise = diffusion.mean_of_images(jnp.square(kind.noise(y, x, a, s) - noise))
        if train and not rest:
            return {"loss": loss}
        fraction = (rest[0] + 1) / 2 if rest else 0.0
        log_var = diffusion.log_variance(schedule, t, x0, cfg.variance, fraction)
        guess = kind.x0(y, x, a, s)
        guess = jax.lax.stop_gradient(guess) if train else jnp.clip(guess, -1, 1)
        terms = schedule, x0, x, t, guess, log_var, cfg.grey_levels
        bound = diffusion.bound_term(*terms)
        loss = loss + LEARNED * cfg.steps * bound if rest else loss
        return {"loss": loss, "error": of_noise, "bound": bound}


def step_at(level: jax.Array | int, share: jax.Array, steps: int) -> jax.Array:
    """t, by a share in [0, 1) of part ``level`` of 1 .. steps - 1; 0 at level 0."""
    share = (level - 1 + share) / LEVELS  # the largest are rounded to 1
    t = jnp.minimum(1 + (share * (steps - 1)).astype(jnp.int32), steps - 1)
    return jnp.where(level == 0, 0, t)


def _keys(images):
    """A key [B] for each image, by its pixels."""
    flat = jnp.asarray(images).reshape(len(images), -1).astype(jnp.uint32)
    odd = 2 * jnp.arange(flat.shape[1], dtype=jnp.uint32) + 1
    numbers = jnp.sum((flat + 1) * odd * odd, axis=1, dtype=jnp.uint32)
    return jax.vmap(lambda n: jax.random.fold_in(jax.random.key(0), n))(numbers)
