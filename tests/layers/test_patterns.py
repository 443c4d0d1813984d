"""Stacks of other families than ours, built from the public parts alone."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.layers.weights import normal, randomised
from tfm_jax.layers.arch import Arch
from tfm_jax.layers.layout import init_params, to_scanned, to_unrolled
from tfm_jax.layers.parts import ENCODER, FFN, SELF, Context, Memory, Part
from tfm_jax.layers.stack import Stack
from tfm_jax.ops import ancestry
from tfm_jax.ops.masks import Mask

B, T, S, D, Q, W = 2, 5, 4, 8, 2, 2
X, STATES, CONDITION = normal(0, B, T, D), normal(1, B, S, 6), normal(2, B, 3)
READOUT = normal(3, B, T, D)
# Alayrac et al. 2022, figure 4: gated, before every second layer of a language model
XATTN = Part(
    "gated_cross_attention",
    "cross_attention",
    "images",
    gate="tanh",
    changes=(("biases", "none"), ("heads", 1)),
)
XFFN = FFN._replace(name="gated_ffn", gate="tanh", changes=(("activation", "gelu"),))
GATED = ((XATTN, XFFN, *ENCODER), ENCODER)
IMAGES = np.array([[0, 1, 1, 2, 2], [1, 1, 1, 1, 2]])  # the last one before each token
OF_IMAGES = np.array([[1, 1, 2, 2]] * B)
# Li et al. 2023, arXiv:2301.12597, figure 2: queries [:Q] and text [Q:]
QUERY_CROSS = Part("cross_attention", "cross_attention", "image", rows="queries")
QUERY_FFN = Part("query_ffn", "feed_forward", rows="queries")
TEXT_FFN = FFN._replace(rows="text")
TWO_STREAMS = (
    (SELF, QUERY_CROSS, QUERY_FFN, TEXT_FFN),
    (SELF, QUERY_FFN, TEXT_FFN),
)


class Case(NamedTuple):
    """A stack, and the number of rows that are queries."""

    stack: Stack
    queries: int = 0

    def context(self, rows, states=STATES, **more):
        """What the ``rows`` (a slice) are given."""
        seen = Mask(q_segments=IMAGES[:, rows], kv_segments=OF_IMAGES)
        memories = {"images": Memory(states, seen), "image": Memory(states)}
        return Context(memories=memories, condition=CONDITION, **more)

    def causal(self, rows):
        """A language model's mask, over a prefix of queries that see one another."""
        prefix = np.full(B, self.queries) if self.queries else None
        mask = Mask(causal=True, prefix=prefix)
        return self.context(rows, mask=mask, queries=self.queries)


def case(pattern, queries=0, *, depth=2, condition="none", share="none", **changes):
    cfg = Arch(width=D, heads=2, ffn_width=12, **{"norm": "pre", **changes})
    options = dict(pattern=pattern, condition=condition, share=share)
    return Case(Stack(cfg, depth, causal=True, **options), queries)


PLAIN = case((ENCODER,), positions="rotary")
CASES = {
    "gated": case(GATED, positions="rotary"),
    "two_streams": case(TWO_STREAMS, Q, norm="post", positions="t5"),
    "adaln_zero": case(
        (ENCODER,),
        norm_kind="layernorm_no_affine",
        condition="adaln_zero",
        share="attention",
    ),
}


def positions(length):
    return np.arange(length)[None]


@functools.cache
def params_of(case):
    """Random ones, gates and modulations included."""
    init = functools.partial(init_params, case.stack, jax.random.key(0))
    return randomised(jax.eval_shape(init, X, positions(T), case.causal(slice(T))))


@functools.partial(jax.jit, static_argnames="case")
def full(case, params):
    return case.stack.apply(
        {"params": params}, X, positions(T), case.causal(slice(T)), train=False
    )


@functools.partial(jax.jit, static_argnames=("case", "length"))
def prefill(case, params, length):
    """(outputs, caches) of a prompt of some rows."""
    context, bound = case.causal(slice(length)), case.stack.bind({"params": params})
    caches = bound.init_cache(B, W, T, context.memories)
    if not length:
        return X[:, :0], caches
    return bound.prefill(X[:, :length], caches, W, positions(length), context)


@functools.partial(jax.jit, static_argnames="case")
def step(case, params, x, caches, index, visible, images):
    seen = Mask(q_segments=images, kv_segments=OF_IMAGES)
    context = Context(memories={"images": Memory(None, seen)}, condition=CONDITION)
    bound = case.stack.bind({"params": params})
    return bound.step(x, caches, index, context, visible=visible)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_cached_decoding_behind_any_prompt_equals_the_full_pass(case):
    """Two hypotheses, which change places at every step, read the same rows."""
    params = params_of(case)
    whole = full(case, params)
    for length in (case.queries, 3):
        y, caches = prefill(case, params, length)
        np.testing.assert_allclose(y, whole[:, :length], atol=1e-5)
        table = jnp.zeros((B, W, T), jnp.int32)
        for t in range(length, T):
            table = ancestry.follow(table, np.array([[1, 0]] * B))
            table, visible = ancestry.write(table, t)
            x, images = (np.repeat(a[:, t : t + 1], W, 1) for a in (X, IMAGES))
            y, caches = step(case, params, x, caches, t, visible, images)
            for w in range(W):
                np.testing.assert_allclose(y[:, w], whole[:, t], atol=1e-5)


@functools.partial(jax.jit, static_argnames=("case", "layout", "remat"))
def gradients(case, params, layout="unrolled", remat="none"):
    """((a readout, (outputs, attention maps)), its gradient by the parameters)."""
    cfg = dataclasses.replace(case.stack.cfg, layout=layout, remat=remat)
    stack = case.stack.clone(cfg=cfg)

    def readout(params):
        y, kept = stack.apply(
            {"params": params}, X, positions(T), case.causal(slice(T)),
            train=False, mutable=["intermediates"],
        )  # fmt: skip
        return jnp.sum(jnp.sin(y) * jnp.arange(D)), (y, kept["intermediates"])

    return jax.value_and_grad(readout, has_aux=True)(params)


def test_scans_and_recomputation_change_neither_outputs_nor_gradients_nor_maps():
    """Of a pattern that has all there is: gates, streams, memories, a condition."""
    pattern = ((SELF, QUERY_CROSS, XATTN, QUERY_FFN, TEXT_FFN), TWO_STREAMS[1])
    whole = case(pattern, Q, depth=4, condition="adaln_zero")
    params = params_of(whole)
    scanned = to_scanned(params)
    jax.tree.map(np.testing.assert_array_equal, to_unrolled(scanned), params)
    (_, (y, maps)), grads = gradients(whole, params)
    (_, (other, of_scan)), again = gradients(whole, scanned, "scanned", "full")
    np.testing.assert_allclose(other, y, atol=1e-5)
    close = functools.partial(np.testing.assert_allclose, atol=1e-4)
    jax.tree.map(close, to_unrolled(again), grads)
    jax.tree.map(close, to_unrolled(of_scan), maps)
    attending = {
        (f"layer_{i}", part.name, "weights")
        for i in range(4)
        for part in pattern[i % 2]
        if part.kind != "feed_forward"
    }
    maps = flatten_dict(maps)
    assert maps.keys() == attending
    for (weights,) in maps.values():
        total = weights.sum(-1)  # 0 for tokens before the first image
        assert np.all(np.isclose(total, 1, atol=1e-5) | (total == 0))


def closed(params, name):
    """``params`` as they start: whatever is called ``name`` in a path is zero."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: 0 * x if any(k.key == name for k in path) else x, params
    )


def test_a_gated_stack_starts_as_its_language_model_whose_paths_it_keeps():
    """Alayrac et al. 2022, section 2.2: at first nothing new has a gradient but gates.

    Bit for bit, operation by operation: compiled as a whole XLA may fuse differently.
    """
    gated, loads = CASES["gated"], params_of(PLAIN)
    params = closed(params_of(gated), "alpha")
    assert all(loads[k].keys() <= params[k].keys() for k in loads)
    params |= {k: params[k] | loads[k] for k in loads}
    with jax.disable_jit():
        found, wanted = full(gated, params), full(PLAIN, loads)
    np.testing.assert_array_equal(found, wanted)
    cross = params["layer_0"]["gated_cross_attention"]
    assert all(x.keys() == {"kernel"} for x in cross.values())
    assert cross["query"]["kernel"].shape == (D, 1, D)
    for path, x in flatten_dict(gradients(gated, params)[1]).items():
        new = any(name.startswith("gated") for name in path)
        assert np.any(x) == (not new or path[-1] == "alpha"), path


def test_an_adaln_zero_stack_starts_as_the_identity_before_its_last_norm():
    adaln = CASES["adaln_zero"]
    y = full(adaln, closed(params_of(adaln), "modulation"))
    centred = X - X.mean(-1, keepdims=True)
    wanted = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(y, wanted, atol=1e-5)


@functools.partial(jax.jit, static_argnames="case")
def of_streams(case, params, mask):
    """What readouts of the queries and of the text depend on: each (params, X)."""

    def run(params, x):
        context = case.context(slice(T), mask=mask, queries=Q)
        return case.stack.apply(
            {"params": params}, x, positions(T), context, train=False
        )

    _, pull = jax.vjp(run, params, X)
    of_queries = np.arange(T)[None, :, None] < Q
    return [pull(np.where(here, READOUT, 0)) for here in (of_queries, ~of_queries)]


SIDES = np.array([[1] * Q + [2] * (T - Q)] * B)


@pytest.mark.parametrize(
    ("mask", "sees_queries", "sees_text"),
    [
        (Mask(q_segments=SIDES, kv_segments=SIDES), (True, False), (False, True)),
        (Mask(causal=True, prefix=np.full(B, Q)), (True, True), (False, True)),
    ],
    ids=["apart", "text_after_queries"],
)
def test_streams_see_one_another_where_the_mask_says_so(mask, sees_queries, sees_text):
    """Li et al. 2023, figure 2: a shared self-attention, other parts by stream."""
    two = CASES["two_streams"]
    streams = of_streams(two, params_of(two), mask)
    for i, (by_params, by_x) in enumerate(streams):
        reached = sees_queries[i], sees_text[i]
        assert (bool(np.any(by_x[:, :Q])), bool(np.any(by_x[:, Q:]))) == reached
        moves = dict(
            self_attention=True,
            cross_attention=reached[0],
            query_ffn=reached[0],
            ffn=reached[1],
        )
        for name, moved in moves.items():
            grads = jax.tree.leaves(by_params["layer_0"][name])
            assert any(map(np.any, grads)) == moved, name


def test_layers_that_only_look_alike_are_refused():
    other = (SELF, FFN._replace(gate="tanh"))
    with pytest.raises(ValueError, match="must differ within a layer and between"):
        params_of(case((ENCODER, other)))
