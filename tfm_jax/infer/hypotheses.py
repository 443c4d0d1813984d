"""What decoding returns, and the checks on what it is asked."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Hypotheses(NamedTuple):
    """Finished hypotheses of each sentence, best first.

    Attributes:
        tokens: [B, W, T] int32, without BOS, with EOS, PAD behind it.
        scores: [B, W] float32, nats; -inf where there are fewer than W hypotheses.
        lengths: [B, W] int32, tokens up to and including EOS.
        complete: [B] bool; False if there was no room for all that the limit allows,
            so that more room may give other hypotheses.
    """

    tokens: jax.Array
    scores: jax.Array
    lengths: jax.Array
    complete: jax.Array


def checked_limits(limits, *, batch: int, max_length: int, eos: int, forbid):
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
