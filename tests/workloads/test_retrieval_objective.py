"""Images and texts: the objective, with a model that is a table of numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.tiny_pairs import pairs
from tfm_jax.layers.text.query_heads import Vectors
from tfm_jax.mesh import Config, make_mesh, put_batch
from tfm_jax.objectives.retrieval import (
    NEGATIVES,
    Objective,
    contrast,
    draw_negatives,
    similarity,
)

torch = pytest.importorskip("torch", reason="torch is the reference")
cross_entropy = torch.nn.functional.cross_entropy

COUNT, QUERIES, VOCAB, TEMPERATURE = 5, 3, 13, 0.3


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


IMAGES = unit(numbers(0, COUNT, QUERIES, 4))
TEXTS = unit(numbers(1, COUNT, 4))
LM_LOGITS = numbers(2, COUNT, 6, VOCAB)
MATCHES = numbers(3, COUNT, COUNT, 2)  # of image and text
BATCH = pairs((5, 3, 4, 2, 6))


def apply(params, *inputs, rng, train, method):
    """A model that knows an image by its number, and a text by its first word."""
    if method == "image_states":
        return jnp.arange(len(inputs[0]))[:, None, None]
    if method == "contrast":
        return Vectors(params["images"], params["texts"], params["temperature"])
    states, text = inputs
    if method == "lm_logits":
        return params["lm_logits"]
    texts = jnp.asarray(BATCH.tokens)
    same = jnp.all(text.tokens[:, None] == texts, axis=-1)
    return params["matches"][states[:, 0, 0], jnp.argmax(same, axis=1)]


PARAMS = dict(
    images=IMAGES,
    texts=TEXTS,
    temperature=np.float32(TEMPERATURE),
    lm_logits=LM_LOGITS,
    matches=MATCHES,
)


@functools.partial(jax.jit, static_argnums=(0, 1))
def gradients(objective, smoothing, batch, rng):
    def loss(params):
        total, count = objective.loss_sum(
            apply, params, batch, rng=rng, smoothing=smoothing, train=True
        )
        return total / count, count

    return jax.value_and_grad(loss, has_aux=True)(PARAMS)


def assert_equal(found, wanted, tensors):
    """A loss and its gradients are those of torch."""
    (loss, count), grads = found
    assert count == COUNT
    np.testing.assert_allclose(loss, wanted.item(), rtol=1e-5)
    wanted.backward()
    for name, x in tensors.items():
        grad = np.zeros(x.shape) if x.grad is None else x.grad.numpy()
        np.testing.assert_allclose(grads[name], grad, atol=1e-6, err_msg=name)


def as_tensors():
    return {k: torch.tensor(x, requires_grad=True) for k, x in PARAMS.items()}


def test_contrast_is_the_smoothed_cross_entropy_both_ways():
    """Li et al. 2023 as released: labels on the diagonal, a plain temperature."""
    x = as_tensors()
    cosines = torch.einsum("bqd,cd->bcq", x["images"], x["texts"])
    logits = cosines.max(-1)[0] / x["temperature"]
    own = torch.arange(COUNT)
    wanted = sum(
        cross_entropy(each, own, label_smoothing=0.1) / 2 for each in (logits, logits.T)
    )
    found = gradients(Objective(("contrastive",)), 0.1, BATCH, jax.random.key(0))
    assert_equal(found, wanted, x)


def test_a_batch_without_a_pair_has_a_gradient_of_zero():
    logits = np.random.default_rng(0).normal(size=(3, 3))
    none = np.zeros(3, bool), np.zeros((3, 3), bool)
    of = jax.jit(jax.value_and_grad(lambda x: contrast(x, *none, 0.1)["loss"]))
    loss, slope = of(logits)
    assert loss == 0 and not slope.any()


def test_the_image_says_its_text():
    x = as_tensors()
    labels = torch.tensor(np.where(BATCH.weights > 0, BATCH.labels, -100)).long()
    wanted = cross_entropy(
        x["lm_logits"].reshape(-1, VOCAB), labels.reshape(-1), label_smoothing=0.1
    )
    found = gradients(Objective(("generation",)), 0.1, BATCH, jax.random.key(0))
    assert_equal(found, wanted, x)


def test_a_match_is_told_from_the_negatives_of_both_kinds():
    """In the order and with the labels of the released code; smoothed they are not."""
    rng = jax.random.key(5)
    x = as_tensors()
    logits = similarity(IMAGES, TEXTS) / TEMPERATURE
    allowed = ~np.eye(COUNT, dtype=bool)
    drawn = jax.jit(draw_negatives)(logits, allowed, jax.random.fold_in(rng, 4))
    images, texts = map(np.asarray, drawn)
    assert not (images == np.arange(COUNT)).any()
    assert not (texts == np.arange(COUNT)).any()
    own = np.arange(COUNT)
    rows = np.concatenate([own, images, own]), np.concatenate([own, own, texts])
    labels = torch.tensor([1] * COUNT + [0] * 2 * COUNT)
    wanted = cross_entropy(x["matches"][rows], labels)
    objective = Objective(("contrastive", "matching"))
    both = gradients(objective, 0.1, BATCH, rng)
    one = gradients(Objective(("contrastive",)), 0.1, BATCH, rng)
    found = jax.tree.map(np.subtract, both, one)
    found = (found[0][0], COUNT), found[1]
    assert_equal(found, wanted, x)  # none of it moves the vectors


@pytest.mark.parametrize("objective", [Objective(), Objective(negatives="random")])
def test_eight_devices_have_the_negatives_and_gradients_of_one(objective):
    """One row each, so that every negative is another device's."""
    batch = pairs((5, 3, 4, 2, 6, 4, 3, 5))
    params = dict(
        images=unit(numbers(0, 8, QUERIES, 4)),
        texts=unit(numbers(1, 8, 4)),
        temperature=np.float32(TEMPERATURE),
        states=numbers(2, 8, 6),
        words=numbers(3, VOCAB, 6),
    )

    def model(params, *inputs, rng, train, method):
        if method == "image_states":
            return params["states"]
        if method == "contrast":
            return Vectors(params["images"], params["texts"], params["temperature"])
        states, text = inputs
        words = params["words"][text.tokens] + states[:, None]
        if method == "match":
            return words.sum(1)[:, :2]
        return words @ params["words"].T

    def run(devices):
        mesh = make_mesh(Config(), jax.devices()[:devices])
        loss_sum = functools.partial(objective.loss_sum, model, train=True)
        with jax.set_mesh(mesh):
            step = jax.jit(jax.value_and_grad(loss_sum, has_aux=True))
            return jax.device_get(
                step(params, put_batch(mesh, batch), rng=jax.random.key(1))
            )

    (one, count), alone = run(1)
    (many, counts), spread = run(8)
    assert count == counts == 8
    np.testing.assert_allclose(many, one, rtol=1e-5)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
        *(spread, alone),
    )


def test_negatives_are_drawn_by_the_softmax_of_what_is_allowed():
    logits = np.array([[3.0, 1.0, 0.0], [0.5, 9.0, 1.5], [0.0, 0.0, 2.0]], np.float32)
    allowed = ~np.eye(3, dtype=bool)
    allowed[2] = False  # a row of one text alone
    keys = jax.random.split(jax.random.key(0), 4_000)
    drawn = jax.jit(jax.vmap(lambda key: draw_negatives(logits, allowed, key)))(keys)
    for axis, found in zip((0, 1), drawn, strict=True):
        scores = np.where(allowed, np.exp(logits), 0)
        scores = scores.T if axis == 0 else scores
        for row, chances in enumerate(scores):
            if chances.any():
                share = np.bincount(found[:, row], minlength=3) / len(keys)
                np.testing.assert_allclose(
                    share, chances / chances.sum(), atol=0.03, err_msg=f"{axis} {row}"
                )
    assert np.all(NEGATIVES["random"](logits) == 0)


def test_equal_texts_and_equal_images_share_what_is_positive():
    """As in the released code for several texts of an image; none is a negative."""
    logits = numbers(7, 4, 4)
    real = np.array([True, True, True, False])
    same = np.eye(4, dtype=bool) & real
    same[0, 1] = same[1, 0] = True
    sums = jax.jit(contrast)(logits, real, same, 0.1)
    loss = 0.0
    for each in (logits, logits.T):
        score = np.log(np.exp(each) / np.exp(each[:, :3]).sum(1, keepdims=True))
        for row in range(3):
            share = same[row, :3] / same[row].sum()
            loss -= ((0.9 * share + 0.1 / 3) * score[row, :3]).sum() / 2
    np.testing.assert_allclose(sums["loss"], loss, rtol=1e-5)
    assert sums["weight"] == 3


def test_rows_without_a_pair_change_nothing():
    """The last batch of a split is filled up with them."""
    batch = pairs((5, 3, 4), empty=2)
    run = jax.jit(functools.partial(Objective().eval_sums, apply))

    def sums(rows):
        params = {
            name: PARAMS[name][:rows] for name in ("images", "texts", "lm_logits")
        }
        short = jax.tree.map(lambda x: x[:rows], batch)
        return run(PARAMS | params, short)

    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), sums(5), sums(3)
    )


def test_texts_are_exact_whose_every_token_is_the_likeliest():
    wrong = 5 * np.eye(VOCAB, dtype=np.float32)[BATCH.labels]
    wrong[2, 1] *= -1
    objective = Objective(("generation",))
    sums = jax.jit(functools.partial(objective.eval_sums, apply))
    scores = objective.scores(sums({"lm_logits": wrong}, BATCH), {})
    assert scores["exact"] == pytest.approx(4 / 5)
    assert scores["accuracy"] == pytest.approx(19 / 20)
    assert scores["retrieval_loss"] == scores["nll"] and scores["pairs"] == 5
