import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.models.tiny_text import ONE, V, rows, run, sizes, tiny
from tests.test_knobs import MODEL, assert_roles
from tfm_jax.data.batch import TextBatch
from tfm_jax.layers.layout import init_params, to_scanned, to_unrolled
from tfm_jax.layers.linear import Dropout
from tfm_jax.layers.positions import POSITIONS
from tfm_jax.layers.residual import NORM_PLACEMENTS
from tfm_jax.models import gpt
from tfm_jax.ops.losses import FactoredLogits, token_cross_entropy

PUBLISHED = {  # vocabulary, millions of parameters
    "gpt1": (40_478, 116.53),
    "gpt2": (50_257, 124.44),
    "gpt2_medium": (50_257, 354.82),
    "gpt2_large": (50_257, 774.03),
    "gpt2_xl": (50_257, 1557.61),
    "gpt3_small": (50_257, 125.2),
    "gpt3_medium": (50_257, 355.9),
    "gpt3_large": (50_257, 760.3),
    "gpt3_xl": (50_257, 1315.7),
    "gpt3_2.7b": (50_257, 2651.6),
    "gpt3_6.7b": (50_257, 6658.4),
    "gpt3_13b": (50_257, 12_850),
    "gpt3_175b": (50_257, 174_600),
    "neo_125m": (50_257, 125.2),
    "neo_1.3b": (50_257, 1315.6),
    "neo_2.7b": (50_257, 2651.3),
    "shakespeare": (65, 0.804),  # nanoGPT prints 0.80, it does not count positions
}


def test_every_size_has_a_published_count():
    assert PUBLISHED.keys() == gpt.SIZES.keys()


@pytest.mark.parametrize("size", PUBLISHED)
def test_parameter_counts_are_the_published_ones(size):
    """By a model of one block, which all blocks equal."""
    vocab, millions = PUBLISHED[size]
    cfg = gpt.Config(**gpt.SIZES[size], vocab=vocab)
    shallow = sizes(gpt.Model(dataclasses.replace(cfg, depth=1)))
    block = sum(n for path, n in shallow.items() if "layer_0/" in path)
    count = sum(shallow.values()) + (cfg.depth - 1) * block
    known = str(millions).replace(".", "").lstrip("0")
    digits = 4 if millions > 10_000 else len(known)
    assert f"{count / 1e6:.{digits}g}" == f"{millions:.{digits}g}"


def reach(model, params, batch):
    """[T, T] whether the word vector at s moves the logits at t; words differ."""
    table = params["embedding"]["table"]

    def move(token):
        direction = jnp.zeros_like(table).at[token].set(jnp.sin(jnp.arange(8.0)))

        def logits(table):
            embedding = {"table": table}
            return run(model, params | {"embedding": embedding}, batch)[0]

        return jnp.abs(jax.jvp(logits, (table,), (direction,))[1]).max(-1)

    return np.asarray(jax.vmap(move)(batch.tokens[0])).T


PACKED = TextBatch(
    np.arange(1, 9, dtype=np.int32)[None],
    np.array([[1, 1, 1, 2, 2, 2, 2, 2]], np.int32),
    np.array([[0, 1, 2, 0, 1, 2, 3, 4]], np.int32),
)


@pytest.mark.parametrize("layout", ["unrolled", "scanned"])
@pytest.mark.parametrize(
    ("windows", "distance"), [((), 7), ((0, 2), 7), ((2,), 2), ((2, 3), 3), ((1, 3), 2)]
)
def test_a_token_reaches_its_own_document_behind_it_as_far_as_windows_add_up(
    windows, distance, layout
):
    model, params = tiny(gpt, windows=windows, layout=layout, tie_embeddings=False)
    t, s = np.arange(8)[:, None], np.arange(8)
    own = PACKED.segments[0][:, None] == PACKED.segments[0]
    allowed = own & (s <= t) & (t - s <= distance)
    np.testing.assert_array_equal(reach(model, params, PACKED) > 1e-7, allowed)


@pytest.mark.parametrize("windows", [(), (2, 0)])
def test_a_document_gets_the_same_logits_alone_padded_and_packed(windows):
    model, params = tiny(gpt, windows=windows)
    alone = run(model, params, rows([4]))[0]
    padded = run(model, params, rows([4, 7]))
    packed = run(model, params, rows([[7, 4]]))
    np.testing.assert_allclose(padded[0, :4], alone, atol=1e-5)
    np.testing.assert_allclose(packed[0, 7:], alone, atol=1e-5)
    np.testing.assert_allclose(packed[0, :7], padded[1], atol=1e-5)


def continued(model, params, batch, prompts, *, width=1, swaps=None, other=None):
    """Logits [B, W, steps, V] behind prompts that are taken at once.

    Args:
        prompts: how many tokens of each row are its prompt; None: all rows, 2.
        swaps: {step: parents}. other: tokens [B, T] of hypothesis 1.
    """
    variables, tokens = {"params": params}, batch.tokens
    steps = 4
    apply = functools.partial(jax.jit, static_argnames=("width", "max_length"))
    prefill = apply(functools.partial(model.apply, variables, method="prefill"))
    step = jax.jit(functools.partial(model.apply, variables, method="step"))
    taken = np.full(len(tokens), 2) if prompts is None else np.array(prompts)
    lengths = None if prompts is None else taken
    cache = prefill(tokens[:, : taken.max()], lengths, width=width, max_length=12)
    found = []
    for i in range(steps):
        if swaps and i in swaps:
            cache = cache.select(swaps[i])
        sides = [tokens, tokens if other is None else other][:width]
        here = [side[np.arange(len(side)), taken + i] for side in sides]
        y, cache = step(np.stack(here, 1), cache)
        found.append(y)
    return np.stack(found, axis=2)


SCHEMES = list(POSITIONS)
CACHED = [
    dict(norm=norm, positions=SCHEMES[i % len(SCHEMES)])
    for i, norm in enumerate([*NORM_PLACEMENTS, *["pre"] * 3])
] + [
    dict(windows=(0, 2), positions="alibi"),
    dict(windows=(3,), score="dot", biases="not_qkv"),
    dict(windows=(1, 4), key_size=6, value_size=3, tie_embeddings=False),
]


@pytest.mark.parametrize(
    "changes", CACHED, ids=lambda c: "-".join(map(str, c.values()))
)
def test_the_cache_equals_the_full_forward_pass(changes):
    """Prompts of 5, 1 and 0 tokens are taken at once, then four are taken singly."""
    model, params = tiny(gpt, **changes)
    batch, prompts = rows([9, 6, 8]), [5, 1, 0]
    whole = run(model, params, batch)
    found = continued(model, params, batch, prompts)[:, 0]
    for row, n in enumerate(prompts):
        np.testing.assert_allclose(found[row], whole[row, n : n + 4], atol=1e-5)


def test_prompts_of_one_length_need_no_lengths():
    model, params = tiny(gpt)
    batch = rows([7, 7])
    found = continued(model, params, batch, None)[:, 0]
    np.testing.assert_allclose(found, run(model, params, batch)[:, 2:6], atol=1e-5)


def test_two_hypotheses_share_a_prompt_and_change_places():
    model, params = tiny(gpt, windows=(3, 0), positions="rotary")
    batch, prompts = rows([8, 8]), [3, 2]
    other = batch.tokens.copy()
    other[:, 4] = other[:, 4] % (V - 2) + 1
    whole = [
        run(model, params, batch._replace(tokens=x)) for x in (batch.tokens, other)
    ]
    swap = np.array([[1, 0], [0, 0]])
    found = continued(
        model, params, batch, prompts, width=2, swaps={3: swap}, other=other
    )
    for row, n in enumerate(prompts):
        for w in range(2):
            before = whole[w][row, n : n + 3]
            np.testing.assert_allclose(found[row, w, :3], before, atol=1e-5)
            parent = whole[swap[row, w]][row, n + 3]
            np.testing.assert_allclose(found[row, w, 3], parent, atol=1e-5)


def test_rows_longer_than_the_position_table_are_refused():
    model, params = tiny(gpt, max_length=4)
    with pytest.raises(ValueError, match="5 tokens .* model.max_length=4"):
        run(model, params, rows([5]))
    endless, params = tiny(gpt, max_length=4, positions="alibi")
    assert np.isfinite(run(endless, params, rows([5]))).all()


@functools.partial(jax.jit, static_argnums=0)
def by_readout(model, params):
    """A sum over logits, and its gradient by the parameters."""

    def value(params):
        return jnp.sum(jnp.sin(run(model, params, rows([6, 3]))))

    return jax.value_and_grad(value)(params)


@pytest.mark.parametrize("remat", ["none", "full"])
@pytest.mark.parametrize("windows", [(), (2,), (2, 0)])
def test_the_scanned_model_computes_the_same(windows, remat):
    period = max(len(windows), 1)
    model, params = tiny(gpt, windows=windows, depth=period + 1)
    cfg = dataclasses.replace(model.cfg, layout="scanned", remat=remat)
    wanted, grads = by_readout(model, params)
    found, scanned = by_readout(gpt.Gpt(cfg), to_scanned(params))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        to_unrolled(scanned),
        grads,
    )


def test_residual_maps_start_smaller_by_the_root_of_their_number():
    """Radford et al. 2019, section 2.3; GPT-1 starts all maps alike."""
    fields = dict(width=64, heads=4, ffn_width=128, depth=2, vocab=9, max_length=9)
    for residual_init, factor in (("scaled", 4**-0.5), ("plain", 1.0)):
        model = gpt.Gpt(gpt.Config(**fields, residual_init=residual_init))
        init = jax.jit(functools.partial(init_params, model))
        flat = flatten_dict(init(jax.random.key(0), ONE), sep="/")
        for path, x in flat.items():
            if path.endswith("kernel"):
                ends = path.endswith(("out/kernel", "down/kernel"))
                wanted = 0.02 * (factor if ends else 1.0)
                np.testing.assert_allclose(x.std(), wanted, rtol=0.06, err_msg=path)


@pytest.mark.parametrize(
    ("biases", "missing"),
    [
        ("all", []),
        ("not_qkv", ["key", "query", "value"]),
        ("none", ["down", "key", "out", "query", "up", "value"]),
    ],
)
def test_biases_are_where_the_field_says(biases, missing):
    model, _ = tiny(gpt, biases=biases, depth=1)
    paths = sizes(model)
    found = {path.rpartition("/")[0] for path in paths if path.endswith("/bias")}
    maps = {path.rpartition("/")[0] for path in paths if path.endswith("/kernel")}
    assert sorted(path.rpartition("/")[2] for path in maps - found) == missing


def test_logits_are_taken_against_the_vectors_that_dropout_left():
    """GPT-1's released code drops entries of the whole table, once a step."""
    off = dict(dropout=0.0, attention_dropout=0.0)
    model, params = tiny(
        gpt, **off, embedding_dropout=0.5, embedding_dropout_on="tables"
    )
    batch = rows([6, 4])

    @jax.jit
    def watched(params):
        return model.apply(
            {"params": params},
            batch,
            train=True,
            rngs={"dropout": jax.random.key(0)},
            capture_intermediates=lambda module, _: isinstance(module, Dropout),
            mutable="intermediates",
        )

    logits, kept = watched(params)
    words, places = kept["intermediates"]["embedding_dropout"]["__call__"]
    assert words.shape == (V, 8) and places.shape == (12, 8)
    assert 0.3 < np.mean(np.asarray(words) == 0) < 0.7
    dropped = params | {"embedding": {"table": words}, "position": {"table": places}}
    np.testing.assert_allclose(logits, run(model, dropped, batch), atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(tie_embeddings=False, head="classify"),
        dict(embedding_dropout=0.5, embedding_dropout_on="tables"),
    ],
)
def test_a_loss_in_chunks_trains_the_same_model(changes):
    """Tied, untied and dropped tables; gradients of all parameters."""
    model, params = tiny(gpt, depth=1, **changes)
    batch = rows([6, 4])

    def loss(chunk):
        cfg = dataclasses.replace(model.cfg, loss_chunk=chunk)

        def of(params):
            keys = {"dropout": jax.random.key(0)}
            logits = gpt.Model(cfg).apply(
                {"params": params}, batch, train=True, rngs=keys
            )
            logits = getattr(logits, "lm_logits", logits)
            assert isinstance(logits, FactoredLogits) == bool(chunk)
            labels, weights = batch.tokens, batch.segments.astype(jnp.float32)
            return token_cross_entropy(logits, labels, weights, 0.1)[0]

        return of

    (whole, grads), (chunked, in_chunks) = (
        jax.jit(jax.value_and_grad(loss(chunk)))(params) for chunk in (0, 4)
    )
    np.testing.assert_allclose(chunked, whole, rtol=1e-5)
    for grad, whole_grad in zip(*map(jax.tree.leaves, (in_chunks, grads)), strict=True):
        np.testing.assert_allclose(grad, whole_grad, atol=1e-5)


@pytest.mark.parametrize("group", [[7, 4], [4]], ids=["packed", "padded"])
def test_a_row_is_classified_by_the_state_of_its_last_token(group):
    model, params = tiny(gpt, head="classify", labels=3)
    batch = rows([group, [12]] if len(group) > 1 else [*group, 12])
    found = run(model, params, batch)
    states = np.asarray(run(model, params, batch, "encode"))
    head = jax.device_get(params["classify"]["out"])
    for row, last in enumerate((sum(group) - 1, 11)):
        wanted = states[row, last] @ head["kernel"] + head["bias"]
        np.testing.assert_allclose(found.labels[row], wanted, atol=1e-5)
    plain = gpt.Model(dataclasses.replace(model.cfg, head="lm"))
    rest = {name: x for name, x in params.items() if name != "classify"}
    np.testing.assert_array_equal(found.lm_logits, run(plain, rest, batch))


def test_only_the_head_that_classifies_has_parameters_of_its_own():
    model, _ = tiny(gpt, head="classify", labels=3)
    plain, _ = tiny(gpt, labels=3)
    more = {"classify/out/kernel": 24, "classify/out/bias": 3}
    assert sizes(model) == sizes(plain) | more


KNOBS = MODEL | {
    "depth": 2,
    "vocab": 13,
    "tie_embeddings": False,
    "embedding_dropout": 0.3,
    "embedding_dropout_on": {},
    "head": {},
    "labels": dict(labels=3, head="classify"),
    "head_dropout": dict(head_dropout=0.3, head="classify"),
}
OF_PAIRS = set(MODEL) - {f.name for f in dataclasses.fields(gpt.Config)}


def test_every_knob_changes_the_programs_of_its_role():
    listed = {k: v for k, v in KNOBS.items() if k not in OF_PAIRS}
    fields = {f.name for f in dataclasses.fields(gpt.Config)}
    assert fields - listed.keys() == {"attention"}  # see tests/test_knobs.py
    base = gpt.Config(
        **dict(width=8, heads=2, ffn_width=12, depth=1, vocab=11, dropout=0.1),
        **dict(positions="sinusoidal", activation="relu", norm="post", max_length=9),
    )
    assert_roles(base, listed, gpt.Gpt, rows([3, 2]))
