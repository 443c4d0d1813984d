"""Greedy decoding: the likeliest token, one after the other."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from tfm_jax.decode.hypotheses import Hypotheses, checked_limits, while_active
from tfm_jax.decode.topk import best_tokens


class _State(NamedTuple):
    taken: jax.Array  # [], tokens taken
    tokens: jax.Array  # [B, T]
    last: jax.Array  # [B]
    scores: jax.Array  # [B]
    lengths: jax.Array  # [B]
    done: jax.Array  # [B] bool
    limits: jax.Array  # [B]
    cache: Any


def greedy(
    step: Callable,
    cache: Any,
    *,
    batch: int,
    bos: int,
    eos: int,
    pad: int = 0,
    max_length: int,
    limits: ArrayLike | None = None,
    force_eos: bool = False,
    forbid: tuple[int, ...] = (),
    tail: int = 0,
) -> Hypotheses:
    """The likeliest token at every position, until EOS or the limit.

    Equals ``beam_search`` with one beam and no length penalty. To be called under jit;
    ends as soon as every sentence has.

    Args:
        step: (tokens [B, 1], cache) -> (logits [B, 1, V], cache), one position further.
        cache: what ``step`` takes first; it is never re-ordered.
        batch: B. bos, eos, pad: token ids.
        max_length: T, tokens that there is room for, EOS included.
        limits: [B] int, longest hypothesis of each sentence; None means T. One above T
            may leave its sentence incomplete.
        force_eos: the last token that a limit allows is EOS, at log-probability 0.
        forbid: token ids never produced; they keep their share of the probability.
        tail: rows in which the last sentences go on alone, see ``while_active``; then
            ``cache`` must be a tree of arrays [B, ...] and scalars, and ``step`` must
            know sentences by it alone. 0: none.
    Returns: ``Hypotheses`` with W = 1; scores are sums of log-probabilities. Without
        ``force_eos`` a hypothesis cut off at its limit has no EOS.
    Raises: ValueError if ``max_length`` or ``forbid`` make no sense.
    """
    limits = checked_limits(
        limits, batch=batch, max_length=max_length, eos=eos, forbid=forbid
    )

    def advance(state):
        logits, cache = step(state.last[:, None], state.cache)
        gains, tokens = (x[:, 0] for x in best_tokens(logits[:, 0], 1, forbid))
        at_limit = state.taken + 1 >= state.limits
        if force_eos:
            gains = jnp.where(at_limit, 0.0, gains)
            tokens = jnp.where(at_limit, eos, tokens)
        tokens = jnp.where(state.done, pad, tokens)
        return state._replace(
            taken=state.taken + 1,
            tokens=state.tokens.at[:, state.taken].set(tokens),
            last=tokens,
            scores=state.scores + jnp.where(state.done, 0.0, gains),
            lengths=state.lengths + ~state.done,
            done=state.done | (tokens == eos) | at_limit,
            cache=cache,
        )

    start = _State(
        taken=jnp.zeros((), jnp.int32),
        tokens=jnp.full((batch, max_length), pad, jnp.int32),
        last=jnp.full((batch,), bos, jnp.int32),
        scores=jnp.zeros((batch,), jnp.float32),
        lengths=jnp.zeros((batch,), jnp.int32),
        done=jnp.zeros((batch,), bool),
        limits=limits,
        cache=cache,
    )

    def active(state):
        return ~state.done & (state.taken < max_length)

    end = while_active(active, advance, start, tail)
    return Hypotheses(
        end.tokens[:, None], end.scores[:, None], end.lengths[:, None], end.done
    )
