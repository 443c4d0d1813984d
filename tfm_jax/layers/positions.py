"""Position schemes: vectors added to tokens, a rotation, or a bias on the logits."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.layers.linear import parameter
from tfm_jax.ops import positions as ops


class Scheme(NamedTuple):
    """A scheme acts in at most one of four places.

    Attributes:
        vectors: (positions, width) -> [B, T, D], added to the embeddings.
        learned: a trained table is added to the embeddings.
        rotates: queries and keys of self-attention are rotated.
        bias: key of a bias on self-attention's logits ("alibi", "t5"), or "".
        axes: 1: positions are [B, T], along the row; 2: [B, T, 2], columns and rows of
            a grid of patches.
    """

    vectors: Callable | None = None
    learned: bool = False
    rotates: bool = False
    bias: str = ""
    axes: int = 1


POSITIONS = {
    "sinusoidal": Scheme(vectors=ops.sinusoid),  # Vaswani et al. 2017, section 3.5
    "sinusoidal_halves": Scheme(vectors=ops.sinusoid_halves),  # Marian, Junczys 2018
    "learned": Scheme(learned=True),  # Gehring et al. 2017, arXiv:1705.03122
    "none": Scheme(),
    "rotary": Scheme(rotates=True),  # Su et al. 2021, arXiv:2104.09864
    "alibi": Scheme(bias="alibi"),  # Press et al. 2022, arXiv:2108.12409
    "t5": Scheme(bias="t5"),  # Raffel et al. 2020, arXiv:1910.10683
    # Beyer et al. 2022, arXiv:2205.01580, as released
    "sincos2d": Scheme(vectors=ops.sincos_2d, axes=2),
    # He et al. 2022, arXiv:2111.06377, as released
    "sincos2d_mae": Scheme(vectors=ops.sincos_2d_mae, axes=2),
    "rotary2d": Scheme(rotates=True, axes=2),  # Heo et al. 2024, arXiv:2403.13298
}


class PositionBias(nn.Module):
    """Bias of self-attention's logits by distance, one for all layers of a stack.

    Args (call): q_positions: [B, T] int. kv_positions: [B, S] int.
    Returns: [B, H, T, S] float32, or None if the scheme has no bias.
    """

    scheme: str  # a key of POSITIONS
    heads: int
    bidirectional: bool

    @nn.compact
    def __call__(
        self, q_positions: jax.Array, kv_positions: jax.Array
    ) -> jax.Array | None:
        kind = POSITIONS[self.scheme].bias
        if kind == "alibi":
            return ops.alibi_bias(q_positions, kv_positions, self.heads)
        if kind == "t5":
            init, shape = nn.initializers.normal(0.02), (32, self.heads)
            table = parameter(self, "table", init, shape, (None, "heads"))
            bucket = ops.relative_buckets(
                q_positions, kv_positions, bidirectional=self.bidirectional
            )
            return jnp.moveaxis(table[bucket], -1, 1)
        return None
