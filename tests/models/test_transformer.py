import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.tiny import V, logits, reach, rows, sentences, shapes, tiny
from tfm_jax.layers.arch import ALONG_ROWS
from tfm_jax.layers.layout import abstract, init_params, to_scanned, to_unrolled
from tfm_jax.layers.linear import Dropout
from tfm_jax.layers.positions import POSITIONS
from tfm_jax.layers.residual import NORM_PLACEMENTS
from tfm_jax.models.transformer import SIZES, Config, Transformer
from tfm_jax.objectives.translation import example
from tfm_jax.ops.attention import SCORES
from tfm_jax.ops.losses import FactoredLogits, token_cross_entropy
from tfm_jax.ops.masks import MASK_STYLES

STYLES = ("before", "after_renormalised")
RELATIVE = [n for n in ALONG_ROWS if POSITIONS[n].rotates or POSITIONS[n].bias]
RELATIVE += ["none"]
PAIRS = sentences((4, 3), (4, 4))
# all tests share the shape [2, 8]: every operation is compiled once
PADDED = rows(PAIRS, 8, 8)
PACKED = rows([PAIRS, PAIRS], 8, 8)
ZERO = 1e-6  # masking after the softmax cancels derivatives only up to rounding


def same(a, b):
    return np.isclose(a, b, atol=1e-5, rtol=1e-5).all()


@pytest.mark.parametrize("positions", ALONG_ROWS)
@pytest.mark.parametrize("norm", NORM_PLACEMENTS)
def test_a_token_reaches_exactly_what_may_see_it(positions, norm):
    """The present and the future of its own sentence, in a row that holds two."""
    both = list(ALONG_ROWS).index(positions) + list(NORM_PLACEMENTS).index(norm)
    model, params = tiny(
        positions=positions, norm=norm, mask_style=STYLES[both % 2], decoder_depth=1
    )
    by_source, by_target = reach(model, params, PACKED)
    q, kv = PACKED.target_segments[0], PACKED.source_segments[0]
    real, steps = q > 0, np.arange(8)
    allowed = (q[:, None] == q) & (steps <= steps[:, None])
    np.testing.assert_array_equal(by_target[real] > ZERO, allowed[real])
    allowed = q[:, None] == kv
    np.testing.assert_array_equal(by_source[real] > ZERO, allowed[real])


def test_padding_reaches_nothing_and_masking_after_leaks():
    """Without renormalising, hidden tokens act through the denominator."""
    for style in MASK_STYLES:
        model, params = tiny(mask_style=style, decoder_depth=1)
        by_source, by_target = reach(model, params, PADDED)
        leak = max(by_source[:4, 4:].max(), np.triu(by_target, 1).max())
        assert (leak > 1e-3) == (style == "after")
        assert leak < ZERO or style == "after"


@pytest.mark.parametrize("positions", ALONG_ROWS)
def test_a_sentence_gets_the_same_logits_alone_padded_and_packed(positions):
    model, params = tiny(positions=positions)
    alone = logits(model, params, rows(PAIRS[:1]))[0]
    padded = logits(model, params, PADDED)
    packed = logits(model, params, PACKED)
    assert same(alone, padded[0, :4])
    assert same(packed[:, :4], padded[:1, :4])
    assert same(packed[:, 4:], padded[1:, :4])


def test_a_row_without_source_is_finite_and_disturbs_no_gradient():
    """An empty row at the end of an evaluation set, under shared projections."""
    model, params = tiny()
    full = jax.tree.map(lambda x: x[[0, 0]], PADDED)
    empty = jax.tree.map(lambda x: x * np.array([[1], [0]], x.dtype), full)
    (y, wanted), (z, found) = (
        outputs_and_gradients(model, params, batch, np.array([1.0, 0.0]))
        for batch in (full, empty)
    )
    assert np.isfinite(z).all()
    np.testing.assert_array_equal(y[0], z[0])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, wanted
    )


@functools.partial(jax.jit, static_argnums=0)
def outputs_and_gradients(model, params, batch, weights):
    """Logits, and the gradient of a readout in which each row has its weight."""

    def total(params):
        y = model.apply({"params": params}, batch, train=False)
        return jnp.sum(jnp.sin(y) * weights[:, None, None]), y

    grads, y = jax.grad(total, has_aux=True)(params)
    return y, grads


def encode(model, params, source, segments, positions):
    variables = {"params": params}
    return model.apply(
        variables, source, segments, positions, train=False, method="encode"
    )


def test_without_positions_the_encoder_does_not_know_the_order():
    batch, order = PADDED, np.array([3, 0, 2, 1, 4, 5, 6, 7])
    for positions in ("none", "sinusoidal"):
        model, params = tiny(positions=positions, encoder_depth=2)
        x, segments = batch.source, batch.source_segments
        memory = encode(model, params, x, segments, None)
        moved = encode(model, params, x[:, order], segments, None)
        assert same(moved[0], memory[0, order]) == (positions == "none")


@pytest.mark.parametrize("positions", ALONG_ROWS)
def test_relative_positions_do_not_know_where_a_sentence_begins(positions):
    model, params = tiny(positions=positions, encoder_depth=2)
    batch = PACKED
    at = [batch.source_positions + shift for shift in (0, 7)]
    here, there = (
        encode(model, params, batch.source, batch.source_segments, p) for p in at
    )
    assert same(here, there) == (positions in RELATIVE)


STEPS, W = 4, 2


def decoded(model, params, batch, parents=lambda t: None, choose=None):
    """Logits [B, W, STEPS, V] of decoding step by step."""
    variables = {"params": params}
    memory = encode(model, params, batch.source, batch.source_segments, None)
    cache = model.apply(
        variables,
        memory,
        batch.source_segments,
        width=W,
        max_length=8,
        method="init_cache",
    )
    steps = []
    for t in range(STEPS):
        if parents(t) is not None:
            cache = cache.select(parents(t))
        tokens = np.repeat(batch.target_inputs[:, t : t + 1], W, 1)
        tokens = choose(t, tokens) if choose else tokens
        y, cache = model.apply(variables, tokens, cache, method="step")
        steps.append(y)
    return np.stack(steps, axis=2)


# every scheme once, every norm placement and every score at least once
CACHED = [
    dict(positions=p, norm=n, score=s)
    for p, n, s in zip(
        ALONG_ROWS,
        itertools.cycle(NORM_PLACEMENTS),
        itertools.cycle(reversed(SCORES)),
        strict=False,
    )
] + [
    dict(mask_style="after_renormalised", positions="alibi", activation="swiglu"),
    dict(tie="none", output_bias=True, norm_kind="rmsnorm", norm="pre"),
    dict(tie="two_way", key_size=6, value_size=3, heads=3, embedding_scale=False),
]


@pytest.mark.parametrize(
    "changes", CACHED, ids=lambda c: "-".join(map(str, c.values()))
)
def test_decoding_with_the_cache_equals_the_full_forward_pass(changes):
    model, params = tiny(**changes)
    wanted = logits(model, params, PADDED)[:, :STEPS]
    found = decoded(model, params, PADDED)
    for w in range(W):
        np.testing.assert_allclose(found[:, w], wanted, atol=1e-5)


def test_a_hypothesis_goes_on_from_the_parent_that_select_names():
    """Two hypotheses differ in their second token and then change places."""
    model, params = tiny(positions="rotary")
    batch = PADDED
    other = batch.target_inputs.copy()
    other[:, 1] = (other[:, 1] - 3) % (V - 4) + 4

    def choose(t, tokens):
        return np.stack([batch.target_inputs[:, t], other[:, t]], 1)

    swap = np.array([[1, 0], [0, 0]])
    found = decoded(model, params, batch, lambda t: swap if t == 3 else None, choose)
    whole = [
        logits(model, params, batch._replace(target_inputs=x))
        for x in (batch.target_inputs, other)
    ]
    for row, parents in enumerate(swap):
        for w, parent in enumerate(parents):
            np.testing.assert_allclose(
                found[row, w, 3], whole[parent][row, 3], atol=1e-5
            )
            np.testing.assert_allclose(found[row, w, :3], whole[w][row, :3], atol=1e-5)


@pytest.mark.parametrize(
    ("size", "vocab", "millions"),
    [("base", 37_000, 63.08), ("big", 37_000, 214.2), ("multi30k_tiny", 9_712, 2.57)],
)
def test_parameter_counts_are_the_published_ones(size, vocab, millions):
    sizes = SIZES[size] | dict(layout="scanned")  # one layer is traced for all
    cfg = Config(**sizes, source_vocab=vocab, target_vocab=vocab)
    params = abstract(Transformer(cfg), example()).params
    count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    digits = len(str(millions).split(".")[1])
    assert round(count / 1e6, digits) == millions


def test_the_two_layouts_convert_without_loss():
    model, params = tiny(encoder_depth=3, positions="t5", norm="sandwich")
    there = to_scanned(params)
    assert to_unrolled(there).keys() == params.keys()
    jax.tree.map(np.testing.assert_array_equal, to_unrolled(there), params)
    depths = {
        k: jax.tree.leaves(there[k]["layers"])[0].shape[0]
        for k in ("encoder", "decoder")
    }
    assert depths == {"encoder": 3, "decoder": 2}
    scanned = dataclasses.replace(model.cfg, layout="scanned")
    wanted = shapes(scanned)
    assert jax.tree.map(np.shape, there) == jax.tree.map(np.shape, wanted)


@pytest.fixture(scope="module")
def plain():
    """Logits and gradients of the unrolled model that computes nothing twice."""
    model, params = tiny()
    return model, params, *outputs_and_gradients(model, params, PADDED, np.ones(2))


@pytest.mark.parametrize(
    ("layout", "remat"),
    [
        ("unrolled", "full"),
        ("unrolled", "dots"),
        ("scanned", "full"),
        ("scanned", "attention"),
    ],
)
def test_layout_and_remat_change_neither_logits_nor_gradients(plain, layout, remat):
    model, params, y, grads = plain
    other = Transformer(dataclasses.replace(model.cfg, layout=layout, remat=remat))
    assert layout == "scanned" or shapes(other.cfg) == shapes(model.cfg)
    convert = (to_scanned, to_unrolled) if layout == "scanned" else (lambda p: p,) * 2
    params = convert[0](params)
    again, found = outputs_and_gradients(other, params, PADDED, np.ones(2))
    np.testing.assert_allclose(again, y, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        convert[1](found),
        grads,
    )


def test_arms_that_share_a_module_start_it_from_the_same_values():
    """Layout, remat and norm placement move no other initial value."""

    def initial(**changes):
        fields = dict(width=8, heads=2, ffn_width=8, encoder_depth=1, decoder_depth=1)
        fields |= dict(source_vocab=8, target_vocab=8) | changes
        model = Transformer(Config(**fields))
        params = jax.jit(lambda key: init_params(model, key, example()))(
            jax.random.key(0)
        )
        return {
            jax.tree_util.keystr(path): leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(to_unrolled(params))
        }

    base = initial()
    other = initial(layout="scanned", remat="full", norm="pre", dropout=0.0)
    shared = base.keys() & other.keys()
    assert len([name for name in shared if "kernel" in name]) == 16
    for name in shared:
        np.testing.assert_array_equal(base[name], other[name], err_msg=name)


def test_bfloat16_activations_give_float32_logits_near_the_exact_ones():
    model, params = tiny(norm="pre", positions="rotary")
    half = Transformer(dataclasses.replace(model.cfg, dtype="bfloat16"))
    batch = PADDED
    rough, exact = (logits(m, params, batch) for m in (half, model))
    assert rough.dtype == np.float32
    error = np.abs(rough - exact).max() / exact.std()
    assert 1e-4 < error < 0.1


@pytest.mark.parametrize("layout", ["unrolled", "scanned"])
def test_every_dropout_draws_its_own_mask(layout):
    """Between sub-layers, between layers, and between steps."""
    cfg = dict(dropout=0.3, activation_dropout=0.3, layout=layout)
    model, params = tiny(**cfg, encoder_depth=2, activation="silu")

    @jax.jit
    def outputs(step):
        return model.apply(
            {"params": params},
            PADDED,
            train=True,
            rngs={"dropout": jax.random.fold_in(jax.random.key(0), step)},
            capture_intermediates=lambda module, _: isinstance(module, Dropout),
            mutable="intermediates",
        )[1]

    def kept(step):
        """[number of masks, elements]."""
        masks = []
        for path, y in jax.tree_util.tree_leaves_with_path(outputs(step)):
            if "__call__" in str(path) and "weight_dropout" not in str(path):
                masks += list(y) if y.ndim == 4 else [y]
        return np.stack([np.asarray(y).reshape(-1)[:128] != 0 for y in masks])

    steps = np.stack([kept(step) for step in range(4)], axis=1)
    # 2 embeddings, 2 x 2 encoder and 2 x 3 decoder residuals, 4 feed-forward blocks
    assert len(steps) == 2 + 4 + 6 + 4
    masks = [*steps, *np.roll(steps, 1, axis=1)]
    for a, b in itertools.combinations(masks, 2):
        assert abs(np.mean(a & b) - 0.49) < 6 * np.sqrt(0.49 * 0.51 / a.size)


def test_without_training_dropout_needs_no_key_and_does_nothing():
    model, params = tiny(dropout=0.5, attention_dropout=0.5, activation_dropout=0.5)
    dry = Transformer(
        dataclasses.replace(
            model.cfg, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0
        )
    )
    batch = PADDED
    np.testing.assert_array_equal(
        logits(model, params, batch), logits(dry, params, batch)
    )


@pytest.mark.parametrize("tie", ["three_way", "none"])
def test_a_loss_in_chunks_trains_the_same_model(tie):
    """With a bias on the logits, tied and untied; gradients of all parameters."""
    model, params = tiny(tie=tie, output_bias=True, decoder_depth=1, dropout=0.0)

    def loss(chunk):
        cfg = dataclasses.replace(model.cfg, loss_chunk=chunk)

        def of(params):
            logits = Transformer(cfg).apply({"params": params}, PACKED, train=True)
            assert isinstance(logits, FactoredLogits) == bool(chunk)
            labels, real = PACKED.target_labels, PACKED.target_segments > 0
            weights = real.astype(np.float32)
            return token_cross_entropy(logits, labels, weights, 0.1)[0]

        return of

    (whole, grads), (chunked, in_chunks) = (
        jax.jit(jax.value_and_grad(loss(chunk)))(params) for chunk in (0, 3)
    )
    np.testing.assert_allclose(chunked, whole, rtol=1e-5)
    for grad, other in zip(*map(jax.tree.leaves, (in_chunks, grads)), strict=True):
        np.testing.assert_allclose(grad, other, atol=1e-5)
