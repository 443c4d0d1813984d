"""Batches whose last sentences go on in fewer rows."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.decode.toys import BOS, EOS, PAD, Cache, make_step, start, table
from tests.models import tiny, tiny_conv
from tfm_jax.decode import search
from tfm_jax.decode.beam import beam_search
from tfm_jax.decode.greedy import greedy
from tfm_jax.decode.hypotheses import while_active
from tfm_jax.layers.layout import init_params
from tfm_jax.models.rnn_seq2seq import Config, RNNSeq2Seq
from tfm_jax.objectives.translation import example

BATCH, LENGTH, VOCAB, BEAM = 24, 8, 7, 3


class Countdown(NamedTuple):
    """Sentences that end after ``left`` steps, and all the rows that steps had."""

    left: jax.Array  # [B]
    spent: jax.Array  # [B]
    rows: jax.Array  # []


@functools.partial(jax.jit, static_argnames="tail")
def count_down(left, tail):
    def advance(state):
        going = state.left > 0
        rows = state.rows + len(going)
        return Countdown(state.left - going, state.spent + going, rows)

    first = Countdown(left, jnp.zeros_like(left), jnp.int32(0))
    return while_active(lambda state: state.left > 0, advance, first, tail)


@pytest.mark.parametrize("tail", [0, 1, 6, BATCH - 1])
def test_a_step_has_the_rows_of_a_tail_once_it_holds_all_that_are_active(tail):
    generator = np.random.default_rng(tail)
    for longest in (0, 1, 10, 100):
        needed = generator.integers(0, longest + 1, BATCH, np.int32)
        end = count_down(needed, tail)
        np.testing.assert_array_equal(end.spent, needed)
        np.testing.assert_array_equal(end.left, 0)
        active = [np.sum(needed > step) for step in range(needed.max())]
        assert end.rows == sum(tail if n <= tail else BATCH for n in active)


class Sentences(NamedTuple):
    """A cache that holds the distribution of each sentence, too."""

    logits: jax.Array
    past: Cache

    def select(self, parents):
        return self._replace(past=self.past.select(parents))


@functools.partial(jax.jit, static_argnames=("beam", "tail"))
def run(logits, limits, *, beam, tail):
    def step(tokens, cache):
        scores, past = make_step(cache.logits)(tokens, cache.past)
        return scores, cache._replace(past=past)

    method = functools.partial(beam_search, beam=beam) if beam else greedy
    cache = Sentences(logits, start(BATCH, max(beam, 1)))
    shared = dict(bos=BOS, eos=EOS, pad=PAD, max_length=LENGTH, limits=limits)
    return method(step, cache, batch=BATCH, tail=tail, **shared)


@pytest.mark.parametrize("beam", [0, BEAM])
def test_a_tail_has_the_same_hypotheses(beam):
    for seed in range(4):
        logits = table(seed, BATCH, LENGTH, VOCAB)
        logits[::4, ..., EOS] -= 20.0  # a few long sentences among short ones
        limits = np.random.default_rng(seed).permutation(BATCH) % (LENGTH + 2) + 1
        whole = run(logits, limits, beam=beam, tail=0)
        apart = run(logits, limits, beam=beam, tail=6)
        jax.tree.map(np.testing.assert_array_equal, apart, whole)


def test_translations_do_not_depend_on_the_rows_or_the_order(monkeypatch):
    monkeypatch.setattr(search, "FEWEST", 1)
    model, params = tiny.tiny(decoder_depth=1, max_length=64)
    generator = np.random.default_rng(0)
    lengths = generator.integers(2, 17, 40)
    sources = [generator.integers(3, tiny.V, n) for n in lengths]
    order = generator.permutation(len(sources))
    translate = functools.partial(search.decode, model, params, beam=1, offset=4)
    expected = translate(sources, batch_sentences=16)
    counts = []
    actual = translate(  # the longest need more than the first room, of 20 tokens
        [sources[i] for i in order], batch_sentences=32, on_batch=counts.append
    )
    assert sum(counts) == len(sources)
    for i, (tokens, scores, length) in zip(order, actual, strict=True):
        np.testing.assert_array_equal(length, expected[i][2])
        end = length[0]
        np.testing.assert_array_equal(tokens[0, :end], expected[i][0][0, :end])
        np.testing.assert_allclose(scores, expected[i][1], rtol=1e-5)


def recurrent():
    sizes = dict(width=6, embedding_width=5, source_vocab=tiny.V, target_vocab=tiny.V)
    model = RNNSeq2Seq(Config(score="additive", **sizes))
    init = functools.partial(init_params, model, jax.random.key(0), example())
    return model, jax.eval_shape(init)


@pytest.mark.parametrize("make", [tiny.tiny, tiny_conv.tiny, recurrent])
def test_the_arrays_of_a_cache_have_a_row_for_each_sentence(make):
    model, params = make()
    batch, width, length = 5, 3, 7

    def step(params, source, tokens):
        def call(*args, **options):
            return model.apply({"params": params}, *args, **options)

        memory = call(source, source, train=False, method="encode")
        size = dict(width=width, max_length=length + 2)
        cache = call(memory, source, **size, method="init_cache")
        return cache, call(tokens, cache, method="step")[1]

    source = jax.ShapeDtypeStruct((batch, length), "int32")
    tokens = jax.ShapeDtypeStruct((batch, width), "int32")
    for leaf in jax.tree.leaves(jax.eval_shape(step, params, source, tokens)):
        assert leaf.ndim == 0 or leaf.shape[0] == batch
