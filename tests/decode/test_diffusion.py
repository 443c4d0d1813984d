import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from tfm_jax.decode import diffusion
from tfm_jax.decode.diffusion import METHODS, SPACINGS, guided, plan, slerp
from tfm_jax.ops.diffusion import PREDICTIONS, make_schedule

SHAPE, KEY = (3, 5, 2), jax.random.key(7)
THEIRS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


def denoise(x, t):
    """A model that is none, but looks at all that it is given."""
    return jnp.sin(3 * x) * 0.7 + 0.01 * t[:, None, None, None] ** 0.5


def run(steps, indices=(0, 1), denoise=denoise, key=KEY, **options):
    keys = diffusion.keys_of(key, np.array(indices))
    x = diffusion.draw(keys, SHAPE, 0)
    options = {"prediction": "eps"} | options
    return diffusion.sample(denoise, x, steps, keys, **options)


def by_diffusers(scheduler, prediction, steps, **options):
    """The same draws, one step after the other."""
    scheduler.set_timesteps(steps)
    keys = diffusion.keys_of(KEY, np.arange(2))
    x = torch.tensor(np.asarray(diffusion.draw(keys, SHAPE, 0)))
    for number, t in enumerate(scheduler.timesteps, 1):
        y = denoise(x.numpy(), np.full(2, int(t)))
        noise = torch.tensor(np.asarray(diffusion.draw(keys, SHAPE, number)))
        module = sys.modules[type(scheduler).__module__]
        with mock.patch.object(module, "randn_tensor", return_value=noise):
            y = torch.tensor(np.asarray(y))
            x = scheduler.step(y, t, x, **options).prev_sample
    return x


LINEAR = dict(beta_start=1e-4 * 25, beta_end=0.02 * 25)  # of 40 steps


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_samples_as_diffusers(prediction, variance):
    options = dict(
        prediction_type=THEIRS[prediction], variance_type=f"fixed_{variance}"
    )
    reference = DDPMScheduler(40, **LINEAR, **options)
    wanted = by_diffusers(reference, prediction, 40)
    steps = plan(make_schedule("linear", 40), 40, method="ddpm", variance=variance)
    samples = run(steps, prediction=prediction)
    np.testing.assert_allclose(samples, wanted, atol=1e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("eta", "clip"), [(0.0, True), (0.6, True), (0.0, False)])
def test_ddim_samples_as_diffusers(prediction, eta, clip):
    """Which has to be told that the noise is that of the clipped image."""
    options = dict(prediction_type=THEIRS[prediction], clip_sample=clip)
    reference = DDIMScheduler(40, **LINEAR, **options)
    wanted = by_diffusers(
        reference, prediction, 8, eta=eta, use_clipped_model_output=True
    )
    steps = plan(make_schedule("linear", 40), 8, eta=eta)
    samples = run(steps, prediction=prediction, clip=clip)
    np.testing.assert_allclose(samples, wanted, atol=1e-4, rtol=1e-4)


# theirs, under NumPy 2
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("prediction", "kept", "clip"),
    [("v", 8, False), ("v", 2, True), ("eps", 8, True), ("x0", 20, True)],
)
def test_dpm_solver_samples_as_diffusers(prediction, kept, clip):
    """Whose threshold that is at most 1 clips."""
    options = dict(prediction_type=THEIRS[prediction], timestep_spacing="trailing")
    options |= dict(thresholding=clip, sample_max_value=1.0)
    reference = DPMSolverMultistepScheduler(40, **LINEAR, **options)
    wanted = by_diffusers(reference, prediction, kept)
    steps = plan(
        make_schedule("linear", 40), kept, method="dpm_solver", spacing="trailing"
    )
    np.testing.assert_array_equal(steps.t, reference.timesteps)
    samples = run(steps, prediction=prediction, clip=clip)
    np.testing.assert_allclose(samples, wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("spacing", "first", "last"),
    [("leading", 980, 0), ("linspace", 999, 0), ("trailing", 999, 19)],
)
def test_fifty_of_a_thousand_steps_are_those_of_diffusers(spacing, first, last):
    reference = DDPMScheduler(1000, timestep_spacing=spacing)
    reference.set_timesteps(50)
    steps = plan(make_schedule("linear", 1000), 50, spacing=spacing)
    assert (steps.t[0], steps.t[-1]) == (first, last)
    np.testing.assert_array_equal(steps.t, reference.timesteps)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_any_number_of_steps_is_spaced_as_by_diffusers(spacing):
    """But where rounding makes one more there, the step -1."""
    reference, lengths = DDPMScheduler(1000, timestep_spacing=spacing), []
    for kept in range(1, 1001):
        reference.set_timesteps(kept)
        theirs = reference.timesteps.numpy()
        lengths.append(len(theirs) - kept)
        np.testing.assert_array_equal(SPACINGS[spacing](1000, kept), theirs[:kept])
        assert set(theirs[kept:]) <= {-1}
    assert np.mean(lengths) < 0.1


def test_linspace_keeps_the_250_steps_that_dit_is_sampled_with():
    """openai/guided-diffusion, ``space_timesteps(1000, "250")``."""
    stride = 999 / 249
    wanted = [round(i * stride) for i in range(250)]
    steps = plan(make_schedule("linear", 1000), 250, spacing="linspace")
    np.testing.assert_array_equal(steps.t, wanted[::-1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_no_step_is_undefined_however_few_and_noisy_they_are(method, spacing):
    for kept in (1, 2, 3):
        for scale in (1.0, 0.0625):
            schedule = make_schedule("linear", 12, scale)
            steps = plan(schedule, kept, method=method, spacing=spacing, eta=1.0)
            assert all(np.isfinite(field).all() for field in steps), (kept, scale)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_all_steps_are_all_steps_however_they_are_spaced(spacing):
    steps = plan(make_schedule("cosine", 12), 12, spacing=spacing)
    np.testing.assert_array_equal(steps.t, np.arange(12)[::-1])


@pytest.mark.parametrize("spacing", SPACINGS)
def test_as_many_steps_are_kept_as_are_asked_for_and_each_once(spacing):
    """Of 15 steps 13, of 17 7: what a division rounds makes no step more."""
    for steps in range(2, 60):
        for kept in range(1, steps + 1):
            t = np.round(SPACINGS[spacing](steps, kept))
            assert len(t) == kept and (np.diff(t) < 0).all(), (steps, kept)
            assert 0 <= t[-1] and t[0] < steps, (steps, kept)


@pytest.mark.parametrize("kept", [30, 7])
def test_ddim_with_eta_one_is_ddpm_with_the_smaller_variance(kept):
    schedule = make_schedule("linear", 30)
    steps = plan(schedule, kept, eta=1.0)
    ddpm = plan(schedule, kept, method="ddpm", variance="small")
    for field, other in zip(steps, ddpm, strict=True):
        np.testing.assert_allclose(field, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("range_of", [-1.0, 0.3, 1.0])
def test_a_learned_variance_lies_between_the_two_that_are_fixed(range_of):
    schedule = make_schedule("linear", 30)

    def both(x, t):
        return jnp.concatenate([denoise(x, t), jnp.full_like(x, range_of)], -1)

    learned = plan(schedule, 30, method="ddpm", variance="learned")
    small, large = (
        plan(schedule, 30, method="ddpm", variance=v).noise[:-1]
        for v in ("small", "large")
    )
    f = (range_of + 1) / 2
    noise = learned.noise[:-1] * np.exp(f * learned.of_fraction[:-1])
    np.testing.assert_allclose(noise, small ** (1 - f) * large**f, rtol=1e-9)
    if abs(range_of) == 1:
        fixed = plan(
            schedule, 30, method="ddpm", variance="small" if f == 0 else "large"
        )
        wanted = run(fixed)
        np.testing.assert_allclose(run(learned, denoise=both), wanted, atol=1e-5)


def test_what_a_sample_is_depends_on_seed_and_number_alone():
    steps = plan(make_schedule("cosine", 20), 5, method="ddpm")
    several = run(steps, range(5))
    np.testing.assert_array_equal(run(steps, range(5)), several)
    np.testing.assert_allclose(run(steps, [3]), several[3:4], atol=1e-6)
    np.testing.assert_allclose(run(steps, [4, 1]), several[np.array([4, 1])], atol=1e-6)
    differ = np.abs(several - run(steps, range(5), key=jax.random.key(8)))
    assert np.all(differ.mean((1, 2, 3)) > 0.01)


@pytest.mark.parametrize("method", METHODS)
def test_normal_data_under_its_exact_denoiser_keep_its_variance(method):
    """Which is linear: E[x0 | x] = a c x / (c A + 1 - A), for a variance c."""
    schedule, variance = make_schedule("cosine", 100), 0.25

    def exact(x, t):
        a = jnp.asarray(schedule.alpha_bar, jnp.float32)[t][:, None, None, None]
        return jnp.sqrt(a) * variance * x / (variance * a + 1 - a)

    steps = plan(schedule, 25 if method == "dpm_solver" else 100, method=method)
    samples = run(steps, range(200), exact, prediction="x0", clip=False)
    assert float(jnp.mean(samples**2)) == pytest.approx(variance, rel=0.1)


def test_in_painting_keeps_what_is_known_and_draws_the_rest():
    steps = plan(make_schedule("cosine", 20), 10, method="ddpm")
    image = jnp.full((2, *SHAPE), 0.3)
    mask = np.arange(5)[:, None] < 3
    samples = run(steps, known=(image, mask))
    np.testing.assert_allclose(samples[:, :, :3], 0.3, atol=1e-6)
    assert np.all(np.abs(samples[:, :, 3:] - 0.3) > 1e-4)


def test_guidance_leads_away_from_the_null_condition():
    def conditional(x, t, label):
        return denoise(x, t) * label[:, None, None, None]

    x, t = np.ones((2, *SHAPE), np.float32), np.array([3, 4])
    label, null = np.array([2.0, 3.0]), np.zeros(2)
    for scale in (0.0, 1.0, 3.5):
        y = guided(conditional, label, null, scale, 1)(x, t)
        factors = label[:, None, None]
        first, rest = denoise(x, t)[..., 0], denoise(x, t)[..., 1]
        np.testing.assert_allclose(y[..., 0], scale * factors * first, rtol=1e-5)
        np.testing.assert_allclose(y[..., 1], factors * rest, rtol=1e-5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_guidance_of_a_prediction_is_guidance_of_the_noise(prediction):
    a, s = 0.6, 0.8
    x, given, blank = np.random.default_rng(0).normal(size=(3, 4, 4))
    noise = PREDICTIONS[prediction].noise
    guided_noise = noise(blank + 3 * (given - blank), x, a, s)
    of_noise = noise(blank, x, a, s)
    of_noise = of_noise + 3 * (noise(given, x, a, s) - of_noise)
    np.testing.assert_allclose(guided_noise, of_noise)


def test_an_arc_between_two_draws_keeps_their_length():
    x, y = np.random.default_rng(1).normal(size=(2, 4000))
    ends = slerp(x, y, 0.0), slerp(x, y, 1.0)
    np.testing.assert_allclose(np.stack(ends), np.stack([x, y]), atol=1e-4)
    middle = np.linalg.norm(slerp(x, y, 0.5)) / np.linalg.norm(x)
    assert middle == pytest.approx(1, abs=0.02)
    for share in (0.0, 0.3, 1.0):
        np.testing.assert_allclose(slerp(x, x, share), x, rtol=1e-3)
