"""Beam search with an exact early exit."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from tfm_jax.decode.hypotheses import Hypotheses, checked_limits, while_active
from tfm_jax.decode.topk import best_tokens, top_k
from tfm_jax.ops.masks import HIDDEN


class _Links(NamedTuple):
    """A token and which live hypothesis of the step before it continues."""

    tokens: jax.Array
    parents: jax.Array


class _Finished(NamedTuple):
    """The best finished hypotheses so far, best first; each [B, R]."""

    scores: jax.Array  # penalised; -inf if there is none
    lengths: jax.Array
    links: _Links


class _State(NamedTuple):
    taken: jax.Array  # [], tokens taken
    history: _Links  # [B, T, W], every step's live hypotheses
    last: jax.Array  # [B, W]
    scores: jax.Array  # [B, W], sums of log-probabilities of the live hypotheses
    finished: _Finished
    active: jax.Array  # [B] bool, whether the finished ones can still change
    limits: jax.Array  # [B]
    cache: Any


def beam_search(
    step: Callable,
    cache: Any,
    *,
    batch: int,
    beam: int,
    bos: int | jax.Array,
    eos: int,
    pad: int = 0,
    max_length: int,
    limits: ArrayLike | None = None,
    length_penalty: float = 0.6,
    force_eos: bool = False,
    forbid: tuple[int, ...] = (),
    returned: int | None = None,
    tail: int = 0,
) -> Hypotheses:
    """The hypotheses of highest score that a beam of ``beam`` finds.

    Each step takes the 2 W best continuations of the W live hypotheses. Those of the
    first W that end in EOS are finished; the W best of those that do not end live on.
    A sentence is left as soon as no live hypothesis can enter its finished ones: its
    score is at most its log-probability now over the penalty of the length, reached or
    still allowed, that suits it best.

    Source: Wu et al. 2016, arXiv:1609.08144, section 7, equation 14: the score is the
    log-probability over ((5 + |Y|) / 6)^alpha; |Y| counts EOS.
    Deviates: no coverage penalty (beta = 0); no pruning of candidates or hypotheses.
    With alpha = 0 the hypotheses are those of ``generate`` in transformers 5 for
    ``num_beams=beam, do_sample=False, length_penalty=0, early_stopping=False,
    num_return_sequences=returned, max_new_tokens=max_length``, ``bad_words_ids`` for
    ``forbid`` and, for ``force_eos``, ``forced_eos_token_id``; with other alphas not,
    since it divides by |Y|^alpha and its early exit is then a heuristic.

    Args:
        step: (tokens [B, W], cache) -> (logits [B, W, V], cache), one position further.
        cache: what ``step`` takes first; ``cache.select(parents [B, W])`` re-orders it.
        batch: B. beam: W. bos, eos, pad: token ids; bos may be [B, 1].
        max_length: T, tokens of the longest hypothesis, EOS included.
        limits: [B] int, the same for each sentence; None means ``max_length``.
        length_penalty: alpha; 0 compares log-probabilities, more favours length.
        force_eos: the last token that a limit allows is EOS, at log-probability 0.
        forbid: token ids never produced; they keep their share of the probability.
        returned: R, the R best hypotheses are returned; None means ``beam``. Fewer are
            the same ones, found in fewer steps.
        tail: see ``greedy``.
    Returns: ``Hypotheses`` with R for W. Without ``force_eos`` a hypothesis cut off at
        its limit has no EOS.
    Raises: ValueError if ``beam``, ``returned``, ``max_length`` or ``forbid`` make no
        sense.
    """
    returned = beam if returned is None else returned
    if not 1 <= returned <= beam:
        raise ValueError(f"returned={returned} must be in 1 .. beam={beam}")
    limits = checked_limits(
        limits, batch=batch, max_length=max_length, eos=eos, forbid=forbid
    )

    def penalty(lengths):
        return ((5.0 + lengths) / 6.0) ** length_penalty

    def candidates(state):
        """Scores and links of the 2 W best continuations [B, 2 W], and the cache."""
        logits, cache = step(state.last, state.cache)
        gains, tokens = best_tokens(logits, 2 * beam, forbid)
        if force_eos:
            at_limit = (state.taken + 1 >= state.limits)[:, None, None]
            only = jnp.where(jnp.arange(gains.shape[-1]) == 0, 0.0, HIDDEN)
            gains = jnp.where(at_limit, only, gains)
            tokens = jnp.where(at_limit, eos, tokens)
        rows = len(state.scores)
        scores = (state.scores[..., None] + gains).reshape(rows, -1)
        scores, places = top_k(scores, min(2 * beam, scores.shape[-1]))
        tokens = _take(tokens.reshape(rows, -1), places)
        return scores, _Links(tokens, places // gains.shape[-1]), cache

    def advance(state):
        scores, links, cache = candidates(state)
        length = state.taken + 1
        ends = (links.tokens == eos) | (length >= state.limits)[:, None]

        enters = ends[:, :beam] & state.active[:, None]
        new = _Finished(
            scores=jnp.where(enters, scores[:, :beam], HIDDEN) / penalty(length),
            lengths=jnp.full(enters.shape, length),
            links=jax.tree.map(lambda x: x[:, :beam], links),
        )
        finished = jax.tree.map(
            lambda a, b: jnp.concatenate([a, b], axis=1), state.finished, new
        )
        _, places = top_k(finished.scores, returned)
        finished = jax.tree.map(lambda x: _take(x, places), finished)

        scores, places = top_k(jnp.where(ends, HIDDEN, scores), beam)
        links = jax.tree.map(lambda x: _take(x, places), links)
        best = scores[:, 0]
        bound = jnp.maximum(best / penalty(length + 1), best / penalty(state.limits))
        return state._replace(
            taken=length,
            history=jax.tree.map(
                lambda past, x: past.at[:, state.taken].set(x), state.history, links
            ),
            last=links.tokens,
            scores=scores,
            finished=finished,
            active=state.active & (bound > finished.scores[:, -1]),
            cache=cache.select(links.parents),
        )

    nothing = jnp.zeros((batch, returned), jnp.int32)
    unused = jnp.zeros((batch, max_length, beam), jnp.int32)
    start = _State(
        taken=jnp.zeros((), jnp.int32),
        history=_Links(unused, unused),
        last=jnp.full((batch, beam), bos, jnp.int32),
        # at first all hypotheses are the same: only one of them counts
        scores=jnp.full((batch, beam), HIDDEN).at[:, 0].set(0.0),
        finished=_Finished(
            jnp.full((batch, returned), HIDDEN), nothing, _Links(nothing, nothing)
        ),
        active=jnp.ones((batch,), bool),
        limits=limits,
        cache=cache,
    )

    def active(state):
        return state.active & (state.taken < max_length)

    end = while_active(active, advance, start, tail)
    lengths = jnp.where(jnp.isfinite(end.finished.scores), end.finished.lengths, 0)
    finished = end.finished._replace(lengths=lengths)
    return Hypotheses(
        _trace_back(end.history, finished, pad),
        finished.scores,
        finished.lengths,
        ~end.active,
    )


def _take(x, places):
    """Rows [B, n] of ``x`` [B, m] in the order of ``places`` [B, n]."""
    return jnp.take_along_axis(x, places, axis=1)


def _trace_back(history: _Links, finished: _Finished, pad: int) -> jax.Array:
    """Tokens [B, R, T] of the finished hypotheses, followed from last to first."""

    def back(slots, at):
        t, links = at
        inside, last = t < finished.lengths - 1, t == finished.lengths - 1
        tokens = jnp.where(inside, _take(links.tokens, slots), pad)
        slots = jnp.where(inside, _take(links.parents, slots), slots)
        return slots, jnp.where(last, finished.links.tokens, tokens)

    steps = jnp.arange(history.tokens.shape[1])
    past = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), history)
    _, tokens = lax.scan(back, finished.links.parents, (steps, past), reverse=True)
    return jnp.moveaxis(tokens, 0, -1)
