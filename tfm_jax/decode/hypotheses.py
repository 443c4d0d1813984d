"""What decoding returns, and the checks on what it is asked."""

from collections.abc import Collection
from typing import NamedTuple

import jax
import jax.numpy as jnp
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


def goes_on(
    active: jax.Array, index: jax.Array, max_length: int, leave: float
) -> jax.Array:
    """Whether to take another step: there is room and more than the rest is active.

    Args:
        active: [B] bool, sentences that are not complete. index: [] tokens taken.
        leave: share of the sentences that may be left incomplete; 0 means none.
    """
    count = jnp.sum(active, dtype=jnp.int32)
    return (count > int(leave * active.shape[0])) & (index < max_length)
