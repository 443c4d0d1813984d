"""Continuations drawn token by token: greedy, temperature, top-k and top-p."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tfm_jax.infer.topk import top_k as k_largest
from tfm_jax.ops.masks import HIDDEN


class Sampling(NamedTuple):
    """How to draw; one compilation for each value.

    Attributes:
        max_tokens: T, drawn at most; EOS counts.
        samples: W, continuations of each prompt.
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: only the k likeliest tokens are drawn (Fan et al. 2018,
            arXiv:1805.04833); 0: all.
        top_p: only the likeliest tokens that together have this probability are drawn
            (Holtzman et al. 2020, arXiv:1904.09751); 1: all.
        eos: ends a continuation; -1: nothing does.
        pad: stands behind EOS.
        forbid: token ids that are never drawn.
    """

    max_tokens: int
    samples: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    eos: int = -1
    pad: int = 0
    forbid: tuple[int, ...] = ()


class Samples(NamedTuple):
    """Continuations of each prompt.

    Attributes:
        tokens: [B, W, T] int32, with EOS, PAD behind it.
        scores: [B, W] float32, log-probability in nats that the model itself gives the
            tokens: at temperature 1, nothing cut off.
        lengths: [B, W] int32, tokens up to and including EOS.
    """

    tokens: jax.Array
    scores: jax.Array
    lengths: jax.Array


def checked(how: Sampling) -> Sampling:
    """Raises: ValueError if a field of ``how`` makes no sense."""
    legal = {
        "max_tokens": how.max_tokens >= 1,
        "samples": how.samples >= 1,
        "temperature": how.temperature >= 0.0,
        "top_k": how.top_k >= 0,
        "top_p": 0.0 < how.top_p <= 1.0,
    }
    for name, good in legal.items():
        if not good:
            raise ValueError(f"{name}={getattr(how, name)} makes no sense")
    return how


def keep_likeliest(logits, *, top_k: int = 0, top_p: float = 1.0):
    """Logits [..., V] in which what is not to be drawn is -inf.

    First all but the ``top_k`` likeliest go, then, of the distribution over what is
    left, all but the fewest whose probabilities sum to at least ``top_p``. Tokens as
    likely as the last one that stays stay too.
    """
    vocab = logits.shape[-1]
    if not top_k and top_p == 1.0:
        return logits
    if top_k:
        ranked = k_largest(logits, min(top_k, vocab))[0]
    else:
        ranked = -jnp.sort(-logits, axis=-1)
    if top_p < 1.0:
        probability = jax.nn.softmax(ranked, axis=-1)
        before = jnp.cumsum(probability, axis=-1) - probability
        count = jnp.sum(before < top_p, axis=-1, keepdims=True)
        least = jnp.take_along_axis(ranked, count - 1, axis=-1)
    else:
        least = ranked[..., -1:]
    return jnp.where(logits >= least, logits, HIDDEN)


def draw(logits, key, how: Sampling):
    """Tokens [...] int32 from logits [..., V] float32, see ``Sampling``."""
    if how.forbid:
        logits = logits.at[..., jnp.array(how.forbid)].set(HIDDEN)
    if how.temperature == 0.0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = keep_likeliest(logits / how.temperature, top_k=how.top_k, top_p=how.top_p)
    return jax.random.categorical(key, logits).astype(jnp.int32)


class _State(NamedTuple):
    index: jax.Array  # [] tokens drawn
    tokens: jax.Array  # [B, W, T]
    last: jax.Array  # [B, W]
    scores: jax.Array  # [B, W]
    lengths: jax.Array  # [B, W]
    done: jax.Array  # [B, W]
    cache: object


def sample(step, cache, start, keys, how: Sampling) -> Samples:
    """Draws until EOS or the limit; to be called under jit.

    Args:
        step: (tokens [B, W], cache) -> (logits [B, W, V], cache), one position further.
        cache: what ``step`` takes first: a past without ``start``.
        start: [B, W] int32, the last token of each prompt.
        keys: [B] JAX keys, one a row, so that what is drawn for a prompt does not
            depend on the rows beside it.
    """
    batch, width = start.shape

    def advance(state):
        logits, cache = step(state.last, state.cache)
        now = jax.vmap(jax.random.fold_in, (0, None))(keys, state.index)
        tokens = jax.vmap(lambda row, key: draw(row, key, how))(logits, now)
        score = jax.nn.log_softmax(logits, axis=-1)
        gains = jnp.take_along_axis(score, tokens[..., None], axis=-1)[..., 0]
        tokens = jnp.where(state.done, how.pad, tokens)
        return _State(
            index=state.index + 1,
            tokens=state.tokens.at[:, :, state.index].set(tokens),
            last=tokens,
            scores=state.scores + jnp.where(state.done, 0.0, gains),
            lengths=state.lengths + ~state.done,
            done=state.done | (tokens == how.eos),
            cache=cache,
        )

    first = _State(
        index=jnp.zeros((), jnp.int32),
        tokens=jnp.full((batch, width, how.max_tokens), how.pad, jnp.int32),
        last=start,
        scores=jnp.zeros((batch, width), jnp.float32),
        lengths=jnp.zeros((batch, width), jnp.int32),
        done=jnp.zeros((batch, width), bool),
        cache=cache,
    )

    def unfinished(state):
        return ~jnp.all(state.done) & (state.index < how.max_tokens)

    end = lax.while_loop(unfinished, advance, first)
    return Samples(end.tokens, end.scores, end.lengths)


def generate(model, params, prompts, how: Sampling, *, seed: int = 0) -> Samples:
    """Continues prompts of any lengths together.

    Args:
        model: a module with methods ``prefill`` and ``step``.
        params: nested dict, of the unrolled layout.
        prompts: list of B int sequences, each of at least one token (a model's start
            token, if there is nothing to continue).
        seed: what is drawn for prompt b depends on the seed, on b and on the prompt.
    Raises: ValueError for an empty prompt and for what ``Sampling`` cannot mean.
    """
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    if not lengths.size or lengths.min() < 1:
        raise ValueError("every prompt needs at least one token")
    tokens = np.zeros((len(prompts), lengths.max()), np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = prompt
    return _generate(model, checked(how), params, tokens, lengths, jax.random.key(seed))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _generate(model, how, params, tokens, lengths, key):
    variables, taken = {"params": params}, tokens.shape[1] - 1
    cache = model.apply(
        variables,
        tokens[:, :-1],
        lengths - 1,
        width=how.samples,
        max_length=taken + how.max_tokens,
        method="prefill",
    )
    last = jnp.take_along_axis(tokens, lengths[:, None] - 1, axis=1)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(tokens)))

    def step(tokens, cache):
        return model.apply(variables, tokens, cache, method="step")

    return sample(step, cache, jnp.repeat(last, how.samples, axis=1), keys, how)
