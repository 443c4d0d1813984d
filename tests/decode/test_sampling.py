import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.tiny_text import run, tiny
from tfm_jax.data.batch import TextBatch
from tfm_jax.decode.sampling import (
    Sampling,
    checked,
    draw,
    generate,
    keep_likeliest,
    sample,
)
from tfm_jax.models import gpt

PROBABILITY = np.array([0.4, 0.05, 0.3, 0.15, 0.1])
LOGITS = jnp.asarray(np.log(PROBABILITY), jnp.float32)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (dict(), {0, 1, 2, 3, 4}),
        (dict(top_k=2), {0, 2}),
        (dict(top_k=9), {0, 1, 2, 3, 4}),
        (dict(top_p=0.01), {0}),
        (dict(top_p=0.45), {0, 2}),
        (dict(top_p=0.75), {0, 2, 3}),
        (dict(top_p=0.999), {0, 1, 2, 3, 4}),
        (dict(top_k=3, top_p=0.8), {0, 2}),  # 0.4 and 0.3 of 0.85
        (dict(top_k=1, top_p=0.8), {0}),
    ],
)
def test_exactly_the_likeliest_tokens_are_kept(options, kept):
    found = keep_likeliest(jnp.stack([LOGITS, LOGITS[::-1]]), **options)
    assert set(np.flatnonzero(np.isfinite(found[0]))) == kept
    np.testing.assert_array_equal(found[1], found[0][::-1])
    some = sorted(kept)
    np.testing.assert_array_equal(found[0][np.array(some)], LOGITS[np.array(some)])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_as_often_as_they_are_likely(temperature):
    count = 20_000
    how = Sampling(1, temperature=temperature, forbid=(1,))
    logits = jnp.broadcast_to(LOGITS, (count, 5))
    tokens = np.asarray(draw(logits, jax.random.key(0), how))
    wanted = PROBABILITY ** (1 / temperature) * (np.arange(5) != 1)
    wanted /= wanted.sum()
    found = np.bincount(tokens, minlength=5) / count
    np.testing.assert_allclose(found, wanted, atol=4 * np.sqrt(0.25 / count))
    assert found[1] == 0


def test_without_temperature_the_likeliest_allowed_token_is_taken():
    how = Sampling(1, temperature=0.0)
    assert draw(LOGITS, None, how) == 0
    assert draw(LOGITS, None, how._replace(forbid=(0, 4))) == 2


@pytest.mark.parametrize(
    "change",
    [
        dict(max_tokens=0),
        dict(samples=0),
        dict(temperature=-1.0),
        dict(top_k=-1),
        dict(top_p=0.0),
        dict(top_p=1.5),
    ],
)
def test_what_makes_no_sense_is_refused(change):
    (name,) = change
    with pytest.raises(ValueError, match=f"{name}="):
        checked(Sampling(1)._replace(**change))


def counting(tokens, cache):
    """The token after t is t + 1 with probability 3/4, else t + 2."""
    ones = jax.nn.one_hot((tokens + 1) % 8, 8), jax.nn.one_hot((tokens + 2) % 8, 8)
    return jnp.log(0.75 * ones[0] + 0.25 * ones[1] + 1e-30), cache + 1


def test_a_continuation_ends_with_eos_and_is_scored_by_the_model():
    start = jnp.array([[0, 0], [4, 3], [6, 6]], jnp.int32)
    keys = jax.random.split(jax.random.key(0), 3)
    how = Sampling(4, samples=2, temperature=0.0, eos=7, pad=9)
    found = jax.jit(lambda: sample(counting, 0, start, keys, how))()
    assert found.tokens.tolist() == [
        [[1, 2, 3, 4], [1, 2, 3, 4]],
        [[5, 6, 7, 9], [4, 5, 6, 7]],
        [[7, 9, 9, 9], [7, 9, 9, 9]],
    ]
    np.testing.assert_array_equal(found.lengths, [[4, 4], [3, 4], [1, 1]])
    np.testing.assert_allclose(found.scores, found.lengths * np.log(0.75), rtol=1e-5)


def test_a_row_is_drawn_the_same_whatever_stands_beside_it():
    keys = jax.random.split(jax.random.key(1), 6)
    start = jnp.tile(jnp.arange(6, dtype=jnp.int32)[:, None], (1, 4))
    how = Sampling(12, samples=4)
    draw_all = jax.jit(functools.partial(sample, counting, 0, how=how))
    whole = draw_all(start, keys)
    alone = draw_all(start[2:3], keys[2:3])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[2:3], b), whole, alone)
    assert len({tuple(row) for row in whole.tokens[2].tolist()}) > 1
    chance = np.isin(np.diff(whole.tokens) % 8, 1).mean()
    assert 0.6 < chance < 0.9


def test_greedy_generation_is_the_argmax_of_the_full_forward_pass():
    """Prompts of different lengths go on together, W of them from one past."""
    model, params = tiny(gpt, windows=(3, 0))
    params = jax.tree.map(lambda x: 2 * x, params)
    prompts = [[3, 5, 2, 7], [4], [9, 1]]
    found = generate(model, params, prompts, Sampling(5, samples=2, temperature=0.0))
    assert found.tokens.shape == (3, 2, 5)
    np.testing.assert_array_equal(found.tokens[:, 0], found.tokens[:, 1])
    for prompt, tokens, score in zip(
        prompts, found.tokens[:, 0], found.scores[:, 0], strict=True
    ):
        whole = np.zeros((1, 9), np.int32)
        text = [*prompt, *tokens.tolist()]
        whole[0, : len(text)] = text
        logits = run(model, params, TextBatch(whole, (whole >= 0).astype(np.int32)))
        here = np.arange(len(prompt) - 1, len(text) - 1)
        np.testing.assert_array_equal(logits[0, here].argmax(-1), tokens)
        score_of = jax.nn.log_softmax(logits[0, here])[np.arange(5), tokens]
        np.testing.assert_allclose(score, score_of.sum(), atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "temperature"),
    [
        (dict(norm="pre", positions="learned", depth=1), 1.0),
        (dict(norm="post", positions="rotary", depth=1), 1.0),
        (dict(norm="pre", positions="alibi", windows=(3, 0)), 1.0),
        (dict(norm="post", positions="learned", windows=(2,)), 1.0),
        (dict(norm="pre", positions="rotary", windows=(2,), depth=1), 0.0),
    ],
    ids=lambda x: "-".join(map(str, x.values())) if isinstance(x, dict) else f"{x}",
)
def test_the_cache_changes_no_token(changes, temperature):
    """Greedy or drawn with the same key, for prompts of different lengths."""
    model, params = tiny(gpt, **changes)
    params = jax.tree.map(lambda x: 2 * x, params)
    prompts = [[3, 5, 2, 7], [4], [9, 1]]
    how = Sampling(6, samples=2, temperature=temperature, eos=11)
    cached, plain = (
        generate(model, params, prompts, how, seed=4, cached=cached)
        for cached in (True, False)
    )
    np.testing.assert_array_equal(cached.tokens, plain.tokens)
    np.testing.assert_array_equal(cached.lengths, plain.lengths)
    np.testing.assert_allclose(cached.scores, plain.scores, atol=1e-4)
    assert len(np.unique(plain.tokens)) > 2


def test_a_prompt_needs_a_token():
    model, params = tiny(gpt, windows=(3, 0))
    with pytest.raises(ValueError, match="at least one token"):
        generate(model, params, [[1], []], Sampling(1))
