"""Gaussian diffusion: noise schedules, prediction targets, loss weights, the bound.

Source: Ho et al. 2020, arXiv:2006.11239; Kingma et al. 2021, arXiv:2107.00630.
Deviates: see each function. Steps are t = 0 .. T - 1; what follows from a schedule is
computed in float64 and cast once.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

LARGEST_BETA = 0.999  # Nichol and Dhariwal 2021, section 3.2


def _linear(steps):
    return np.linspace(1e-4, 0.02, steps) * (1000 / steps)


def _scaled_linear(steps):
    return np.linspace(0.00085**0.5, 0.012**0.5, steps) ** 2 * (1000 / steps)


def _cosine(steps):
    angles = (np.linspace(0, 1, steps + 1) + 0.008) / 1.008 * math.pi / 2
    signal = np.cos(angles) ** 2
    return 1 - signal[1:] / signal[:-1]


# T -> betas [T]; those of other T than 1,000 end at about the same noise, down to some
# 50 steps: of fewer, the linear ones leave far less of the signal
SCHEDULES: dict[str, Callable[[int], np.ndarray]] = {
    "linear": _linear,  # Ho et al. 2020, section 4
    "scaled_linear": _scaled_linear,  # Rombach et al. 2022, arXiv:2112.10752, code
    "cosine": _cosine,  # Nichol and Dhariwal 2021, arXiv:2102.09672, section 3.2
}


@dataclasses.dataclass(frozen=True, eq=False)
class Schedule:
    """The noise of T steps: ``x_t = sqrt(A_t) x_0 + sqrt(1 - A_t) noise``.

    Attributes: alpha_bar: [T] float64, A_t.
    """

    alpha_bar: np.ndarray

    @property
    def steps(self) -> int:
        """T."""
        return len(self.alpha_bar)

    @property
    def before(self) -> np.ndarray:
        """[T] float64, A of the step before; 1 before the first."""
        return np.append(1.0, self.alpha_bar[:-1])

    @property
    def snr(self) -> np.ndarray:
        """[T] float64, the signal-to-noise ratio A / (1 - A)."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @property
    def betas(self) -> np.ndarray:
        """[T] float64, the larger variance of a step back."""
        return 1 - self.alpha_bar / self.before

    @property
    def variances(self) -> np.ndarray:
        """[T] float64, the smaller one, of x_(t-1) given x_t and x_0.

        The first is 0, and as in the released code that of the second in its place.
        """
        small = (1 - self.before) / (1 - self.alpha_bar) * self.betas
        small[0] = small[1] if self.steps > 1 else self.betas[0]
        return small


def make_schedule(name: str, steps: int, snr_scale: float = 1.0) -> Schedule:
    """A key of SCHEDULES with T = ``steps``.

    Args: snr_scale: factor on the signal-to-noise ratio of every step; Hoogeboom et al.
        2023, arXiv:2301.11093, section 3.1, take (64 / d)^2 for images of d x d pixels.
    """
    betas = np.minimum(SCHEDULES[name](steps), LARGEST_BETA)
    signal = np.cumprod(1 - betas)
    return Schedule(signal * snr_scale / (signal * snr_scale + 1 - signal))


def at(table: np.ndarray, t: jax.Array, x: jax.Array) -> jax.Array:
    """Entries t [B] of a table [T], float32, as factors of x [B, ...]."""
    values = jnp.asarray(table, jnp.float32)[t]
    return values.reshape(t.shape + (1,) * (x.ndim - t.ndim))


def scales(
    schedule: Schedule, t: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(sqrt(A), sqrt(1 - A)) of steps t [B], as factors of x [B, ...]."""
    signal = schedule.alpha_bar
    return at(np.sqrt(signal), t, x), at(np.sqrt(1 - signal), t, x)


def q_sample(
    schedule: Schedule, x0: jax.Array, t: jax.Array, noise: jax.Array
) -> jax.Array:
    """x_t of images x0 [B, ...] at steps t [B]; Ho et al. 2020, equation 4."""
    signal, sigma = scales(schedule, t, x0)
    return signal * x0 + sigma * noise


class Prediction(NamedTuple):
    """What a model returns, with a = sqrt(A) and s = sqrt(1 - A).

    Attributes:
        target: (x0, noise, a, s) -> what it is trained towards.
        x0: (prediction, x_t, a, s) -> the image that it implies.
        noise: the same -> the noise that it implies.
        x0_error: SNR -> squared error of x0 for a squared error of 1 in the target.
    """

    target: Callable
    x0: Callable
    noise: Callable
    x0_error: Callable


PREDICTIONS = {
    "eps": Prediction(  # Ho et al. 2020, section 3.2
        target=lambda x0, noise, a, s: noise,
        x0=lambda y, x, a, s: (x - s * y) / a,
        noise=lambda y, x, a, s: y,
        x0_error=lambda snr: 1 / snr,
    ),
    "x0": Prediction(
        target=lambda x0, noise, a, s: x0,
        x0=lambda y, x, a, s: y,
        noise=lambda y, x, a, s: (x - a * y) / s,
        x0_error=lambda snr: np.ones_like(snr),
    ),
    "v": Prediction(  # Salimans and Ho 2022, arXiv:2202.00512, section 4
        target=lambda x0, noise, a, s: a * noise - s * x0,
        x0=lambda y, x, a, s: a * x - s * y,
        noise=lambda y, x, a, s: a * y + s * x,
        x0_error=lambda snr: 1 / (1 + snr),
    ),
}


def _bound_weights(schedule, error):
    decoder = 1 / schedule.variances[:1]
    gained = schedule.snr[:-1] - schedule.snr[1:]
    return schedule.steps / 2 * np.append(decoder, gained) * error


# (schedule, x0_error [T]) -> [T] weights of the squared error of the target
WEIGHTS: dict[str, Callable[[Schedule, np.ndarray], np.ndarray]] = {
    # L_simple; Ho et al. 2020, equation 14
    "simple": lambda schedule, error: np.ones_like(error),
    # Hang et al. 2023, arXiv:2303.09556, gamma 5
    "min_snr": lambda schedule, error: np.minimum(schedule.snr, 5) * error,
    # Salimans and Ho 2022, section 4: "truncated SNR"
    "truncated_snr": lambda schedule, error: np.maximum(schedule.snr, 1) * error,
    # Ho et al. 2020, equation 8: its mean over t is the bound in nats per dimension, up
    # to the prior, with a density in place of the decoder's bins and the smaller
    # variance; of the larger, the weights are smaller
    "vlb": _bound_weights,
}


def loss_weights(schedule: Schedule, prediction: str, weights: str) -> np.ndarray:
    """[T] weights of the squared error of a prediction; keys of those tables."""
    return WEIGHTS[weights](schedule, PREDICTIONS[prediction].x0_error(schedule.snr))


def _larger(schedule):
    return np.append(schedule.variances[:1], schedule.betas[1:])


# of a step back: schedule -> two tables [T], between which it lies
VARIANCES: dict[str, Callable[[Schedule], tuple[np.ndarray, np.ndarray]]] = {
    "small": lambda schedule: (schedule.variances, schedule.variances),
    # that of t = 0 is the smaller: "a better decoder log likelihood" (released code)
    "large": lambda schedule: (_larger(schedule), _larger(schedule)),
    # Nichol and Dhariwal 2021, equation 15, with the largest at t = 0, as released
    "learned": lambda schedule: (schedule.variances, schedule.betas),
}
OUTPUTS = {"fixed": 1, "learned": 2}  # variance of a model -> numbers for each channel


def log_variance(
    schedule: Schedule,
    t: jax.Array,
    x: jax.Array,
    variance: str,
    fraction: jax.Array | float = 0.0,
) -> jax.Array:
    """Of the step back from t; a learned one lies that far between the two logarithms.

    Source: Ho et al. 2020, section 3.2; Nichol and Dhariwal 2021, equation 15.

    Args: variance: key of VARIANCES. fraction: in [0, 1].
    """
    least, most = (at(np.log(table), t, x) for table in VARIANCES[variance](schedule))
    return least + fraction * (most - least)


def bound_term(
    schedule: Schedule,
    x0: jax.Array,
    x: jax.Array,
    t: jax.Array,
    x0_hat: jax.Array,
    log_var: jax.Array,
    levels: int,
) -> jax.Array:
    """Term t of the bound on -log p(x0), [B] in nats per dimension.

    That of t = 0 is the probability of the grey level, open at both ends of [-1, 1].

    Source: Ho et al. 2020, equations 5, 7 and 13. Deviates: the normal distribution
    is exact where the released code has its approximation by tanh. As there, no
    probability is below 1e-12, 27.6 nats: of rarer ones this is no bound.

    Args: x0, x, x0_hat: [B, ...] images, them at steps t [B], the model's guesses.
        log_var: see ``log_variance``. levels: grey levels, evenly spaced in [-1, 1].
    """
    spread = 1 - schedule.alpha_bar
    of_x0 = np.sqrt(schedule.before) * schedule.betas / spread
    of_x = np.sqrt(1 - schedule.betas) * (1 - schedule.before) / spread
    mean = at(of_x0, t, x) * x0_hat + at(of_x, t, x) * x
    true_log_var = at(np.log(schedule.variances), t, x)
    miss = at(of_x0, t, x) * (x0 - x0_hat)
    shrink = true_log_var - log_var
    kl = 0.5 * (jnp.exp(shrink) - shrink - 1 + miss**2 * jnp.exp(-log_var))
    half, deviation = 1 / (levels - 1), jnp.exp(0.5 * log_var)
    # to the level's near and far end, in the lower tail, which alone float32 resolves
    distance, last = jnp.abs(x0 - mean), jnp.abs(x0) > 1 - half
    near = jax.scipy.special.ndtr((half - distance) / deviation)
    far = jax.scipy.special.ndtr((-half - distance) / deviation)
    beyond = (mean - x0) * x0 > 0
    near, far = jnp.where(last & beyond, 1.0, near), jnp.where(last & ~beyond, 0.0, far)
    decoder = -jnp.log(jnp.maximum(near - far, 1e-12))
    first = at(np.arange(schedule.steps), t, x) == 0
    return mean_of_images(jnp.where(first, decoder, kl))


def prior_term(schedule: Schedule, x0: jax.Array) -> jax.Array:
    """What the noise of the last step still tells of x0, [B] in nats per dimension."""
    signal = schedule.alpha_bar[-1]
    return mean_of_images(0.5 * (signal * x0**2 - signal - math.log1p(-signal)))


def _angles(times, count, last):
    return times[:, None] * jnp.exp(-math.log(10_000) / last * jnp.arange(count))


def _sin_cos(times, width):
    angles = _angles(times, width // 2, width // 2 - 1)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def _cos_sin(times, width):
    angles = _angles(times, width // 2, width // 2)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


# (times [B] in [0, 1000), even D) -> [B, D] float32
WAVES: dict[str, Callable[[jax.Array, int], jax.Array]] = {
    "sin_cos": _sin_cos,  # Ho et al. 2020, released code: down to 1 / 10,000
    # Dhariwal and Nichol 2021, arXiv:2105.05233, released code; DiT
    "cos_sin": _cos_sin,
}


def mean_of_images(x: jax.Array) -> jax.Array:
    """[B, ...] -> [B]."""
    return jnp.mean(x.reshape(x.shape[0], -1), axis=1)
