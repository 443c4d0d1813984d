"""Against ``generate`` of transformers, on a MarianMT with random weights."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tfm_jax.decode.beam import beam_search
from tfm_jax.decode.greedy import greedy

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

BATCH, VOCAB, LENGTH, EOS = 48, 23, 10, 0
PAD = VOCAB - 1  # also the first token that the decoder reads


@pytest.fixture(scope="module")
def marian():
    torch.manual_seed(0)
    cfg = transformers.MarianConfig(
        vocab_size=VOCAB,
        d_model=16,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=32,
        init_std=0.6,  # hypotheses of all lengths, and no two alike
        pad_token_id=PAD,
        decoder_start_token_id=PAD,
        eos_token_id=EOS,
        forced_eos_token_id=EOS,
    )
    return transformers.MarianMTModel(cfg).eval()


@pytest.fixture(scope="module")
def source():
    return np.random.default_rng(0).integers(1, PAD, size=(BATCH, 7))


class Prefixes(NamedTuple):
    """No cache at all: the model reads every prefix anew."""

    index: jax.Array  # []
    tokens: jax.Array  # [B, W, T]

    def select(self, parents):
        return self._replace(
            tokens=jnp.take_along_axis(self.tokens, parents[..., None], axis=1)
        )


def make_step(marian, source):
    def logits(index, tokens):
        batch, width, _ = tokens.shape
        prefixes = np.asarray(tokens)[..., : int(index) + 1].reshape(batch * width, -1)
        with torch.no_grad():
            out = marian(
                input_ids=torch.tensor(source.repeat(width, 0)),
                decoder_input_ids=torch.tensor(prefixes).long(),
            ).logits[:, -1]
        return out.numpy().reshape(batch, width, VOCAB)

    def step(tokens, cache):
        past = cache.tokens.at[:, :, cache.index].set(tokens)
        shape = jax.ShapeDtypeStruct((*tokens.shape, VOCAB), jnp.float32)
        out = jax.pure_callback(logits, shape, cache.index, past)
        return out, Prefixes(cache.index + 1, past)

    return step


def search(marian, source, beam, **arguments):
    """Hypotheses on one CPU device, so that the callback finds a free one."""
    arguments.update(batch=BATCH, bos=PAD, eos=EOS, pad=PAD, forbid=(PAD,))
    arguments.update(max_length=LENGTH)
    method = functools.partial(beam_search, beam=beam) if beam else greedy
    cache = Prefixes(
        jnp.zeros((), jnp.int32), jnp.zeros((BATCH, beam or 1, LENGTH), jnp.int32)
    )
    step = make_step(marian, source)
    return jax.jit(lambda cache: method(step, cache, **arguments))(cache)


def generate(marian, source, **arguments):
    """[B, hypotheses, T] tokens without the first, and the scores if it has any."""
    out = marian.generate(
        torch.tensor(source),
        do_sample=False,
        max_new_tokens=LENGTH,
        bad_words_ids=[[PAD]],
        return_dict_in_generate=True,
        output_scores=True,
        **arguments,
    )
    tokens = out.sequences[:, 1:].numpy()
    tokens = np.pad(
        tokens, ((0, 0), (0, LENGTH - tokens.shape[1])), constant_values=PAD
    )
    return tokens.reshape(BATCH, -1, LENGTH), out.get("sequences_scores")


@pytest.mark.parametrize("forced", [True, False])
def test_beam_search_finds_every_hypothesis_that_marian_generates(
    marian, source, forced
):
    found = search(marian, source, 4, length_penalty=0.0, force_eos=forced)
    tokens, scores = generate(
        marian,
        source,
        num_beams=4,
        num_return_sequences=4,
        length_penalty=0.0,
        early_stopping=False,
        forced_eos_token_id=EOS if forced else None,
    )
    np.testing.assert_array_equal(found.tokens, tokens)
    np.testing.assert_allclose(
        found.scores, scores.numpy().reshape(BATCH, 4), atol=1e-4
    )
    lengths = np.asarray(found.lengths)
    assert lengths.min() <= 2 and lengths.max() == LENGTH  # the case is no easy one


def test_greedy_says_what_marian_generates(marian, source):
    found = search(marian, source, 0, force_eos=True)
    tokens, _ = generate(marian, source, num_beams=1, forced_eos_token_id=EOS)
    np.testing.assert_array_equal(found.tokens, tokens)
