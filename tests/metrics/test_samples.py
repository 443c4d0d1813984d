"""Distances between samples and data, against closed forms and other ways."""

import numpy as np
import pytest
from scipy import linalg

from tfm_jax.metrics import samples
from tfm_jax.metrics.samples import Gaussian, fit, frechet

RANDOM = np.random.default_rng(0)
MIXED = RANDOM.normal(size=(5, 5))
ROWS = RANDOM.normal(size=(60, 5)) @ MIXED + 2
OTHERS = RANDOM.normal(size=(40, 5)) ** 3


def test_along_common_axes_means_and_deviations_are_as_far_apart_as_numbers():
    """Dowson and Landau 1982: the sum of (m - m')² and (s - s')²."""
    a = Gaussian(np.array([1.0, 2.0]), np.diag([3.0, 0.5]))
    b = Gaussian(np.array([1.5, 0.0]), np.diag([1.0, 0.0]))
    assert frechet(a, b) == pytest.approx(0.5**2 + 2**2 + 2**2 + 0.5**2)


def test_the_distance_is_that_of_a_matrix_square_root():
    covariances = [np.cov(rows.T) for rows in (ROWS, OTHERS)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    apart = ROWS.mean(axis=0) - OTHERS.mean(axis=0)
    traces = sum(map(np.trace, covariances)) - 2 * np.trace(root)
    assert frechet(fit(ROWS), fit(OTHERS)) == pytest.approx(apart @ apart + traces)


@pytest.mark.parametrize("count", [1, 3, 60])
def test_rows_are_at_no_distance_from_themselves_however_few_they_are(count):
    rows = ROWS[:count]
    moved = frechet(fit(rows), fit(rows + 3.0))
    assert frechet(fit(rows), fit(rows)) == pytest.approx(0, abs=1e-9)
    assert moved == pytest.approx(5 * 9, rel=1e-6)


def test_a_bootstrap_says_how_much_the_distance_varies():
    reference = fit(RANDOM.normal(size=(5000, 4)))
    draws = [RANDOM.normal(size=(300, 4)) + 0.5 for _ in range(100)]
    true = np.std([frechet(fit(rows), reference) for rows in draws])
    assert 0.5 < samples.frechet_sd(draws[0], reference) / true < 2


def test_the_nearest_is_the_least_of_all_distances_block_by_block(monkeypatch):
    monkeypatch.setattr(samples, "AT_ONCE", 5 * 7)
    every = np.sqrt(np.mean((ROWS[:, None] - OTHERS) ** 2, axis=-1))
    np.testing.assert_allclose(samples.nearest(ROWS, OTHERS), every.min(axis=1))
    pixels = RANDOM.integers(0, 256, (20, 300), np.uint8)
    np.testing.assert_array_equal(samples.nearest(pixels[::-1], pixels), 0)


def test_moments_are_those_of_all_rows_block_by_block(monkeypatch):
    monkeypatch.setattr(samples, "ROWS", 7)
    pixels = RANDOM.integers(0, 256, (60, 5), np.uint8)
    fitted = samples.fit(pixels)
    np.testing.assert_allclose(fitted.mean, pixels.mean(axis=0))
    np.testing.assert_allclose(fitted.root @ fitted.root, np.cov(pixels.T))


def test_rows_of_one_gaussian_a_class_have_its_mean_and_covariance():
    labels = np.arange(60) % 2
    drawn = samples.class_gaussians(ROWS, labels, np.repeat([1, 0], 50_000))
    for label, rows in ((1, drawn[:50_000]), (0, drawn[50_000:])):
        wanted = np.cov(ROWS[labels == label].T)
        np.testing.assert_allclose(np.cov(rows.T), wanted, atol=0.03 * wanted.max())
        mean = ROWS[labels == label].mean(axis=0)
        np.testing.assert_allclose(rows.mean(axis=0), mean, atol=0.1)


def test_the_linear_bar_is_what_least_squares_reach():
    """Noise regressed on rows with noise; 3 % are those of 200,000 draws."""
    signal = np.array([0.9, 0.3])
    chosen = ROWS[RANDOM.integers(len(ROWS), size=200_000)]
    noise = RANDOM.normal(size=chosen.shape)
    errors = []
    for a in signal:
        x = np.sqrt(a) * chosen + np.sqrt(1 - a) * noise
        x -= x.mean(axis=0)
        guess = x @ np.linalg.lstsq(x, noise, rcond=None)[0]
        errors.append(np.mean((guess - noise) ** 2))
    bar = samples.linear_noise_error(ROWS, signal)
    assert samples.linear_noise_error(3 * ROWS, signal, 3.0) == pytest.approx(bar)
    assert bar == pytest.approx(np.mean(errors), rel=0.03)
