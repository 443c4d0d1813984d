"""What decoding returns, the checks on what it is asked, and its loop."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike


class Hypotheses(NamedTuple):
    """Finished hypotheses of each sentence, best first.

    Attributes:
        tokens: [B, W, T] int32, without BOS, with EOS, PAD behind it.
        scores: [B, W] float32, nats; -inf where there are fewer than W hypotheses.
        lengths: [B, W] int32, tokens up to and including EOS.
        complete: [B] bool; False if the search was left before it had tried all that
            the limit allows, so that going on may give other hypotheses.
    """

    tokens: jax.Array
    scores: jax.Array
    lengths: jax.Array
    complete: jax.Array


def checked_limits(
    limits: ArrayLike | None,
    *,
    batch: int,
    max_length: int,
    eos: int,
    forbid: Collection[int],
) -> jax.Array:
    """``limits`` [B] int32, at least 1; None means ``max_length``.

    Raises: ValueError if ``max_length`` leaves no room or EOS may not be produced.
    """
    if max_length < 1:
        raise ValueError(f"max_length={max_length} must be at least 1")
    if eos in forbid:
        raise ValueError(f"forbid={forbid} must not contain eos={eos}")
    if limits is None:
        return jnp.full((batch,), max_length, jnp.int32)
    return jnp.maximum(jnp.asarray(limits, jnp.int32), 1)


def while_active(
    active: Callable[[Any], jax.Array],
    advance: Callable[[Any], Any],
    state: Any,
    tail: int = 0,
) -> Any:
    """``advance`` until no sentence is active, the last ``tail`` of them alone.

    Where a step costs what its rows cost, few long sentences do not hold up a batch.

    Args:
        active: state -> [B] bool. advance: state -> state; changes no result of a
            sentence that is not active.
        state: tree of arrays [B, ...] and of scalars.
        tail: below B; when no more than so many sentences are active, so many rows go
            on, by a second compiled loop. 0: all go on.
    Returns: the state of every sentence when it ended.
    """

    def more_than(count):
        return lambda state: jnp.sum(active(state), dtype=jnp.int32) > count

    state = lax.while_loop(more_than(tail), advance, state)
    if not tail:
        return state
    rows = jnp.argsort(~active(state), stable=True)[:tail]
    rest = jax.tree.map(lambda x: x[rows] if x.ndim else x, state)
    rest = lax.while_loop(more_than(0), advance, rest)
    return jax.tree.map(lambda x, y: x.at[rows].set(y) if x.ndim else y, state, rest)
