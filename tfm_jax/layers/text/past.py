"""State of decoding a text with one stack."""

from typing import NamedTuple

import jax

from tfm_jax.ops import ancestry


class Cache(NamedTuple):
    """State of decoding ``W`` continuations of a text, which share one past.

    Attributes:
        index: [] int32, slots so far: tokens, and learned queries in front of them.
        layers: see ``Stack.init_cache``.
        starts: [B] int32, the slot of a row's first token; prompts end together.
        ancestry: [B, W, T] int32, see ``ops.ancestry``.
    """

    index: jax.Array  # type: ignore[assignment]  # hides a tuple's
    layers: tuple
    starts: jax.Array
    ancestry: jax.Array

    def select(self, parents: jax.Array) -> "Cache":
        """Hypothesis w of the result continues ``parents[:, w]``; parents: [B, W]."""
        return self._replace(ancestry=ancestry.follow(self.ancestry, parents))
