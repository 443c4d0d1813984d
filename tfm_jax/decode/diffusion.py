"""Images out of noise: DDPM, DDIM, DPM-Solver++, guidance, in-painting, interpolation.

All of it takes ``denoise(x [B, H, W, C], t [B] int32) -> prediction``, not a model. A
prediction of 2 C channels has what a variance is learned by behind the image. Images
and noise are float32, images in [-1, 1].
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tfm_jax.ops.diffusion import PREDICTIONS, Schedule

Denoise = Callable[[jax.Array, jax.Array], jax.Array]

# (T, kept steps S) -> [S] float, rounded to steps 0 .. T - 1, the noisiest first
SPACINGS: dict[str, Callable[[int, int], np.ndarray]] = {
    # Song et al. 2021, arXiv:2010.02502, appendix D.2, "linear": begins below pure
    # noise, by up to S - 1 steps more where S does not divide T; so does diffusers
    "leading": lambda steps, kept: np.arange(kept)[::-1] * (steps // kept),
    # Lin et al. 2023, arXiv:2305.08891, table 2, as the next
    "linspace": lambda steps, kept: np.linspace(steps - 1, 0, kept),
    "trailing": lambda steps, kept: (
        np.round(np.arange(steps, 0, -steps / kept)[:kept]) - 1
    ),
}


class Steps(NamedTuple):
    """S steps back, from noise on: each a sum of arrays by factors known beforehand.

    ``x' = of_x x + of_x0 x0 + of_former x0_former + noise exp(f of_fraction) draw``,
    x0 being the image that the model sees in x, x0_former that of the step before it,
    and f in [0, 1] the fraction of a learned variance.

    Attributes: t: [S] int32. signal, after: [S] A of x, and of x'. Others: see above.
    """

    t: np.ndarray
    signal: np.ndarray
    after: np.ndarray
    of_x: np.ndarray
    of_x0: np.ndarray
    of_former: np.ndarray
    noise: np.ndarray
    of_fraction: np.ndarray


def _small(a, after):
    """The smaller variance of a step back, of x' given x and x0."""
    return (1 - after) / (1 - a) * (1 - a / after)


def _ddim(a, after, eta, variance=""):
    noise = eta * np.sqrt(_small(a, after))
    of_x = np.sqrt(np.maximum(1 - after - noise**2, 0) / (1 - a))
    return of_x, np.sqrt(after) - of_x * np.sqrt(a), 0 * a, noise, 0 * a


def _ddpm(a, after, eta, variance):
    of_x, of_x0, none, noise, _ = _ddim(a, after, 1.0)
    ratio = np.ones_like(a)  # of the larger deviation to the smaller
    ratio[:-1] = np.sqrt(1 - a[:-1] / after[:-1]) / noise[:-1]
    noise = noise * ratio if variance == "large" else noise
    return of_x, of_x0, none, noise, np.log(ratio) * (variance == "learned")


def _dpm_solver(a, after, eta, variance):
    of_x, of_x0, of_former, *rest = _ddim(a, after, 0.0)  # which is its first order
    gained = np.diff(0.5 * np.log(a / (1 - a)))
    of_former[1:-1] = -of_x0[1:-1] * gained[1:] / (2 * gained[:-1])
    return of_x, of_x0 - of_former, of_former, *rest


# (A [S], A of the step after [S], eta, variance) -> fields of ``Steps`` from of_x on
METHODS: dict[str, Callable[..., tuple[np.ndarray, ...]]] = {
    "ddpm": _ddpm,  # Ho et al. 2020, arXiv:2006.11239, algorithm 2
    "ddim": _ddim,  # Song et al. 2021
    "dpm_solver": _dpm_solver,  # Lu et al. 2022, arXiv:2211.01095, algorithm 2 ("2M")
}


def plan(
    schedule: Schedule,
    steps: int,
    *,
    method: str = "ddim",
    spacing: str = "leading",
    eta: float = 0.0,
    variance: str = "small",
) -> Steps:
    """The way back over some of the steps of a schedule.

    Args:
        steps: how many of 0 .. T - 1 are kept.
        method, spacing: keys of METHODS and SPACINGS.
        eta: of DDIM, 0 draws nothing and 1 as much as DDPM with the smaller variance.
        variance: of DDPM, a key of ``ops.diffusion.VARIANCES``.
    """
    kept = np.round(SPACINGS[spacing](schedule.steps, steps)).astype(np.int32)
    a = schedule.alpha_bar[kept]
    after = np.append(a[1:], 1.0)
    return Steps(kept, a, after, *METHODS[method](a, after, eta, variance))


def keys_of(key: jax.Array, indices: jax.Array) -> jax.Array:
    """A key for each sample [B]: what sample i is drawn by depends on no other."""
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)


def draw(keys: jax.Array, shape: tuple[int, ...], number: jax.Array | int) -> jax.Array:
    """Noise [B, *shape] by the keys [B] of samples; the start is number 0."""

    def normal(key):
        return jax.random.normal(jax.random.fold_in(key, number), shape)

    return jax.vmap(normal)(keys)


def sample(
    denoise: Denoise,
    x: jax.Array,
    steps: Steps,
    keys: jax.Array,
    *,
    prediction: str,
    clip: bool = True,
    known: tuple[jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """Images [B, H, W, C] out of x, which has the noise of the first step.

    Args:
        x: [B, H, W, C], ``draw(keys, shape, 0)`` where the first step is pure noise.
        keys: [B], see ``keys_of``.
        prediction: key of PREDICTIONS.
        clip: the image that the model sees to [-1, 1], in every step.
        known: (images [B, H, W, C], bool mask of what is kept of them): in-painting,
            Lugmayr et al. 2022, arXiv:2201.09865, equation 8, without its resampling.
    """
    kind, shape, count = PREDICTIONS[prediction], x.shape[1:], len(steps.t)
    factors = jnp.asarray(np.stack(steps[1:], axis=1), jnp.float32)

    def step(carry, now):
        (x, former), (number, t, row) = carry, now
        signal, after, of_x, of_x0, of_former, noise, of_fraction = row
        y = denoise(x, jnp.full(x.shape[:1], t))
        y, *fraction = jnp.split(y, y.shape[-1] // shape[-1], axis=-1)
        x0 = kind.x0(y, x, jnp.sqrt(signal), jnp.sqrt(1 - signal))
        x0 = jnp.clip(x0, -1, 1) if clip else x0
        for of_range in fraction:  # in [-1, 1]
            noise *= jnp.exp(of_fraction * (of_range + 1) / 2)
        back = of_x * x + of_x0 * x0 + of_former * former
        back += noise * draw(keys, shape, number)
        if known is not None:
            image, mask = known
            noisy = jnp.sqrt(1 - after) * draw(keys, shape, count + number)
            back = jnp.where(mask, jnp.sqrt(after) * image + noisy, back)
        return (back, x0), None

    rows = jnp.arange(1, count + 1), jnp.asarray(steps.t), factors
    return jax.lax.scan(step, (x, jnp.zeros_like(x)), rows)[0][0]


def guided(
    denoise: Callable[[jax.Array, jax.Array, Any], jax.Array],
    condition: Any,
    null: Any,
    scale: float,
    channels: int,
) -> Denoise:
    """``denoise`` away from the null condition, ``u + scale (c - u)``.

    Source: Ho and Salimans 2022, arXiv:2207.12598, equation 6, whose w is scale - 1.
    It is the same of every kind of prediction.

    Args:
        denoise: with a condition [B, ...] as third argument; called on 2 B rows.
        condition, null: trees of arrays [B, ...].
        scale: 1 is no guidance, 0 none of the condition.
        channels: how many of the first are guided; the others, such as those of a
            learned variance, are the condition's.
    """
    both = jax.tree.map(lambda *sides: jnp.concatenate(sides), condition, null)

    def of_both(x, t):
        y = denoise(jnp.concatenate([x, x]), jnp.concatenate([t, t]), both)
        given, blank = jnp.split(y, 2)
        image = (blank + scale * (given - blank))[..., :channels]
        return jnp.concatenate([image, given[..., channels:]], axis=-1)

    return of_both


def slerp(x: jax.Array, y: jax.Array, share: jax.Array | float) -> jax.Array:
    """Noise between two draws [...] on the arc from x (0) to y (1).

    Source: Song et al. 2021, appendix D.5; DDIM then interpolates between images.
    """
    cosine = jnp.sum(x * y) / (jnp.linalg.norm(x) * jnp.linalg.norm(y))
    angle = jnp.arccos(jnp.minimum(cosine, 1 - 1e-6))  # of one draw with itself, too
    sides = jnp.sin((1 - share) * angle) * x + jnp.sin(share * angle) * y
    return sides / jnp.sin(angle)
