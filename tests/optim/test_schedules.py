import numpy as np
import optax
import pytest

from tfm_jax.optim.optimizers import Config
from tfm_jax.optim.schedules import SCHEDULES, learning_rate, unreached

TOTAL, WARMUP = 100, 10


def rates(name, **changes):
    fields = dict(peak=2.0, warmup=WARMUP, total=TOTAL) | changes
    return np.asarray(learning_rate(name, **fields)(np.arange(fields["total"])))


def test_inverse_sqrt_is_the_schedule_of_the_paper():
    """Vaswani et al. 2017, equation 3; its steps begin at 1."""
    width, warmup = 512, 4000
    step = np.arange(1, 20_001, dtype=np.float64)
    paper = width**-0.5 * np.minimum(step**-0.5, step * warmup**-1.5)
    found = rates(
        "inverse_sqrt", peak=(width * warmup) ** -0.5, warmup=warmup, total=20_000
    )
    np.testing.assert_allclose(found, paper, rtol=1e-5)
    assert found.max() == pytest.approx(6.99e-4, rel=1e-3)


def test_linear_from_start_is_the_product_of_warm_up_and_decay():
    """As google-research/electra, optimization.py: both count from the first step.

    The decay counts the updates made, as ``global_step`` there; so does the warm-up
    there, which begins with an update of nothing.
    """
    made = np.arange(TOTAL)
    product = 2.0 * np.minimum((made + 1) / WARMUP, 1.0) * (1.0 - made / TOTAL)
    np.testing.assert_allclose(rates("linear_from_start"), product, atol=1e-6)


@pytest.mark.parametrize("name", sorted({*SCHEDULES} - {"linear_from_start"}))
def test_the_peak_is_reached_at_the_last_warm_up_step(name):
    found = rates(name)
    np.testing.assert_allclose(found[:WARMUP], 0.2 * np.arange(1, 11), rtol=1e-6)
    assert found[WARMUP - 1] == pytest.approx(2.0) == found.max()
    assert (np.diff(found[WARMUP:]) <= 0).all()
    assert rates(name, warmup=0)[0] == pytest.approx(2.0, rel=0.02)


def test_decays_end_where_they_say():
    """Once all updates are made: the next one would have the final rate."""

    def rate(name, count, **changes):
        fields = dict(peak=2.0, warmup=WARMUP, total=TOTAL) | changes
        return float(learning_rate(name, **fields)(count))

    for name in ("cosine", "linear", "linear_from_start"):
        assert rate(name, TOTAL) == rate(name, TOTAL + 5) == pytest.approx(0, abs=1e-6)
        assert rate(name, TOTAL, final_fraction=0.1) == pytest.approx(0.2)
    for name in ("cosine", "linear"):
        middle = rate(name, (WARMUP + TOTAL) // 2)
        assert middle == pytest.approx(1.0, rel=1e-5)
    assert (rates("constant")[WARMUP:] == 2.0).all()


def test_the_rate_is_halved_every_epoch_after_the_fifth():
    """Luong et al. 2015, section 4.1: SGD with a rate of 1, 10 epochs."""
    fields = dict(peak=1.0, warmup=0, total=1_000, cut_after=500, cut_every=100)
    epochs = rates("step_decay", **fields).reshape(10, 100)
    wanted = [1.0] * 5 + [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32]
    np.testing.assert_allclose(epochs, np.repeat(wanted, 100).reshape(10, 100))


@pytest.mark.parametrize("warmup", [0, 1, TOTAL - 1, TOTAL])
@pytest.mark.parametrize("name", SCHEDULES)
def test_no_update_of_a_run_has_a_rate_of_zero(name, warmup):
    assert rates(name, warmup=warmup).min() > 0


def test_the_linear_decay_is_that_of_optax():
    optaxs = optax.linear_schedule(2.0, 0.0, TOTAL - WARMUP, WARMUP)
    wanted = [optaxs(count) for count in range(WARMUP, TOTAL)]
    np.testing.assert_allclose(rates("linear")[WARMUP:], wanted, rtol=1e-5)
    cosine = optax.warmup_cosine_decay_schedule(0.0, 2.0, WARMUP, TOTAL)
    wanted = [cosine(count) for count in range(WARMUP, TOTAL)]
    np.testing.assert_allclose(rates("cosine")[WARMUP:], wanted, rtol=1e-4)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_says_whether_it_ends_with_the_run(name):
    longer = rates(name, total=2 * TOTAL)[:TOTAL]
    assert np.array_equal(longer, rates(name)) != SCHEDULES[name].ends


@pytest.mark.parametrize(
    "cut, every, some",
    [
        (False, 1, dict(schedule="step_decay", cut_after_steps=TOTAL)),
        (True, 1, dict(schedule="step_decay", cut_after_steps=TOTAL - 1)),
        (False, TOTAL // 2, dict(schedule="plateau")),  # the second is at the end
        (True, TOTAL // 2 - 1, dict(schedule="plateau")),
        (False, TOTAL // 2 - 1, dict(schedule="plateau", cut_patience=2)),
    ],
)
def test_a_run_whose_rate_is_never_cut_says_so(cut, every, some):
    notes = unreached(Config(warmup_steps=0, **some), total=TOTAL, every=every)
    assert ["the rate is never cut" in note for note in notes] == [True] * (not cut)
