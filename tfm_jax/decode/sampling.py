"""Continuations drawn token by token: greedy, temperature, top-k and top-p."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jax.typing import ArrayLike

from tfm_jax.data.batch import TextBatch
from tfm_jax.decode.inputs import Rows
from tfm_jax.decode.rows import pad_rows, power_of_two
from tfm_jax.decode.scoring import lm_logits
from tfm_jax.decode.topk import top_k as k_largest
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


def keep_likeliest(
    logits: jax.Array, *, top_k: int = 0, top_p: float = 1.0
) -> jax.Array:
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


def draw(logits: jax.Array, key: jax.Array, how: Sampling) -> jax.Array:
    """Tokens [...] int32 from logits [..., V] float32, see ``Sampling``."""
    if how.forbid:
        logits = logits.at[..., jnp.array(how.forbid)].set(HIDDEN)
    if how.temperature == 0.0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = keep_likeliest(logits / how.temperature, top_k=how.top_k, top_p=how.top_p)
    return jax.random.categorical(key, logits).astype(jnp.int32)


class _State(NamedTuple):
    taken: jax.Array  # [] tokens drawn
    tokens: jax.Array  # [B, W, T]
    last: jax.Array  # [B, W]
    scores: jax.Array  # [B, W]
    lengths: jax.Array  # [B, W]
    done: jax.Array  # [B, W]
    cache: object


def sample(
    step: Callable, cache: Any, start: jax.Array, keys: jax.Array, how: Sampling
) -> Samples:
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
        now = jax.vmap(jax.random.fold_in, (0, None))(keys, state.taken)
        tokens = jax.vmap(lambda row, key: draw(row, key, how))(logits, now)
        score = jax.nn.log_softmax(logits, axis=-1)
        gains = jnp.take_along_axis(score, tokens[..., None], axis=-1)[..., 0]
        tokens = jnp.where(state.done, how.pad, tokens)
        return _State(
            taken=state.taken + 1,
            tokens=state.tokens.at[:, :, state.taken].set(tokens),
            last=tokens,
            scores=state.scores + jnp.where(state.done, 0.0, gains),
            lengths=state.lengths + ~state.done,
            done=state.done | (tokens == how.eos),
            cache=cache,
        )

    first = _State(
        taken=jnp.zeros((), jnp.int32),
        tokens=jnp.full((batch, width, how.max_tokens), how.pad, jnp.int32),
        last=start,
        scores=jnp.zeros((batch, width), jnp.float32),
        lengths=jnp.zeros((batch, width), jnp.int32),
        done=jnp.zeros((batch, width), bool),
        cache=cache,
    )

    def unfinished(state):
        return ~jnp.all(state.done) & (state.taken < how.max_tokens)

    end = lax.while_loop(unfinished, advance, first)
    return Samples(end.tokens, end.scores, end.lengths)


def generate(
    model: nn.Module,
    params: Mapping[str, Any],
    prompts: Rows,
    how: Sampling,
    *,
    seed: int = 0,
    first: int = 0,
    cached: bool = True,
    beside: Mapping[str, ArrayLike] = MappingProxyType({}),
) -> Samples:
    """Continues prompts of any lengths together.

    Args:
        model: a module with methods ``prefill`` and ``step``; its ``cfg.longest`` says
            how long rows may be.
        params: nested dict, of the unrolled layout.
        prompts: list of B int sequences, each of at least one token (a model's start
            token, if there is nothing to continue).
        seed, first: what is drawn for prompt b depends on the seed, on ``first`` + b
            and on the prompt.
        cached: False computes all of the text again for each token, for comparison;
            then ``model`` only needs its call, on text alone.
        beside: further arguments of ``prefill``, arrays [B, ...], such as images.
    Raises: ValueError for a prompt that is empty or leaves no room, and for what
        ``Sampling`` cannot mean.
    """
    check_prompts(prompts, checked(how).max_tokens, model.cfg.longest)
    rows = prompt_rows(prompts, how.max_tokens, model.cfg.longest)
    key = jax.random.key(seed)
    begin = primed if cached else recomputed
    rest = {name: filled(x, len(rows[0])) for name, x in beside.items()}
    found = _generate(model, how, begin, params, *rows, key, jnp.int32(first), rest)
    return jax.tree.map(lambda x: x[: len(prompts)], found)


def check_prompts(prompts: Rows, max_tokens: int, longest: int) -> None:
    """Raises: ValueError for a prompt that is empty or leaves no room to continue."""
    if not prompts or not min(map(len, prompts)):
        raise ValueError("every prompt needs at least one token")
    most = longest - max_tokens + 1  # the last token drawn takes no room
    for row, prompt in enumerate(prompts):
        if longest and len(prompt) > most:
            raise ValueError(
                f"prompt {row} has {len(prompt)} tokens and the model takes {longest} "
                f"(model.max_length): with max_tokens={max_tokens} a prompt may have "
                f"{max(most, 0)}"
            )


def prompt_rows(
    prompts: Rows, max_tokens: int, longest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Prompts as (tokens [B, P], lengths [B]) int32; B and P are powers of two.

    P is less where ``longest`` tokens, 0: no limit, would not leave ``max_tokens``.
    """
    size = power_of_two(max(map(len, prompts)))
    if longest:
        size = min(size, longest - max_tokens + 1)
    filled = [*prompts, *[prompts[0]] * (power_of_two(len(prompts)) - len(prompts))]
    return pad_rows(filled, size), np.array([len(row) for row in filled], np.int32)


def filled(x: ArrayLike, count: int) -> np.ndarray:
    """[B, ...] with its first entry again and again, up to ``count``."""
    x = np.asarray(x)
    return np.concatenate([x, np.repeat(x[:1], count - len(x), axis=0)])


def primed(
    model: nn.Module,
    params: Mapping[str, Any],
    tokens: jax.Array,
    lengths: jax.Array,
    *,
    width: int,
    max_tokens: int,
    **beside: Any,
) -> tuple[Callable, Any, jax.Array]:
    """(``step``, cache, last tokens [B, 1]) of prompts taken but for their last token.

    Args: as ``prompt_rows`` makes them. width: W, continuations of each. beside: see
        ``generate``.
    """
    variables = {"params": params}
    cache = model.apply(
        variables,
        tokens[:, :-1],
        lengths - 1,
        width=width,
        max_length=tokens.shape[1] - 1 + max_tokens,
        **beside,
        method="prefill",
    )

    def step(tokens, cache):
        return model.apply(variables, tokens, cache, method="step")

    return step, cache, jnp.take_along_axis(tokens, lengths[:, None] - 1, axis=1)


class _Text(NamedTuple):
    """What there is of each text; ``taken`` [B] tokens of the ``rows`` [B, W, S]."""

    rows: jax.Array
    taken: jax.Array


def recomputed(
    model: nn.Module,
    params: Mapping[str, Any],
    tokens: jax.Array,
    lengths: jax.Array,
    *,
    width: int,
    max_tokens: int,
) -> tuple[Callable, Any, jax.Array]:
    """As ``primed``, with a ``step`` that computes all of the text each time."""
    batch = len(tokens)
    rows = jnp.pad(tokens, ((0, 0), (0, max_tokens - 1)))
    rows = jnp.repeat(rows[:, None], width, axis=1)

    def step(tokens, text):
        here = jnp.arange(text.rows.shape[2]) == text.taken[:, None]
        rows = jnp.where(here[:, None], tokens[..., None], text.rows)
        taken = text.taken + 1
        real = jnp.arange(rows.shape[2]) < jnp.repeat(taken, width)[:, None]
        flat = TextBatch(rows.reshape(batch * width, -1), real.astype(jnp.int32))
        logits = lm_logits(model.apply({"params": params}, flat, train=False))
        logits = logits.reshape(*rows.shape, -1)
        last = jnp.take_along_axis(logits, text.taken[:, None, None, None], axis=2)[
            :, :, 0
        ]
        return last, _Text(rows, taken)

    last = jnp.take_along_axis(tokens, lengths[:, None] - 1, axis=1)
    return step, _Text(rows, lengths - 1), last


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _generate(model, how, begin, params, tokens, lengths, key, first, beside):
    size = dict(width=how.samples, max_tokens=how.max_tokens)
    step, cache, last = begin(model, params, tokens, lengths, **size, **beside)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(len(tokens)))
    return sample(step, cache, jnp.repeat(last, how.samples, axis=1), keys, how)
