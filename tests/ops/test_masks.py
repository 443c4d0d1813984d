import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax.test_util import check_grads

from tfm_jax.ops.masks import MASK_STYLES, Mask, combine, masked_softmax, to_bias

STYLES = tuple(MASK_STYLES)
EQUAL = ("before", "after_renormalised")


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# rows: all hidden, one visible, some visible, all visible
VISIBLE = np.array(
    [[0, 0, 0, 0, 0], [0, 0, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 1, 1, 1]], bool
)


def test_masked_softmax_is_the_softmax_of_the_visible_entries():
    logits = normal(0, 4, 5)
    weights = masked_softmax(jnp.asarray(logits) + to_bias(VISIBLE))
    np.testing.assert_array_equal(np.asarray(weights) > 0, VISIBLE)
    for row, seen, found in zip(logits[1:], VISIBLE[1:], weights[1:], strict=True):
        wanted = scipy.special.softmax(row[seen].astype(np.float64))
        np.testing.assert_allclose(found[seen], wanted, rtol=1e-6)
    np.testing.assert_array_equal(weights[0], 0.0)


def test_masked_softmax_derivatives_agree_with_finite_differences():
    bias = to_bias(VISIBLE)
    check_grads(
        lambda x: masked_softmax(x + bias), (normal(1, 4, 5),), order=2, eps=1e-2
    )


def test_masked_softmax_does_not_overflow():
    weights = masked_softmax(jnp.array([[1e30, 1e30, -1e30], [3e4, 0.0, -3e4]]))
    np.testing.assert_allclose(weights, [[0.5, 0.5, 0], [1, 0, 0]])


@pytest.mark.parametrize("style", STYLES)
def test_an_all_hidden_row_has_zero_weights_and_poisons_no_shared_projection(style):
    x, projection = normal(2, 4, 3), normal(3, 3, 5)

    def weighted(projection, x, visible):
        weights = MASK_STYLES[style](x @ projection, to_bias(visible))
        return jnp.sum(weights * normal(4, 4, 5)[-len(x) :]), weights

    run = jax.jit(jax.grad(weighted, (0, 1), has_aux=True))
    (grad, (dead, *_)), weights = run(projection, x, VISIBLE)
    (without, _), _ = run(projection, x[1:], VISIBLE[1:])
    np.testing.assert_array_equal(weights[0], 0.0)
    np.testing.assert_array_equal(dead, 0.0)
    np.testing.assert_allclose(grad, without, atol=1e-6)
    assert np.abs(grad).max() > 1e-3


@pytest.mark.parametrize("preference", (0.0, 3.0))
def test_masking_before_equals_masking_after_and_renormalising(preference):
    """Also with finite preferences on the logits, as ALiBi and T5 add them."""
    logits, readout = normal(5, 4, 5), normal(6, 4, 5)
    bias = combine(to_bias(VISIBLE), preference * normal(7, 4, 5))

    def read(logits, style):
        weights = MASK_STYLES[style](logits, bias)
        return jnp.sum(weights * readout), weights

    run = jax.jit(jax.grad(read, has_aux=True), static_argnums=1)
    before, after = (run(logits, style) for style in EQUAL)
    np.testing.assert_allclose(before[1], after[1], atol=1e-6)
    np.testing.assert_allclose(before[0], after[0], atol=1e-6)


def test_only_masking_after_the_softmax_leaks_through_the_denominator():
    hidden = ~VISIBLE[2]

    def first_weight(logits, style):
        return MASK_STYLES[style](logits, to_bias(VISIBLE))[2, 0]

    gradient = jax.jit(jax.grad(first_weight), static_argnums=1)
    for style in STYLES:
        to_hidden = gradient(normal(8, 4, 5), style)[2, hidden]
        leak = np.abs(to_hidden).min()
        assert (leak > 1e-3) if style == "after" else (leak < 1e-7)
        assert style != "before" or leak == 0.0


def test_masking_after_underflows_where_a_hidden_logit_towers_over_the_rest():
    logits = jnp.array([[0.0, 0.0, 200.0]])
    bias = to_bias(jnp.array([[True, True, False]]))
    np.testing.assert_allclose(MASK_STYLES["before"](logits, bias), [[0.5, 0.5, 0]])
    np.testing.assert_allclose(MASK_STYLES["after_renormalised"](logits, bias), 0.0)


T, S = 5, 6
SEGMENTS = np.array([[1, 1, 2, 2, 0], [1, 1, 1, 1, 1]])
KV_SEGMENTS = np.array([[1, 2, 2, 0, 0, 0], [1, 1, 1, 1, 2, 3]])
CONDITIONS = {
    "causal": dict(causal=True),
    "window": dict(window=2),
    "segments": dict(q_segments=SEGMENTS, kv_segments=KV_SEGMENTS),
    "lengths": dict(q_lengths=np.array([3, 5]), kv_lengths=np.array([0, 4])),
    "prefix": dict(causal=True, prefix=np.array([4, 0])),
}
PAST = dict(CONDITIONS["segments"], past_segments=True)


def allowed(name, b, t, s):
    """The definition, one pair at a time."""
    match name:
        case "causal":
            return s <= t
        case "window":
            return abs(t - s) < 2
        case "segments":
            return SEGMENTS[b, t] == KV_SEGMENTS[b, s] != 0
        case "lengths":
            return t < (3, 5)[b] and s < (0, 4)[b]
        case "prefix":
            return s <= t or s < (4, 0)[b]


PAIRS = [pair for pair in itertools.combinations(CONDITIONS, 2)]


@pytest.mark.parametrize("names", [*((n,) for n in CONDITIONS), *PAIRS])
def test_a_query_sees_a_key_if_every_condition_allows_it(names):
    if set(names) == {"causal", "prefix"}:
        names = ("prefix",)  # a prefix loosens causality, it is no further condition
    fields = {}
    for name in names:
        fields |= CONDITIONS[name]
    found = jax.jit(lambda mask: mask.visible(T, S))(Mask(**fields))
    wanted = [
        [[all(allowed(n, b, t, s) for n in names) for s in range(S)] for t in range(T)]
        for b in range(2)
    ]
    np.testing.assert_array_equal(np.broadcast_to(found, (2, 1, T, S))[:, 0], wanted)
    np.testing.assert_array_equal(Mask(**fields).bias(T, S), to_bias(found))


def test_of_past_segments_a_query_sees_all_up_to_its_own_and_no_padding():
    visible = Mask(**PAST).visible(T, S)
    keys, queries = KV_SEGMENTS[:, None], SEGMENTS[..., None]
    np.testing.assert_array_equal(visible[:, 0], (keys > 0) & (keys <= queries))


def test_a_mask_without_conditions_costs_nothing():
    assert Mask().visible(T, S) is None
    assert Mask().bias(T, S) is None
    assert combine(None, None) is None
