import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from scipy import stats

from tfm_jax.ops import diffusion
from tfm_jax.ops.diffusion import PREDICTIONS, SCHEDULES, make_schedule

RNG = np.random.default_rng(0)
X0, NOISE = RNG.uniform(-1, 1, (2, 2, 3, 5, 1)).astype(np.float32)
T = np.array([3, 70])
BETAS = {"linear": "linear", "scaled_linear": "scaled_linear"}
BETAS |= {"cosine": "squaredcos_cap_v2"}
ENDS = {"scaled_linear": dict(beta_start=0.00085, beta_end=0.012)}


@pytest.mark.parametrize(("name", "last"), [("linear", 4.04e-5), ("cosine", 2.4e-9)])
def test_the_last_step_keeps_as_much_signal_as_the_papers_schedules_do(name, last):
    assert make_schedule(name, 1000).alpha_bar[-1] == pytest.approx(last, rel=0.02)


@pytest.mark.parametrize("name", SCHEDULES)
def test_noise_is_added_as_by_diffusers(name):
    reference = DDPMScheduler(1000, beta_schedule=BETAS[name], **ENDS.get(name, {}))
    schedule, t = make_schedule(name, 1000), 10 * T
    wanted = reference.add_noise(*map(torch.tensor, (X0, NOISE, t)))
    noisy = diffusion.q_sample(schedule, X0, t, NOISE)
    np.testing.assert_allclose(noisy, wanted, atol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 10, 100, 1000])
def test_of_any_number_of_steps_the_signal_falls_from_below_one_to_above_zero(
    name, steps
):
    signal = make_schedule(name, steps).alpha_bar
    assert len(signal) == steps
    assert np.all(np.diff(signal, prepend=1.0) < 0)
    assert signal[-1] > 0


def test_a_shifted_schedule_has_that_multiple_of_the_signal_to_noise_ratio():
    plain, shifted = make_schedule("cosine", 50), make_schedule("cosine", 50, 0.25)
    np.testing.assert_allclose(shifted.snr, 0.25 * plain.snr, rtol=1e-9)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_image_and_noise_come_back_from_every_prediction(name):
    schedule, kind = make_schedule("linear", 100), PREDICTIONS[name]
    a, s = diffusion.scales(schedule, T, X0)
    x = diffusion.q_sample(schedule, X0, T, NOISE)
    y = kind.target(X0, NOISE, a, s)
    np.testing.assert_allclose(kind.x0(y, x, a, s), X0, atol=1e-5)
    np.testing.assert_allclose(kind.noise(y, x, a, s), NOISE, atol=1e-5)
    wrong = kind.x0(y + 1, x, a, s) - X0
    error = kind.x0_error(schedule.snr)[T].reshape(2, 1, 1, 1)
    np.testing.assert_allclose(wrong**2, np.broadcast_to(error, X0.shape), rtol=1e-3)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_one_error_weighs_alike_in_whatever_a_model_predicts(name):
    """But under L_simple, which weighs what is predicted."""
    schedule = make_schedule("cosine", 100)
    error = PREDICTIONS[name].x0_error(schedule.snr)
    ratio = diffusion.loss_weights(schedule, name, "vlb") / error
    wanted = diffusion.loss_weights(schedule, "x0", "vlb")
    np.testing.assert_allclose(ratio, wanted, rtol=1e-9)
    assert set(diffusion.loss_weights(schedule, name, "simple")) == {1.0}


@pytest.mark.parametrize(
    ("weights", "of_x0"),
    [("min_snr", lambda s: min(s, 5)), ("truncated_snr", lambda s: max(s, 1))],
)
def test_weights_by_the_signal_to_noise_ratio_are_the_published_ones(weights, of_x0):
    """Hang et al. 2023, section 3.4; Salimans and Ho 2022, section 4 and appendix D."""
    snr = np.array([9.0, 5.0, 2.0, 1.0, 0.25])
    schedule = diffusion.Schedule(snr / (1 + snr))
    of_x0 = np.array([of_x0(s) for s in snr])
    published = {"x0": of_x0, "eps": of_x0 / snr, "v": of_x0 / (snr + 1)}
    for prediction, wanted in published.items():
        here = diffusion.loss_weights(schedule, prediction, weights)
        np.testing.assert_allclose(here, wanted, rtol=1e-9)


def test_the_weighted_error_is_the_bound_with_the_smaller_variance():
    schedule, guess = make_schedule("linear", 100), 0.3 * NOISE
    x = diffusion.q_sample(schedule, X0, T, NOISE)
    log_var = diffusion.log_variance(schedule, T, X0, "small")
    bound = diffusion.bound_term(schedule, X0, x, T, guess, log_var, 17)
    weights = diffusion.loss_weights(schedule, "x0", "vlb")[T] / schedule.steps
    error = np.square(X0 - guess).reshape(2, -1).mean(1)
    np.testing.assert_allclose(bound, weights * error, rtol=1e-3)


def test_the_bound_between_two_normal_distributions_is_that_of_torch():
    schedule = make_schedule("linear", 100)
    x = diffusion.q_sample(schedule, X0, T, NOISE)
    log_var = diffusion.log_variance(schedule, T, X0, "learned", 0.4)
    bound = diffusion.bound_term(schedule, X0, x, T, 0 * X0, log_var, 17)
    for b, t in enumerate(T):
        beta, before = schedule.betas[t], schedule.alpha_bar[t - 1]
        of_x0 = before**0.5 * beta / (1 - schedule.alpha_bar[t])
        of_x = (1 - beta) ** 0.5 * (1 - before) / (1 - schedule.alpha_bar[t])
        small = beta * (1 - before) / (1 - schedule.alpha_bar[t])
        sides = [
            torch.distributions.Normal(torch.tensor(mean), float(variance) ** 0.5)
            for mean, variance in (
                (of_x0 * X0[b] + of_x * np.asarray(x[b]), small),
                (of_x * np.asarray(x[b]), small**0.6 * beta**0.4),
            )
        ]
        wanted = torch.distributions.kl_divergence(*sides).mean()
        np.testing.assert_allclose(bound[b], wanted, rtol=1e-3)


@pytest.mark.parametrize("guess", [0.1, -0.4, 1.3, -1.2])
def test_the_grey_levels_of_the_decoder_have_a_total_probability_of_one(guess):
    schedule, levels = make_schedule("linear", 10), 5
    x0 = np.linspace(-1, 1, levels).reshape(-1, 1, 1, 1)
    t = np.zeros(levels, int)
    x = np.full_like(x0, 0.2)
    log_var = diffusion.log_variance(schedule, t, x0, "large") + 3
    nats = diffusion.bound_term(schedule, x0, x, t, 0 * x0 + guess, log_var, levels)
    assert float(jnp.sum(jnp.exp(-nats))) == pytest.approx(1, abs=1e-5)


def decoded(x0, guess, variance):
    """Nats of images [B, 1, 1, 1] in the first of a thousand linear steps."""
    schedule, t = make_schedule("linear", 1000), np.zeros(len(x0), int)
    log_var = diffusion.log_variance(schedule, t, x0, variance)
    return diffusion.bound_term(schedule, x0, x0, t, guess, log_var, 256)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_the_decoder_has_the_variance_of_the_released_code(variance):
    """hojonathanho/diffusion: posterior_variance[1], of either variance.

    Ho et al. 2020, section 4.3: 1.97 bits for a root mean square of 0.95 levels.
    """
    errors = stats.norm.ppf((np.arange(500) + 0.5) / 500) * 0.95  # in levels
    x0 = np.full((500, 1, 1, 1), 1 / 255)
    guesses = x0 + errors.reshape(x0.shape) / 127.5
    bits = decoded(x0, guesses, variance) / np.log(2)
    assert float(np.mean(bits)) == pytest.approx(1.97, abs=0.02)
    betas = np.linspace(1e-4, 0.02, 1000)
    kept = np.cumprod(1 - betas)
    posterior = betas[1] * (1 - kept[0]) / (1 - kept[1])
    edges = (errors[:, None] + [-0.5, 0.5]) / 127.5 / posterior**0.5
    wanted = -np.log2(np.diff(stats.norm.cdf(edges))[:, 0])
    np.testing.assert_allclose(bits, wanted, rtol=1e-3)


def test_the_larger_variance_is_beta_after_the_first_step():
    schedule = make_schedule("linear", 1000)
    log_var = diffusion.log_variance(schedule, T, X0, "large").ravel()
    np.testing.assert_allclose(np.exp(log_var), schedule.betas[T], rtol=1e-5)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_rare_grey_level_is_as_improbable_above_as_below(sign):
    """In float32, 6 levels away: 19.8 nats; no less than 1e-12, as released."""
    middle = np.full((2, 1, 1, 1), 1 / 255)
    misses = np.array([6, 20]).reshape(2, 1, 1, 1) / 127.5
    nats = decoded(middle, middle + sign * misses, "small")
    deviation = make_schedule("linear", 1000).variances[0] ** 0.5 * 127.5
    ends = stats.norm.cdf(np.array([-6.5, -5.5]) / deviation)
    np.testing.assert_allclose(nats, -np.log([np.diff(ends)[0], 1e-12]), rtol=1e-3)


def test_the_prior_term_is_that_of_torch():
    schedule = diffusion.Schedule(np.array([0.9, 0.3]))
    last = schedule.alpha_bar[-1]
    there = torch.distributions.Normal(last**0.5 * torch.tensor(X0), (1 - last) ** 0.5)
    wanted = torch.distributions.kl_divergence(there, torch.distributions.Normal(0, 1))
    prior = diffusion.prior_term(schedule, jnp.asarray(X0))
    np.testing.assert_allclose(prior, wanted.mean((1, 2, 3)), rtol=1e-5)


def test_steps_may_be_traced():
    schedule = make_schedule("linear", 10)
    noisy = jax.jit(lambda t: diffusion.q_sample(schedule, X0, t, NOISE))(T // 10)
    wanted = diffusion.q_sample(schedule, X0, T // 10, NOISE)
    np.testing.assert_allclose(noisy, wanted, atol=1e-6)
