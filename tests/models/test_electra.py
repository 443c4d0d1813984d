import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.tiny_text import TINY, V, rows, run, sizes, tiny
from tfm_jax.data.batch import MaskedBatch
from tfm_jax.models import electra
from tfm_jax.models.electra import HEADS, SHARES, fill

SMALL = dict(
    embedding_width=6,
    generator_width=4,
    generator_heads=1,
    generator_ffn_width=10,
    generator_depth=1,
)
EQUAL = dict(
    embedding_width=6,
    generator_width=8,
    generator_heads=2,
    generator_ffn_width=12,
    generator_depth=2,
)


def millions(found, *prefixes):
    return round(sum(n for k, n in found.items() if k.startswith(prefixes)) / 1e6, 2)


@pytest.mark.parametrize(
    "size, wanted", [("small", 13.55), ("base", 109.48), ("large", 335.14)]
)
def test_parameters_are_as_many_as_published(size, wanted):
    layout = "unrolled" if size == "small" else "scanned"  # of which a layer is traced
    cfg = electra.Config(vocab=30_522, **electra.SIZES[size], layout=layout)
    found = sizes(electra.Electra(cfg))
    assert millions(found, "discriminator", "replaced") == wanted
    if size == "small":
        assert millions(found, "generator", "lm") == 0.65


def masked(lengths=(5, 3), at_places=True):
    """A batch in which two words of each row are masked (by 0) and asked for."""
    batch = rows(list(lengths), 6)
    places = np.array([[1, 3, 0], [0, 2, 0]], np.int32)
    weights = np.array([[1, 1, 0], [1, 1, 0]], np.float32)
    labels = np.take_along_axis(batch.tokens, places, 1)
    tokens = batch.tokens.copy()
    np.put_along_axis(tokens, places[:, :2], 0, 1)
    batch = batch._replace(tokens=tokens)
    if at_places:
        return MaskedBatch(*batch, labels, weights, places)
    wide = np.zeros(tokens.shape, np.int32), np.zeros(tokens.shape, np.float32)
    for array, values in zip(wide, (labels, weights), strict=True):
        np.put_along_axis(array, places[:, :2], values[:, :2], 1)
    return MaskedBatch(*batch, *wide)


@pytest.mark.parametrize("at_places", [True, False])
def test_samples_stand_where_words_were_asked_for(at_places):
    batch, key = masked(at_places=at_places), jax.random.key(0)
    whole = rows([5, 3], 6).tokens
    shape = (*batch.labels.shape, V)
    sure = 1e4 * jax.nn.one_hot(batch.labels, V)
    tokens, replaced = fill(batch, sure, key)
    np.testing.assert_array_equal(tokens, whole)  # a correct guess is no replacement
    assert not replaced.any()
    tokens, replaced = fill(batch, jnp.roll(sure, 1, -1), key)
    asked = np.array([[0, 1, 0, 1, 0, 0], [1, 0, 1, 0, 0, 0]], bool)
    np.testing.assert_array_equal(replaced, asked)
    np.testing.assert_array_equal(tokens, np.where(asked, (whole + 1) % V, whole))
    assert not jax.grad(lambda x: fill(batch, x, key)[0].sum() * 1.0, allow_int=True)(
        jnp.zeros(shape)
    ).any()


def test_samples_follow_the_softmax_of_the_logits():
    logits = jnp.log(jnp.array([0.1, 0.6, 0.3]))
    n = 4000
    batch = MaskedBatch(
        tokens=np.zeros((n, 1), np.int32),
        segments=np.ones((n, 1), np.int32),
        labels=np.zeros((n, 1), np.int32),
        weights=np.ones((n, 1), np.float32),
    )
    tokens, _ = fill(batch, jnp.broadcast_to(logits, (n, 1, 3)), jax.random.key(3))
    share = np.bincount(tokens[:, 0], minlength=3) / n
    np.testing.assert_allclose(share, [0.1, 0.6, 0.3], atol=0.03)


def test_the_generator_learns_nothing_from_the_discriminator():
    model, params = tiny(electra, **SMALL)
    batch = masked()

    @jax.jit
    @jax.grad
    def by_scores(params):
        return model.apply({"params": params}, batch, train=False).scores.sum()

    @jax.jit
    @jax.grad
    def by_words(params):
        return (
            model.apply({"params": params}, batch, train=False).lm_logits ** 2
        ).sum()

    reached = jax.tree.map(lambda x: bool(np.any(x)), by_scores(params))
    assert not any(jax.tree.leaves([reached["generator"], reached["lm"]]))
    assert all(jax.tree.leaves(reached["replaced"]))
    reached = jax.tree.map(lambda x: bool(np.any(x)), by_words(params))
    assert not any(jax.tree.leaves([reached["replaced"]]))
    assert not any(jax.tree.leaves(reached["discriminator"]["stack"]))
    assert all(jax.tree.leaves(reached["discriminator"]["embedding"]["word"]))


def test_joint_training_is_the_two_parts_one_after_the_other():
    model, params = tiny(electra, **SMALL)
    batch = masked()
    found = run(model, params, batch)
    assert found.lm_logits.shape == (2, 3, V) and found.scores.shape == (2, 6)

    @functools.partial(jax.jit, static_argnums=0)
    def part(method, batch):
        return model.apply({"params": params}, batch, method=method, train=False)

    words = part("generate", batch)
    np.testing.assert_allclose(found.lm_logits, words, atol=1e-5)
    tokens, replaced = fill(batch, found.lm_logits, jax.random.key(0))
    np.testing.assert_array_equal(found.tokens, tokens)
    np.testing.assert_array_equal(found.replaced, replaced)
    filled = batch._replace(tokens=np.asarray(tokens))
    scores = part("discriminate", filled)
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)


@pytest.mark.parametrize("head", ["replace_mlm", "all_tokens_mlm"])
def test_a_discriminator_that_restores_words_reads_what_was_filled_in(head):
    model, params = tiny(electra, head=head, **SMALL)
    batch, whole = masked(), rows([5, 3], 6).tokens
    found = run(model, params, batch)
    tokens, replaced = fill(batch, found.lm_logits, jax.random.key(0))
    filled = batch._replace(tokens=np.asarray(tokens))
    states = run(model, params, filled, "encode")
    restore = functools.partial(model.apply, method="restore_lm_logits")
    wanted = jax.jit(restore)({"params": params}, states)
    if head == "all_tokens_mlm":
        np.testing.assert_array_equal(found.original, whole)
        np.testing.assert_array_equal(found.same, ~np.asarray(replaced))
        assert found.copy.shape == (2, 6)
    else:
        np.testing.assert_array_equal(found.original, batch.labels)
        wanted = np.take_along_axis(wanted, batch.target_positions[..., None], 1)
    np.testing.assert_allclose(found.restored, wanted, atol=1e-5)


def test_samples_follow_the_dropout_key():
    model, params = tiny(electra, dropout=0.0, attention_dropout=0.0, **SMALL)
    batch = masked()

    @jax.jit
    def tokens(key):
        rngs = {"dropout": key}
        return model.apply({"params": params}, batch, train=True, rngs=rngs).tokens

    drawn = [np.asarray(tokens(jax.random.key(i))) for i in (0, 0, 1, 2, 3)]
    assert np.array_equal(drawn[0], drawn[1])
    assert any(not np.array_equal(drawn[0], x) for x in drawn[2:])


@pytest.mark.parametrize(
    "share, generator",
    [
        ("none", {"embedding", "stack"}),
        ("tokens", {"embedding", "stack"}),
        ("all", None),
    ],
)
def test_what_is_shared_has_one_copy(share, generator):
    model, params = tiny(electra, share=share, **EQUAL)
    assert set(params.get("generator", ())) == (generator or set())
    if generator:
        tables = {"word", "type", "position", "norm"} if share == "none" else set()
        assert set(params["generator"]["embedding"]) == tables | {"map"}
    assert set(params["discriminator"]) == {"embedding", "stack"}
    batch = masked()
    if share == "all":  # the generator is the discriminator's encoder
        states = run(model, params, batch, "encode")
        found = run(model, params, batch, electra.SHARES["all"].states)
        np.testing.assert_array_equal(found, states)


SHAPES = {
    "masked_lm": ((2, 3, V), {"discriminator", "generator", "lm"}),
    "replaced": ((2, 6), {"discriminator", "replaced"}),
    "classify": ((2, 3), {"discriminator", "head"}),
    "tag": ((2, 6, 3), {"discriminator", "head"}),
    "span": ((2, 2, 6), {"discriminator", "head"}),
    "states": ((2, 6, 8), {"discriminator"}),
}


@pytest.mark.parametrize("head", SHAPES)
def test_a_head_has_its_shape_and_no_parameters_of_others(head):
    model, params = tiny(electra, head=head, labels=3, **SMALL)
    shape, parts = SHAPES[head]
    assert run(model, params, masked()).shape == shape
    assert set(params) == parts
    joint = {"pretraining", "replace_mlm", "all_tokens_mlm"}
    assert set(SHAPES) | joint == set(HEADS)
    assert set(SHARES) == {"none", "tokens", "all"}


def test_what_does_not_fit_is_refused():
    for change, message in [
        (dict(generator_heads=3), "model.generator_heads=3 must divide"),
        (dict(generator_depth=0), "model.generator_depth=0 must be positive"),
        (
            dict(share="all"),
            "model.share='all' needs model.generator_width=4 to be model.width=8",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            electra.Config(**(TINY | SMALL | change))
    electra.Config(**(TINY | EQUAL | dict(share="all")))
