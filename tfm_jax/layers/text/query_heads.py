"""Output heads on learned queries and a text: contrast, matching, generation."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.layers.embed import TokenEmbedding
from tfm_jax.layers.heads import LMHead
from tfm_jax.layers.linear import Linear, parameter
from tfm_jax.layers.text.encoder import EncoderArch

# [B, Q, E] -> the vectors of an image that texts are compared with
POOLS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "closest": lambda x: x,  # Li et al. 2023, arXiv:2301.12597, section 3.2
    "mean": lambda x: jnp.mean(x, axis=1, keepdims=True),
}


class Vectors(NamedTuple):
    """What images and texts are compared by, float32.

    Attributes:
        images: [B, Q, E] of length 1, of which the one that is closest to a text
            counts; [B, 1, E], their mean. None without images.
        texts: [B, E] of length 1; None without text.
        temperature: [], which similarities are divided by.
    """

    images: jax.Array | None
    texts: jax.Array | None
    temperature: jax.Array


class QueryHeads(nn.Module):
    """Heads on the states of queries and text; their maps are in float32.

    Source: Li et al. 2023, arXiv:2301.12597, section 3.2, as released (LAVIS).
    Deviates: ``begin``, the embedding that a generated text begins with, is not a row
    of the table of words ([DEC]).
    """

    arch: EncoderArch
    embed_width: int  # E
    pool: str  # a key of POOLS
    temperature: float  # at first

    def setup(self):  # what is not called has no parameters
        arch = self.arch

        def linear(features):
            return Linear((features,), ("embed", None), arch.init)

        self.image, self.text = linear(self.embed_width), linear(self.embed_width)
        self.match = linear(2)
        self.lm = LMHead(arch, arch.width)
        dtype = jnp.dtype(arch.dtype)
        self.begin = TokenEmbedding(
            1, arch.width, arch.init, arch.embedding_scale, dtype
        )
        first = nn.initializers.constant(self.temperature)
        self.divisor = parameter(self, "temperature", first, ())

    def contrast(self, queries: jax.Array | None, text: jax.Array | None) -> Vectors:
        """``Vectors`` of the queries [B, Q, D] and of the first token of [B, T, D]."""
        images = texts = None
        if queries is not None:
            images = POOLS[self.pool](_unit(self.image(_exact(queries))))
        if text is not None:
            texts = _unit(self.text(_exact(text[:, 0])))
        return Vectors(images, texts, self.divisor)

    def matched(self, queries: jax.Array) -> jax.Array:
        """Logits [B, 2], the mean of those of all queries [B, Q, D]."""
        return jnp.mean(self.match(_exact(queries)), axis=1)


def _exact(x):
    return x.astype(jnp.float32)


def _unit(x):
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, 1e-24))
