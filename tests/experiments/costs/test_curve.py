import numpy as np
import pytest

from experiments.costs.curve import log_slope
from experiments.statistics import stats

LENGTHS = 2 ** np.arange(5, 12)


@pytest.mark.parametrize("power", [0, 1, 2])
def test_the_slope_of_a_noisy_power_is_its_exponent(power):
    rng = np.random.default_rng(power)
    noisy = 3e-7 * LENGTHS**power * np.exp(rng.normal(0, 0.05, (5, len(LENGTHS))))
    slopes = [
        log_slope(list(zip(LENGTHS, each, strict=True)), last=7) for each in noisy
    ]
    p = stats.paired(slopes)
    assert p.low < power < p.high and p.high - p.low < 0.1


def test_the_highest_power_shows_at_the_end():
    cost = [(n, 400 * n + n**2) for n in LENGTHS]
    whole, end = log_slope(cost, last=7), log_slope(cost)
    assert whole < 1.5 < end < 2
    assert log_slope(cost[::-1]) == end
