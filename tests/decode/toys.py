"""Small autoregressive models with known distributions, and references for them."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

PAD, BOS, EOS = 0, 1, 2


class Cache(NamedTuple):
    """Logits depend on the token before the last one too, so re-ordering matters."""

    index: jax.Array  # []
    before: jax.Array  # [B, W]

    def select(self, parents):
        return self._replace(before=jnp.take_along_axis(self.before, parents, axis=1))


def table(seed, batch, length, vocab, spread=2.0):
    """Logits [B, T, V, V, V]: sentence, position, token before the last, last, next."""
    rng = np.random.default_rng(seed)
    shape = (batch, length, vocab, vocab, vocab)
    return rng.normal(scale=spread, size=shape).astype(np.float32)


def start(batch, width):
    return Cache(jnp.zeros((), jnp.int32), jnp.full((batch, width), BOS))


def make_step(logits):
    def step(tokens, cache):
        rows = jnp.arange(tokens.shape[0])[:, None]
        out = jnp.asarray(logits)[rows, cache.index, cache.before, tokens]
        return out, Cache(cache.index + 1, tokens)

    return step


def log_probs(logits):
    """Float64 log-probabilities of one sentence's [T, V, V, V] table."""
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def score(probs, tokens):
    """Sum of log-probabilities of a sequence under one sentence's table."""
    history = [BOS, BOS, *tokens]
    return sum(
        probs[t, history[t], history[t + 1], token] for t, token in enumerate(tokens)
    )


def penalty(length, alpha):
    return ((5 + length) / 6) ** alpha


def every_sequence(probs, limit, alpha, forbid):
    """All (score, tokens) of at most ``limit`` tokens, best first."""
    words = [v for v in range(probs.shape[-1]) if v not in (*forbid, EOS)]
    found = []
    for length in range(1, limit + 1):
        for body in itertools.product(words, repeat=length - 1):
            for last in [EOS] if length < limit else [EOS, *words]:
                tokens = (*body, last)
                found.append((score(probs, tokens) / penalty(length, alpha), tokens))
    return sorted(found, reverse=True)


def plain_beam_search(probs, beam, limit, alpha, forbid):
    """[(score, tokens)], best first, in plain Python and without an early exit."""
    live, finished = [(0.0, ())], []
    for length in range(1, limit + 1):
        last = [((BOS, BOS) + tokens)[-2:] for _, tokens in live]
        options = [
            (total + probs[length - 1, a, b, v], (*tokens, v))
            for (total, tokens), (a, b) in zip(live, last, strict=True)
            for v in range(probs.shape[-1])
            if v not in forbid
        ]
        options = sorted(options, reverse=True)[: 2 * beam]
        ends = [length == limit or tokens[-1] == EOS for _, tokens in options]
        for (total, tokens), end in list(zip(options, ends, strict=True))[:beam]:
            if end:
                finished.append((total / penalty(length, alpha), tokens))
        live = [o for o, end in zip(options, ends, strict=True) if not end][:beam]
    return sorted(finished, reverse=True)[:beam]


def as_tuples(hypotheses, row):
    """[(score, tokens)] of one sentence."""
    return [
        (float(s), tuple(map(int, tokens[:n])))
        for tokens, s, n in zip(
            *(np.asarray(x)[row] for x in hypotheses[:3]), strict=True
        )
    ]
