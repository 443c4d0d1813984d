"""Token embedding, tied output projection, position and type embeddings."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from tfm_jax.layers.arch import TextArch
from tfm_jax.layers.linear import INITS, Dropout, Linear, constrain, parameter
from tfm_jax.layers.norms import NORM_KINDS
from tfm_jax.layers.positions import POSITIONS
from tfm_jax.ops.losses import token_logits


class TokenEmbedding(nn.Module):
    """Table of token vectors; ``attend`` scores states against it.

    Both take another ``table`` [V, D] in place of the parameter, if there is one.

    Source: Vaswani et al. 2017, section 3.4 (weights shared with the pre-softmax
    projection, embeddings multiplied by sqrt(d_model)). Deviates: no.
    """

    vocab: int
    width: int
    initializer: str  # a key of INITS
    scale: bool  # multiply by sqrt(width) on the way in, not on the way out
    dtype: DTypeLike = jnp.float32

    def setup(self):
        init = INITS[self.initializer].embedding(self.width)
        shape, axes = (self.vocab, self.width), ("vocab", "embed")
        self.table = parameter(self, "table", init, shape, axes)

    def __call__(self, tokens: jax.Array, table: jax.Array | None = None) -> jax.Array:
        """[B, T] int in [0, V) -> [B, T, D]."""
        table = self.table if table is None else table
        x = jnp.take(table, tokens, axis=0, mode="clip").astype(self.dtype)
        return x * jnp.asarray(self.width**0.5, self.dtype) if self.scale else x

    def attend(self, x: jax.Array, table: jax.Array | None = None) -> jax.Array:
        """[B, T, D] -> logits [B, T, V] float32."""
        table = self.table if table is None else table
        table = constrain(table, "vocab", None)  # it may lie divided by its width
        return token_logits(x, table, self.dtype)


class PositionEmbedding(nn.Module):
    """Adds position vectors to token vectors, where the scheme has any.

    Args (call): x: [B, T, D]. positions: [B, T] int, below ``max_length`` if learned.
        drop: what a learned table goes through first.
    Returns: [B, T, D].
    """

    scheme: str  # a key of POSITIONS
    max_length: int
    initializer: str

    @nn.compact
    def __call__(
        self, x: jax.Array, positions: jax.Array, drop: Callable | None = None
    ) -> jax.Array:
        scheme, width = POSITIONS[self.scheme], x.shape[-1]
        if scheme.learned:
            init = INITS[self.initializer].embedding(width)
            shape = (self.max_length, width)
            table = parameter(self, "table", init, shape, (None, "embed"))
            table = drop(table) if drop else table
            vectors = jnp.take(table, positions, axis=0, mode="clip")
            # for all rows before it is rounded, so that gradients sum in float32
            return x + jnp.broadcast_to(vectors, x.shape).astype(x.dtype)
        if scheme.vectors:
            return x + scheme.vectors(positions, width).astype(x.dtype)
        return x


class TextEmbedding(nn.Module):
    """Token + type + position, then norm and dropout; ``widen`` maps E to D.

    Source: Devlin et al. 2019, arXiv:1810.04805, section 3 and figure 2, norm and
    dropout as released; Lan et al. 2020, arXiv:1909.11942, section 3.1, for a table
    narrower than the layers. Deviates: no.
    Args (call): tokens, types: [B, T] int, ``types`` None for all 0. positions:
        [B|1, T] int. Returns: [B, T, E], or [B, T, D] if ``project``.
    """

    cfg: TextArch
    vocab: int
    types: int  # rows of the table of sentence types
    width: int  # E
    project: bool  # a dense map to cfg.width (D) follows

    def setup(self):
        cfg, dtype = self.cfg, jnp.dtype(self.cfg.dtype)
        self.word = TokenEmbedding(
            self.vocab, self.width, cfg.init, cfg.embedding_scale, dtype
        )
        self.type = TokenEmbedding(self.types, self.width, cfg.init, False, dtype)
        self.position = PositionEmbedding(cfg.positions, cfg.max_length, cfg.init)
        make = NORM_KINDS[cfg.norm_kind]
        self.norm = make(epsilon=cfg.norm_eps, dtype=dtype, name=None)
        self.dropout = Dropout(cfg.dropout)
        if self.project:
            axes = (None, "embed")
            self.map = Linear((cfg.width,), axes, cfg.init, dtype=dtype)

    def __call__(
        self,
        tokens: jax.Array,
        types: jax.Array | None,
        positions: jax.Array,
        *,
        train: bool,
    ) -> jax.Array:
        return self.widen(self.look_up(tokens, types, positions, train=train))

    def look_up(
        self,
        tokens: jax.Array,
        types: jax.Array | None,
        positions: jax.Array,
        *,
        train: bool,
    ) -> jax.Array:
        """-> [B, T, E], normalised and dropped out."""
        types = jnp.zeros_like(tokens) if types is None else types
        x = self.position(self.word(tokens) + self.type(types), positions)
        return self.dropout(self.norm(x), train=train)

    def widen(self, x: jax.Array) -> jax.Array:
        """[B, T, E] -> [B, T, D]."""
        return self.map(x) if self.project else x
