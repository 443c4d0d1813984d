import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tfm_jax.decode.topk import best_tokens, chunked_top_k, top_k

SHAPES = [((3, 37), 5, 4), ((2, 2, 40), 3, 8), ((4, 16), 4, 4), ((1, 9), 1, 8)]
chunked = jax.jit(chunked_top_k, static_argnames=("k", "chunk"))


@hypothesis.settings(deadline=None, max_examples=150)
@hypothesis.given(st.data(), st.sampled_from(SHAPES))
def test_chunked_top_k_equals_lax_top_k_with_ties_and_infinities(data, case):
    shape, k, chunk = case
    few = st.sampled_from([-np.inf, -1.5, 0.0, 1.0, 2.0, 1e30])
    floats = st.floats(width=32, allow_nan=False).map(lambda x: x + 0.0)  # no -0.0
    x = data.draw(arrays.arrays(np.float32, shape, elements=few | floats))
    values, indices = chunked(x, k=k, chunk=chunk)
    expected_values, expected_indices = jax.lax.top_k(x, k)
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_array_equal(indices, expected_indices)


def test_top_k_of_a_large_vocabulary_is_exact_and_not_a_sort_on_cpu():
    x = np.random.default_rng(0).normal(size=(4, 2, 5003)).astype(np.float32)

    def first_half(x):
        values, indices = top_k(x, 8)
        return values[..., :4], indices[..., :4]  # the slice that tempts XLA to sort

    compiled = jax.jit(first_half).lower(x).compile()
    expected = np.argsort(-x, axis=-1, kind="stable")[..., :4]
    np.testing.assert_array_equal(compiled(x)[1], expected)
    np.testing.assert_array_equal(compiled(x)[0], np.take_along_axis(x, expected, -1))
    if jax.default_backend() == "cpu":
        sorts = [line for line in compiled.as_text().split("\n") if " sort(" in line]
        assert all(
            "f32[" not in line for line in sorts
        )  # only chunk numbers are sorted


@pytest.mark.parametrize("vocab, filling", [(7, 0), (3000, 0), (12, 5), (3000, 2900)])
def test_best_tokens_are_log_probabilities_over_the_whole_vocabulary(vocab, filling):
    logits = np.random.default_rng(1).normal(scale=9.0, size=(3, 2, vocab))
    logits = logits.astype(np.float32) + 1e4  # far from 0: no overflow
    logits[1, 0, vocab - filling :] += 200.0  # likelier than all that have a spelling
    forbid = (0, int(logits[0, 0].argmax()), *range(vocab - filling, vocab))
    found, ids = best_tokens(logits, 4, forbid)
    exact = logits.astype(np.float64)
    exact -= exact.max(-1, keepdims=True)
    exact -= np.log(np.exp(exact).sum(-1, keepdims=True))
    exact[..., forbid] = -np.inf
    expected = np.argsort(-exact, axis=-1)[..., :4]
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(
        found, np.take_along_axis(exact, expected, -1), atol=1e-4
    )


def test_places_that_no_allowed_token_is_left_for_are_impossible():
    found, _ = best_tokens(np.zeros((1, 4), np.float32), 3, forbid=(0, 1, 3))
    np.testing.assert_allclose(found, [[-np.log(4), -np.inf, -np.inf]], rtol=1e-6)
