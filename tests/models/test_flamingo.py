"""Flamingo: shut gates, who sees which image, decoding, published sizes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from tests.layers.weights import randomised
from tfm_jax.config import build, with_defaults
from tfm_jax.data.batch import ImageTextBatch, TextBatch
from tfm_jax.layers.layout import init_params
from tfm_jax.models import gpt
from tfm_jax.models.flamingo import SIZES, Config, Flamingo
from tfm_jax.objectives import visual_lm
from tfm_jax.ops.losses import FactoredLogits

B, T, N, V, W = 2, 6, 3, 11, 2
VISION = dict(width=8, heads=2, ffn_width=12, depth=1)
VISION |= dict(image_size=(4,), patch_size=(2,), channels=1)
LANGUAGE = dict(width=8, heads=2, ffn_width=12, depth=3, positions="rotary")
RESAMPLER = dict(depth=1, latents=2, heads=2, frames=2)
TINY = dict(vision=VISION, lm=LANGUAGE, resampler=RESAMPLER, vocab=V, gated_every=2)
INDEX = np.array([[0, 1, 1, 2, 2, 3], [0, 0, 1, 1, 1, 1]], np.int32)
COUNTS, LENGTHS = np.array([3, 1], np.int32), np.array([6, 5])
REAL = (np.arange(T) < LENGTHS[:, None]).astype(np.int32)
TOKENS = np.random.default_rng(0).integers(1, V, (B, T)).astype(np.int32) * REAL
IMAGES = np.random.default_rng(1).normal(size=(B, N, 4, 4, 1)).astype(np.float32)


def config_of(**sections):
    return build(Config, with_defaults(Config, sections))


def batch_of(images):
    fields = TOKENS, REAL, None, None, None, None, images, COUNTS, INDEX * REAL
    return ImageTextBatch(*fields)


def initial(model):
    return init_params(model, jax.random.key(0), visual_lm.example())


@functools.cache
def case(**changes):
    """(model, parameters that look trained, gates open)."""
    model = Flamingo(config_of(**TINY | changes))
    return model, randomised(jax.eval_shape(lambda: initial(model)))


@functools.partial(jax.jit, static_argnums=0)
def run(model, params, batch):
    return model.apply({"params": params}, batch, train=False)


def shut(params):
    flat = flatten_dict(params, sep="/")
    for path in flat:
        if path.endswith("/alpha"):
            flat[path] = np.zeros_like(flat[path])
    return unflatten_dict(flat, sep="/")


def test_with_its_gates_shut_it_is_the_language_model_to_the_last_bit():
    model, params = case()
    language = gpt.Gpt(model.cfg.language())
    own = {
        path.removeprefix("lm/"): x
        for path, x in flatten_dict(params, sep="/").items()
        if path.startswith("lm/") and "/gated_" not in path
    }
    alone = jax.jit(functools.partial(language.apply, train=False))
    wanted = alone({"params": unflatten_dict(own, sep="/")}, TextBatch(TOKENS, REAL))
    batch = batch_of(IMAGES)
    np.testing.assert_array_equal(run(model, shut(params), batch), wanted)
    assert np.abs(run(model, params, batch) - wanted).max() > 1e-2


def test_at_the_start_of_all_that_is_new_only_the_gates_have_a_gradient():
    every = dict(lm=LANGUAGE | dict(depth=2), gated_every=1)
    model = Flamingo(config_of(**TINY | every))

    @jax.jit
    @jax.grad
    def gradient(params):
        logits = run(model, params, batch_of(IMAGES))
        return jnp.mean(jax.nn.log_softmax(logits)[..., 1])

    params = jax.jit(lambda: initial(model))()
    grads = flatten_dict(gradient(params), sep="/")
    new = {
        k: x for k, x in grads.items() if "/gated_" in k or k.startswith("resampler")
    }
    gates = {path for path in new if path.endswith("/alpha")}
    assert {path for path, x in new.items() if np.any(x)} == gates and len(gates) == 4


def test_a_frozen_language_model_has_no_dropout_and_a_loss_in_chunks():
    """Without a key for dropout; its logits stay factored."""
    language = dict(LANGUAGE, dropout=0.5, loss_chunk=4)
    model = Flamingo(config_of(**TINY | {"lm": language}), ("vision", "lm"))
    call = functools.partial(model.apply, batch=batch_of(IMAGES), train=True)
    logits = jax.eval_shape(call, {"params": case()[1]})
    assert isinstance(logits, FactoredLogits)


def jacobian(model, params):
    """[B, T, B, N]: how much the logits of a token move with an image."""

    def logits(images):
        return jnp.sum(run(model, params, batch_of(images)) ** 2, axis=-1)

    moved = jax.jit(jax.jacrev(logits))(IMAGES)
    return np.abs(moved).sum(axis=(-1, -2, -3))


@pytest.mark.parametrize("seen", ["last", "all"])
def test_no_token_depends_on_an_image_behind_it_or_on_another_row(seen):
    """That row 0 has text before any image is where published code leaks."""
    moved = jacobian(*case(seen=seen))
    real = REAL[..., None, None] > 0
    behind = np.arange(N) < INDEX[..., None]  # images up to each token
    wanted = behind[:, :, None] & np.eye(B, dtype=bool)[:, None, :, None]
    np.testing.assert_array_equal((moved > 0) & real, wanted & real)


def weights(model, params):
    apply = functools.partial(model.apply, train=False, mutable=["intermediates"])
    _, kept = jax.jit(apply)({"params": params}, batch_of(IMAGES))
    layer = kept["intermediates"]["lm"]["stack"]["layer_2"]
    return layer["gated_cross_attention"]["weights"][0].mean(axis=1)  # [B, T, N L]


@pytest.mark.parametrize("seen", ["last", "all"])
def test_a_token_attends_to_the_latest_image_alone_or_to_all_before_it(seen):
    attended = weights(*case(seen=seen)).reshape(B, T, N, -1).sum(axis=-1)
    number = np.arange(1, N + 1)
    wanted = number == INDEX[..., None]
    if seen == "all":
        wanted = number <= INDEX[..., None]
    np.testing.assert_array_equal((attended > 0)[REAL > 0], wanted[REAL > 0])
    sees = INDEX * REAL > 0
    np.testing.assert_allclose(attended.sum(axis=-1)[sees], 1.0, atol=1e-6)
    np.testing.assert_array_equal(attended[~sees], 0.0)


@functools.partial(jax.jit, static_argnums=(0, 3))
def decoded(model, params, tokens, size):
    """Logits of the tokens behind a prompt of ``size`` columns, one by one."""
    bound = model.bind({"params": params})
    lengths = jnp.minimum(LENGTHS, size)
    options = dict(images=IMAGES, image_counts=COUNTS, image_index=INDEX)
    cache = bound.prefill(tokens[:, :size], lengths, width=W, max_length=T, **options)
    logits_of = []
    for t in range(size, T):
        logits, cache = bound.step(jnp.repeat(tokens[:, t : t + 1], W, 1), cache)
        cache = cache.select(jnp.array([[1, 0]] * B))
        logits_of.append(logits)
    return jnp.stack(logits_of, axis=1)


def test_cached_decoding_behind_a_prompt_with_images_equals_the_full_pass():
    model, params = case()
    size = T - 1  # all images stand in the prompt, of which row 1 has no padding
    whole = run(model, params, batch_of(IMAGES))
    steps = decoded(model, params, TOKENS, size)
    for w in range(W):
        np.testing.assert_allclose(steps[0, :, w], whole[0, size:], atol=1e-5)


def test_a_shorter_prompt_is_continued_as_if_it_stood_alone():
    model, params = case()
    steps = decoded(model, params, TOKENS, T - 1)[1]
    tokens = np.where(np.arange(T) == LENGTHS[1], TOKENS[:, -1:], TOKENS)
    whole = run(
        model,
        params,
        batch_of(IMAGES)._replace(
            tokens=tokens, segments=np.ones((B, T), np.int32), image_index=INDEX
        ),
    )
    np.testing.assert_allclose(steps[0, 0], whole[1, LENGTHS[1]], atol=1e-5)


def test_frames_of_a_video_are_told_apart_and_more_of_them_are_interpolated():
    model, params = case()

    @functools.partial(jax.jit, static_argnums=1)
    def resampled(images, reverse):
        images = images[:, :, ::-1] if reverse else images
        options = dict(train=False, method="resample")
        return model.apply({"params": params}, images, **options)

    videos = np.random.default_rng(2).normal(size=(1, 1, 3, 4, 4, 1)).astype(np.float32)
    forward, backward = resampled(videos, False), resampled(videos, True)
    assert forward.shape == (1, 1, RESAMPLER["latents"], VISION["width"])
    assert np.abs(forward - backward).max() > 1e-3
    frame = params["resampler"]["frame"]
    between = np.stack([frame[0], (frame[0] + frame[1]) / 2, frame[1]])
    np.testing.assert_allclose(
        jax.image.resize(frame, (3, 8), "linear")[1], between[1], atol=1e-6
    )


def parameters(sections):
    """First name of the path, or "gated" -> number of parameters."""
    model = Flamingo(config_of(**sections, vocab=V))
    shapes = jax.eval_shape(lambda: initial(model))
    counts = dict.fromkeys(("vision", "resampler", "lm", "gated"), 0)
    for path, x in flatten_dict(shapes, sep="/").items():
        name = "gated" if "/gated_" in path else path.partition("/")[0]
        counts[name] += math.prod(x.shape)
    return counts


@pytest.mark.parametrize(
    ("size", "layers", "gated"), [("3b", 24, 1.16), ("9b", 10, 1.80), ("80b", 12, 8.36)]
)
def test_published_sizes_have_the_parameters_that_their_widths_make(
    size, layers, gated
):
    """Layers of tables 4 and 5; the paper prints 1.2, 1.6 and 10 thousand million."""
    sections = SIZES[size]
    depth, every = sections["lm"]["depth"], sections["gated_every"]
    assert len(range(0, depth, every)) == layers
    short = {name: sections[name] | dict(depth=1) for name in ("vision", "lm")}
    counts = parameters(sections | short)
    assert counts["gated"] * layers / 1e9 == pytest.approx(gated, abs=0.005)
    assert counts["resampler"] / 1e6 == pytest.approx(170, abs=1)


@pytest.mark.parametrize("kind", ["transformer", "mlp", "none"])
def test_other_resamplers_keep_every_patch(kind):
    model = Flamingo(config_of(**TINY | dict(resampler=RESAMPLER | dict(kind=kind))))
    example = jnp.zeros((1, 2, 4, 4, 1))

    def resample():
        params = initial(model)
        options = dict(train=False, method="resample")
        return params, model.apply({"params": params}, example, **options)

    params, tokens = jax.eval_shape(resample)
    assert tokens.shape == (1, 2, 4, VISION["width"])
    assert ("stack" in params["resampler"]) == (kind != "none")
