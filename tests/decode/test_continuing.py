import itertools

import jax
import numpy as np
import pytest
from flax import linen as nn

from tests.models.tiny_text import V, run, tiny
from tfm_jax.data.batch import TextBatch
from tfm_jax.decode import continuing
from tfm_jax.decode.continuing import best_continuations, continuations
from tfm_jax.decode.sampling import Sampling, generate
from tfm_jax.decode.search import Search, TokenIds
from tfm_jax.mesh import RULES, Config, make_mesh
from tfm_jax.models import gpt

LETTERS = "_abcdefghijklmnopqr"  # V of them


class Letters:
    """A token is a letter; "_" is no text."""

    def encode(self, texts):
        return [np.array([LETTERS.index(c) for c in text], np.int32) for text in texts]

    def decode(self, rows):
        return ["".join(LETTERS[i] for i in row if i) for row in rows]

    def unspelled(self, rows):
        return ()


@pytest.fixture(scope="module")
def parts():
    model, params = tiny(gpt, windows=(3, 0))
    return model, jax.tree.map(lambda x: 2 * x, params), Letters()


def log_probs(parts, texts):
    """[B, V] log-probabilities of what follows texts of one length."""
    model, params, tokenizer = parts
    tokens = np.stack(tokenizer.encode(texts))
    whole = np.zeros((len(tokens), 12), np.int32)
    whole[:, : tokens.shape[1]] = tokens
    logits = run(model, params, TextBatch(whole, np.ones_like(whole)))
    return np.asarray(jax.nn.log_softmax(logits[:, tokens.shape[1] - 1]))


def test_a_wide_beam_finds_the_likeliest_continuations(parts):
    """Of all V^2 continuations of two tokens, and those that end before."""
    end, prompts = 3, ["abd", "d"]
    found = continuations(
        *parts, prompts, max_tokens=2, beam=V, samples=4, length_penalty=0.0, end=end
    )
    words = LETTERS[1:]
    for prompt, best in zip(prompts, found, strict=True):
        [first] = log_probs(parts, [prompt])
        second = log_probs(parts, [prompt + c for c in LETTERS])
        scores = {LETTERS[end]: first[end]}
        for a, b in itertools.product(range(V), repeat=2):
            if a != end:
                scores[LETTERS[a] + LETTERS[b]] = first[a] + second[a, b]
        order = sorted(scores, key=scores.get, reverse=True)[:4]
        written = ["".join(c for c in t if c in words) for t in order]
        assert best == [t.removesuffix(LETTERS[end]) for t in written]


def test_a_beam_of_one_is_greedy(parts):
    prompts = [[3, 5, 2], [4]]
    how = Search(1, 0.0, 5, TokenIds(eos=-1, forbid=()), returned=1)
    beam = best_continuations(*parts[:2], prompts, how)
    greedy = generate(*parts[:2], prompts, Sampling(5, temperature=0.0))
    np.testing.assert_array_equal(beam.tokens, greedy.tokens)
    np.testing.assert_allclose(beam.scores, greedy.scores, atol=1e-5)


def test_samples_do_not_depend_on_the_batches(parts, monkeypatch):
    settings = dict(max_tokens=6, samples=2, seed=5)
    prompts, done = ["ab", "ab", "cd"], []
    whole = continuations(*parts, prompts, **settings, on_batch=done.append)
    assert done == [3]
    assert whole[0] != whole[1], "each prompt has draws of its own"
    monkeypatch.setattr(continuing, "BATCH_PROMPTS", 1)
    assert continuations(*parts, prompts, **settings) == whole
    assert continuations(*parts, prompts, **(settings | {"seed": 6})) != whole
    assert continuations(*parts, [], **settings) == []


def test_a_continuation_starts_and_ends_with_what_it_is_told(parts):
    """Nothing to continue, but a start token; what ends a text is not part of it."""
    settings = dict(max_tokens=4, temperature=3.0)
    [[drawn]] = continuations(*parts, [""], start=2, **settings)
    [[same]] = continuations(*parts, ["b"], **settings)
    assert drawn == same and len(drawn) == 4
    place = max(drawn.index(letter) for letter in drawn)  # the last letter that is new
    assert place > 0
    [[ended]] = continuations(
        *parts, ["b"], end=LETTERS.index(drawn[place]), **settings
    )
    assert ended == drawn[:place]


class FewLetters(Letters):
    """The model's table has more rows than there are tokens."""

    def unspelled(self, rows):
        return tuple(range(4, rows))


def test_what_has_no_spelling_is_not_written(parts):
    parts = *parts[:2], FewLetters()
    settings = dict(max_tokens=3, samples=3, temperature=9.0, beam=0)
    drawn = continuations(*parts, ["ab"], **settings)
    best = continuations(*parts, ["ab"], max_tokens=2, beam=3, samples=3)
    assert {*"".join(drawn[0] + best[0])} <= {*LETTERS[1:4]}
    assert len({*"".join(drawn[0])}) > 1


def test_what_cannot_be_continued_is_refused(parts):
    with pytest.raises(ValueError, match="prompt '' has no token"):
        continuations(*parts, ["a", ""])
    with pytest.raises(
        ValueError, match="prompt 1 has 9 tokens.* takes 12.* may have 8"
    ):
        continuations(*parts, ["a", "abcabcabc"], max_tokens=5)
    continuations(*parts, ["abcabcabc"], max_tokens=4)
    with pytest.raises(ValueError, match="samples=3 must be in 1 .. beam=2"):
        continuations(*parts, ["a"], max_tokens=2, beam=2, samples=3)


def test_it_is_called_amid_training_on_many_devices(parts):
    settings = dict(max_tokens=3, temperature=0.0)
    wanted = continuations(*parts, ["ab", "cde", "f"], **settings)
    mesh = make_mesh(Config(data=4, fsdp=2))
    with jax.set_mesh(mesh), nn.logical_axis_rules(RULES):
        assert continuations(*parts, ["ab", "cde", "f"], **settings) == wanted
