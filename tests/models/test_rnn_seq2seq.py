"""The recurrent family: counts, padding, packing, decoding step by step."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tests.layers.weights import random_params
from tfm_jax.audit import audit_transformer
from tfm_jax.config import ConfigError, build, section
from tfm_jax.data.batch import PairBatch
from tfm_jax.decode.search import decode
from tfm_jax.layers.layout import init_params
from tfm_jax.mesh import Config as MeshConfig
from tfm_jax.mesh import make_mesh, put_batch
from tfm_jax.models.rnn_seq2seq import SIZES, Config, RNNSeq2Seq

NARROW = dict(width=6, embedding_width=5, source_vocab=11, target_vocab=11)
ONE_WAY = dict(bidirectional=False, bridge="copy")
KINDS = {
    "none": dict(score="none"),
    "none_every_step": dict(score="none", context="every_step", readout="plain"),
    "additive": dict(score="additive"),
    "dot": dict(score="dot", query="current", **ONE_WAY),
    "general": dict(score="general", query="current", decoder_depth=2, encoder_depth=2),
    "concat": dict(score="concat", readout="plain_with_embedding", cell="lstm"),
    "maxout": dict(readout="maxout", bridge="tanh_backward"),
    "fed": dict(score="general", query="current", input_feeding=True, cell="lstm"),
    "fed_previous": dict(input_feeding=True, alignment_width=4, decoder_depth=2),
    "reversed": dict(score="none", source_order="reversed", cell="lstm", **ONE_WAY),
    "zeros": dict(bridge="zeros", readout_width=5, tie="three_way"),
}


def pair_batch(*pairs, length=7):
    """One pair a row."""
    batch = {name: np.zeros((len(pairs), length), np.int32) for name in "stlab"}
    for row, (source, target) in enumerate(pairs):
        for name, values in {"s": source, "l": target, "t": [1, *target[:-1]]}.items():
            batch[name][row, : len(values)] = values
        batch["a"][row, : len(source)] = batch["b"][row, : len(target)] = 1
    return PairBatch(
        *(batch["s"], batch["a"], None), *(batch["t"], batch["l"], batch["b"], None)
    )


PAIRS = (
    ([4, 5, 6, 2], [7, 8, 2]),
    ([2], [9, 3, 4, 5, 2]),
    ([10, 9, 8, 7, 6, 2], [2]),
    ([3, 2], [5, 5, 5, 2]),
)


def packed(pairs):
    """All pairs in one row."""
    s = [np.array(source) for source, _ in pairs]
    t = [np.array(target) for _, target in pairs]

    def row(parts, pad=2):
        return np.concatenate([*parts, np.zeros(pad, int)])[None].astype(np.int32)

    def numbers(parts):
        return row([np.full(len(x), n + 1) for n, x in enumerate(parts)])

    def positions(parts):
        return row([np.arange(len(x)) for x in parts])

    inputs = [np.concatenate([[1], x[:-1]]) for x in t]
    return PairBatch(
        *(row(s), numbers(s), positions(s)),
        *(row(inputs), row(t), numbers(t), positions(t)),
    )


@functools.cache
def made(kind):
    """(model, random parameters) of a tiny model of that kind."""
    model = RNNSeq2Seq(Config(**NARROW | KINDS[kind]))
    return model, random_params(model, pair_batch(*PAIRS), train=False)


@functools.partial(jax.jit, static_argnums=0)
def whole(model, params, batch):
    """Logits [B, T, V]."""
    return model.apply({"params": params}, batch, train=False)


@functools.partial(jax.jit, static_argnums=0)
def in_all_ways(model, params, batch, row):
    """Logits of ``batch`` [B, T, V], of the same packed, and step by step."""
    together = model.apply({"params": params}, row, train=False)[0]
    call = functools.partial(model.apply, {"params": params})
    memory = call(batch.source, batch.source_segments, train=False, method="encode")
    cache = call(
        memory, batch.source_segments, width=2, max_length=7, method="init_cache"
    )
    rows = jnp.arange(len(batch.source))

    def step(cache, now):
        t, tokens = now
        # hypothesis 1 reads something else, and is then thrown away
        tokens = jnp.stack([tokens, (rows + t) % 11], axis=1)
        logits, cache = call(tokens, cache, method="step")
        parents = jnp.where(t % 2, jnp.zeros(2, int), jnp.arange(2))
        cache = cache.select(jnp.broadcast_to(parents, (len(rows), 2)))
        return cache, logits[:, 0]

    tokens = batch.target_inputs.T
    _, steps = jax.lax.scan(step, cache, (jnp.arange(len(tokens)), tokens))
    return whole(model, params, batch), together, jnp.swapaxes(steps, 0, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_and_step_by_step_the_logits_are_those_of_pairs_alone(kind):
    all_logits = in_all_ways(*made(kind), pair_batch(*PAIRS), packed(PAIRS))
    logits, together, steps = map(np.asarray, all_logits)
    np.testing.assert_allclose(steps, logits, atol=2e-6)
    first = 0
    for row, (_, target) in enumerate(PAIRS):
        unpacked = together[first : first + len(target)]
        np.testing.assert_allclose(unpacked, logits[row, : len(target)], atol=2e-6)
        first += len(target)


@pytest.mark.parametrize("kind", ["additive", "dot", "general", "concat"])
def test_the_audit_finds_no_leak(kind):
    report = audit_transformer(*made(kind), show=False)
    assert report.passed, report
    assert all(check.measured is not None for check in report)


@pytest.mark.parametrize("size, count", [
    ("bentrevett1", 13_898_501 - 4 * 4 * 512),
    ("bentrevett2", 14_219_781 - 2 * 2 * 512),
    ("bentrevett3", 20_518_405 - 3 * 2 * 512),
])  # fmt: skip
def test_counts_are_published_ones_less_the_second_bias_of_torch(size, count):
    cfg = Config(**SIZES[size], source_vocab=7853, target_vocab=5893)
    make = functools.partial(init_params, RNNSeq2Seq(cfg), jax.random.key(0))
    params = jax.eval_shape(make, pair_batch(*PAIRS))
    assert sum(x.size for x in jax.tree.leaves(params)) == count


@pytest.mark.parametrize("ratio", (0.0, 0.5))
def test_a_share_of_the_tokens_that_are_read_is_its_own(ratio):
    model, params = made("additive")
    batch = pair_batch(*PAIRS)
    mine = RNNSeq2Seq(Config(**NARROW | {"teacher_forcing": ratio}))

    @jax.jit
    def logits(seed, inputs):
        changed = batch._replace(target_inputs=inputs)
        rngs = {"dropout": jax.random.key(seed)}
        return mine.apply({"params": params}, changed, train=True, rngs=rngs)

    first = logits(0, batch.target_inputs)
    np.testing.assert_array_equal(first, logits(0, batch.target_inputs))
    others = batch.target_inputs.copy()
    others[:, 1:] = (others[:, 1:] + 1) % 11
    if ratio:
        assert np.abs(first - logits(1, batch.target_inputs)).max() > 1e-3
        assert np.abs(first - logits(0, others)).max() > 1e-3
    else:  # the reference is read at BOS alone: this is what greedy decoding writes
        np.testing.assert_array_equal(first, logits(1, others))
        written = np.array(jnp.argmax(first, -1))
        forced = np.concatenate([batch.target_inputs[:, :1], written[:, :-1]], axis=1)
        changed = batch._replace(target_inputs=forced)
        again = whole(model, params, changed)
        np.testing.assert_allclose(first, again, atol=2e-6)


def test_greedy_and_beam_write_what_the_whole_model_finds_likeliest():
    model, params = made("general")
    sources = [np.array(source, np.int32) for source, _ in PAIRS]
    greedy = decode(model, params, sources, beam=1, offset=3, length_penalty=0.0)
    beam = decode(model, params, sources, beam=3, offset=3, length_penalty=0.0)
    targets = [tokens[0, : lengths[0]] for tokens, _, lengths in greedy]
    batch = pair_batch(*zip(sources, targets, strict=True), length=9)
    likeliest = np.argmax(whole(model, params, batch)[:, :, 2:], -1) + 2
    for row, target in enumerate(targets):  # neither pad nor BOS is written
        assert beam[row][1][0] >= greedy[row][1][0] - 1e-5
        np.testing.assert_array_equal(likeliest[row, : len(target)], target)


@pytest.mark.parametrize("wrong, words", [
    (dict(score="dot"), "model.score='dot' needs model.width=6 of both sides"),
    (dict(input_feeding=True, readout="plain"), "choose from (tanh, maxout)"),
    (dict(tie="two_way"), "set model.readout_width"),
    (dict(bridge="copy"), "choose from (tanh_backward, tanh, zeros)"),
    (dict(bridge="tanh_backward", bidirectional=False), "source_order='reversed'"),
])  # fmt: skip
def test_what_does_not_go_together_is_said_in_one_line(wrong, words):
    with pytest.raises(ConfigError) as caught:
        build(Config, section(Config, **NARROW | wrong).to_dict())
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["concat", "fed_previous"])
def test_devices_that_divide_the_rows_meet_once_in_a_training_step(kind):
    """And not in every step of a scan: they exchange gradients that are added up."""
    cfg = Config(**NARROW | KINDS[kind], teacher_forcing=0.5, dropout=0.2)
    model, (_, params) = RNNSeq2Seq(cfg), made(kind)

    def loss(params, batch, key):
        drawn = {"dropout": key}
        return jnp.sum(model.apply({"params": params}, batch, train=True, rngs=drawn))

    mesh = make_mesh(MeshConfig(), jax.devices()[:2])
    with jax.set_mesh(mesh):
        batch = put_batch(mesh, pair_batch(*PAIRS))
        gradient = jax.jit(jax.grad(loss), out_shardings=NamedSharding(mesh, P()))
        program = gradient.lower(params, batch, jax.random.key(0)).compile().as_text()
    loops, entry = program.split("\nENTRY ")
    exchange = r" (all-[a-z-]+?|reduce-scatter|collective-permute)(?:-start)?\("
    assert (re.findall(exchange, loops), re.findall(exchange, entry)) == (
        [],
        ["all-reduce"],
    )
