"""Samples against real data: Fréchet distance, nearest neighbours, bars to beat.

Rows [n, D] of features or pixels, whatever they are of; the arithmetic is in float64.
"""

import math
from typing import NamedTuple

import numpy as np

RESAMPLES = 20  # of a bootstrap
AT_ONCE, ROWS = 2**22, 2**11  # numbers, and rows, of one block at most


class Gaussian(NamedTuple):
    """A normal distribution.

    Attributes: mean: [D]. root: [D, D], symmetric square root of the covariance.
    """

    mean: np.ndarray
    root: np.ndarray


def fit(x: np.ndarray) -> Gaussian:
    """The Gaussian with mean and covariance of rows [n, D]."""
    mean, covariance = _moments(x)
    variances, axes = np.linalg.eigh(covariance)
    return Gaussian(mean, (axes * np.sqrt(np.maximum(variances, 0))) @ axes.T)


def frechet(a: Gaussian, b: Gaussian) -> float:
    """Fréchet distance, squared: |m - m'|² + tr(C + C' - 2 (C C')^(1/2)).

    Source: Dowson and Landau 1982, doi:10.1016/0047-259X(82)90077-X; of features of a
    network: Heusel et al. 2017, arXiv:1706.08500, equation 6, with those of Inception.
    Deviates: the last trace is the sum of singular values of a product of roots, which
    is real and stable where the root of the product C C' is not.
    """
    overlap = np.linalg.svd(a.root @ b.root, compute_uv=False).sum()
    traces = np.sum(a.root**2) + np.sum(b.root**2)
    return max(float(np.sum((a.mean - b.mean) ** 2) + traces - 2 * overlap), 0.0)


def frechet_sd(x: np.ndarray, reference: Gaussian, seed: int = 0) -> float:
    """Standard deviation of the distance of rows [n, D], by bootstrap over rows."""
    random = np.random.default_rng(seed)
    chosen = random.integers(len(x), size=(RESAMPLES, len(x)))
    return float(np.std([frechet(fit(x[rows]), reference) for rows in chosen], ddof=1))


def nearest(x: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Distance [n] of each row of x [n, D] to the nearest of [m, D].

    Root mean square over entries; exact of pixels, which are whole numbers.
    """
    least = np.full(len(x), np.inf)
    for ours in _blocks(x):
        rows = np.asarray(x[ours], np.float64)
        for theirs in _blocks(among):
            block = np.asarray(among[theirs], np.float64)
            squares = np.sum(block**2, axis=1) - 2 * rows @ block.T
            least[ours] = np.minimum(least[ours], np.min(squares, axis=1))
        least[ours] += np.sum(rows**2, axis=1)
    return np.sqrt(np.maximum(least, 0) / x.shape[1])


def class_gaussians(
    x: np.ndarray, labels: np.ndarray, wanted: np.ndarray, seed: int = 0
) -> np.ndarray:
    """A row for each wanted label, drawn from one Gaussian a class: [n, D] float64.

    Each is the mean of its class and a normal sum of all deviations from it, which has
    the covariance of the class whatever D is.

    Args: x: [m, D], of classes labels [m].
    """
    random = np.random.default_rng(seed)
    drawn = np.zeros((len(wanted), x.shape[1]))
    for label in np.unique(wanted):
        of_class = np.asarray(x[labels == label], np.float64)
        mean, rows = of_class.mean(axis=0), wanted == label
        weights = random.standard_normal((rows.sum(), len(of_class)))
        scale = math.sqrt(max(len(of_class) - 1, 1))
        drawn[rows] = mean + weights @ (of_class - mean) / scale
    return drawn


def linear_noise_error(x: np.ndarray, signal: np.ndarray, scale: float = 1.0) -> float:
    """Squared error of the noise of the best linear denoiser (Wiener's) of rows [n, D].

    Along an axis of variance l it is A l / (A l + 1 - A); the mean over axes and steps.

    Args: x: ``scale`` times what is denoised. signal: [T], A of each step.
    """
    variances = np.linalg.eigvalsh(_moments(x)[1]) / scale**2
    kept = signal[:, None] * np.maximum(variances, 0)
    return float(np.mean(kept / (kept + 1 - signal[:, None])))


def _moments(x):
    """Mean [D] and covariance [D, D] of rows [n, D]; few are float64 at a time."""
    mean, total = x.mean(axis=0, dtype=np.float64), np.zeros(2 * x.shape[1:])
    for block in _blocks(x):
        centred = x[block] - mean
        total += centred.T @ centred
    return mean, total / max(len(x) - 1, 1)


def _blocks(x):
    """Slices of rows [n, D], of as many that a block has about ``AT_ONCE`` numbers."""
    rows = min(max(AT_ONCE // x.shape[1], 1), ROWS)
    return [slice(first, first + rows) for first in range(0, len(x), rows)]
