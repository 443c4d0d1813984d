"""Images out of noise: the objective and the bound."""

import functools
import math
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tfm_jax.data.batch import ImageBatch
from tfm_jax.objectives.denoise import (
    LEVELS,
    Noise,
    Objective,
    step_at,
    to_pixels,
    to_signal,
)
from tfm_jax.ops import diffusion
from tfm_jax.ops.diffusion import PREDICTIONS

SHAPE = (4, 3, 2)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, *SHAPE)).astype(np.uint8)
LABELS, ONES = np.arange(6, dtype=np.int32), np.ones(6, np.float32)


def knowing(x0, noise):
    """A model that knows the one image there is: ``apply`` of an objective."""
    schedule, kind = noise.make_schedule(), PREDICTIONS[noise.prediction]

    def apply(params, batch, *, rng, train):
        t = jnp.round(batch.times * noise.steps / 1000).astype(jnp.int32)
        a, s = diffusion.scales(schedule, t, batch.images)
        return kind.target(x0, (batch.images - a * x0) / s, a, s)

    return apply


def scored(noise, apply, batch):
    """(loss sum, number of images, scores), compiled as one."""
    objective = Objective(noise)

    @jax.jit
    def run():
        loss = objective.loss_sum(apply, {}, batch, train=True)
        return *loss, objective.eval_sums(apply, {}, batch)

    *loss, sums = run()
    return *loss, objective.scores(sums, {})


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_model_that_knows_the_image_has_no_error_and_its_bits_are_the_decoders(
    prediction,
):
    noise = Noise(steps=20, prediction=prediction)
    batch = ImageBatch(PIXELS[:1].repeat(6, 0), LABELS, ONES)
    apply = knowing(to_signal(batch.images), noise)
    loss, count, scores = scored(noise, apply, batch)
    assert count == 6 and loss < 1e-4
    assert scores["noise_error"] < 1e-4 and scores["denoising_loss"] < 1e-4
    first = noise.make_schedule().variances[0]
    width = first**0.5 * 127.5  # in grey levels
    entropy = np.log2(width * np.sqrt(2 * np.pi))  # of a bin in its middle
    assert scores["bits_per_dim"] == pytest.approx(entropy, abs=0.3)


def test_with_the_larger_variance_images_are_decoded_with_the_smaller():
    """Ho et al. 2020, released code: see ``VARIANCES``."""
    noise = Noise(variance="large", prediction="x0")
    batch = ImageBatch(PIXELS[:2], LABELS[:2], ONES[:2])

    def bound_term(schedule, x0, x, t, guess, log_var, levels):
        first = diffusion.at(np.arange(1000), t, x) == 0
        return diffusion.mean_of_images(jnp.where(first, log_var, 0.0))

    with mock.patch.object(diffusion, "bound_term", bound_term):
        run = functools.partial(Objective(noise).eval_sums, nothing, {})
        sums = jax.jit(run)(batch)
    prior = diffusion.prior_term(noise.make_schedule(), to_signal(batch.images))
    wanted = 2 * np.log(noise.make_schedule().variances[1]) + prior.sum()
    np.testing.assert_allclose(sums["bound"], wanted, rtol=1e-4)


def test_an_image_is_evaluated_at_steps_that_there_are():
    """Of the largest number below 1, too, which is rounded to it."""
    shares = jnp.array([0.0, np.nextafter(1, 0, dtype=np.float32)], jnp.float32)
    for steps in (2, 20, 1000, 100_000):
        ends = [step_at(level, shares, steps).tolist() for level in range(1 + LEVELS)]
        assert ends[0] == [0, 0]
        assert ends[1][0] == 1 and ends[-1][1] == steps - 1


def test_a_bit_of_the_bound_weighs_a_thousandth_of_each_step_beside_the_error():
    """openai/guided-diffusion, of which DiT's is a copy: ``_vb_terms_bpd``."""
    batch = ImageBatch(PIXELS, LABELS, ONES)

    def learned(params, batch, **_):
        return jnp.concatenate([0 * batch.images] * 2, axis=-1)

    @jax.jit
    def losses(batch):
        return [
            Objective(Noise(steps=500, variance=variance)).loss_sum(
                apply, {}, batch, train=True
            )[0]
            for variance, apply in (("learned", learned), ("small", nothing))
        ]

    a_bit = mock.Mock(return_value=jnp.full(6, math.log(2)))
    with mock.patch.object(diffusion, "bound_term", a_bit):
        with_bound, without = losses(batch)
    assert float(with_bound - without) == pytest.approx(6 * 500 / 1000, rel=1e-4)


def nothing(params, batch, *, rng, train):
    return 0 * batch.images


def test_a_model_that_sees_nothing_errs_by_all_of_the_noise_at_every_level():
    batch = ImageBatch(PIXELS, LABELS, ONES)
    _, _, scores = scored(Noise(steps=50), nothing, batch)
    levels = [x for name, x in scores.items() if name.startswith("noise_error_at")]
    assert len(levels) == LEVELS
    np.testing.assert_allclose(levels, 1, atol=0.4)
    assert scores["noise_error"] == pytest.approx(1, abs=0.15)
    assert scores["denoising_loss"] == pytest.approx(scores["noise_error"], rel=1e-5)


def test_scores_depend_on_no_order_no_batch_and_no_empty_rows():
    objective = Objective(Noise(steps=50))

    def sums(rows, weights):
        batch = ImageBatch(PIXELS[rows], LABELS[rows], np.array(weights, np.float32))
        return jax.jit(functools.partial(objective.eval_sums, nothing))({}, batch)

    whole = sums([0, 1, 2, 3], [1] * 4)
    parts = sums([3, 1], [1, 1]), sums([0, 2, 5], [1, 1, 0])
    added = jax.tree.map(jnp.add, *parts)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), added, whole)


def test_a_learned_variance_is_trained_by_the_bound_alone():
    """Nichol and Dhariwal 2021, section 3.1: the mean gets no gradient from it."""
    noise = Noise(steps=10, variance="learned")
    batch = ImageBatch(PIXELS, LABELS, ONES)

    def apply(params, batch, *, rng, train):
        mean, fraction = (jnp.full(batch.images.shape, p) for p in params)
        return jnp.concatenate([mean, fraction], axis=-1)

    def loss(params, noise=noise):
        return Objective(noise).loss_sum(apply, params, batch, train=True)[0]

    def fixed(mean):
        def apply(params, batch, **_):
            return jnp.full(batch.images.shape, mean)

        return Objective(Noise(steps=10)).loss_sum(apply, {}, batch, train=True)[0]

    of_mean, of_fraction = jax.jit(jax.grad(loss))((0.1, 0.2))
    assert of_fraction != 0
    np.testing.assert_allclose(of_mean, jax.jit(jax.grad(fixed))(0.1), rtol=1e-5)


def test_pixels_come_back_from_their_signal():
    np.testing.assert_array_equal(to_pixels(to_signal(PIXELS)), PIXELS)
