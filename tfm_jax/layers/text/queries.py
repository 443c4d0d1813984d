"""Encoder of learned queries, which attend to an image, and a text, as one row.

Source: Li et al. 2023, arXiv:2301.12597, section 3.1 and figure 2, as released (LAVIS).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.layers.embed import PositionEmbedding, TokenEmbedding
from tfm_jax.layers.linear import INITS, Dropout, constrain, parameter
from tfm_jax.layers.norms import NORM_KINDS
from tfm_jax.layers.parts import CROSS, FFN, SELF, Context, Memory
from tfm_jax.layers.stack import Stack
from tfm_jax.layers.text.encoder import EncoderArch
from tfm_jax.layers.text.past import Cache
from tfm_jax.ops import ancestry
from tfm_jax.ops.masks import Mask

TEXT_FFN = FFN._replace(rows="text")
QUERY_FFN = FFN._replace(name="query_ffn", rows="queries")
QUERY_CROSS = CROSS._replace(memory="image", rows="queries")
WITH_IMAGE = (SELF, QUERY_CROSS, QUERY_FFN, TEXT_FFN)
WITHOUT = (SELF, QUERY_FFN, TEXT_FFN)


def _apart(queries, real):
    of_text = 2 * real.astype(jnp.int32)
    segments = jnp.pad(of_text, ((0, 0), (queries, 0)), constant_values=1)
    return Mask(q_segments=segments, kv_segments=segments)


def _full(queries, real):
    return Mask(kv_lengths=queries + jnp.sum(real, axis=-1, dtype=jnp.int32))


def _causal(queries, real):
    return Mask(causal=True, prefix=jnp.full(len(real), queries))


# (number of queries, which tokens are no padding [B, T]) -> ``Mask`` of the row; Li et
# al. 2023, figure 2
MASKS: dict[str, Callable[[int, jax.Array], Mask]] = {
    "apart": _apart,  # queries and text do not see each other
    "full": _full,  # all see all
    "causal": _causal,  # queries see queries, text sees them and its past
}


class Embedding(nn.Module):
    """Queries, and word plus position of a text; one norm and dropout over both.

    Args (call): queries: [B, Q, D] or None. tokens: [B, T] int or None. first:
        [B, T, D], in place of the embedding of the token at position 0. positions:
        [B, T] of the tokens; None: 0, 1, ...
    Returns: [B, Q + T, D].
    """

    cfg: EncoderArch

    def setup(self):
        cfg, dtype = self.cfg, jnp.dtype(self.cfg.dtype)
        self.word = TokenEmbedding(
            cfg.vocab, cfg.width, cfg.init, cfg.embedding_scale, dtype
        )
        self.position = PositionEmbedding(cfg.positions, cfg.max_length, cfg.init)
        make = NORM_KINDS[cfg.norm_kind]
        self.norm = make(epsilon=cfg.norm_eps, dtype=dtype, name=None)
        self.dropout = Dropout(cfg.dropout)

    def __call__(
        self,
        queries: jax.Array | None,
        tokens: jax.Array | None,
        first: jax.Array | None = None,
        positions: jax.Array | None = None,
        *,
        train: bool,
    ) -> jax.Array:
        rows = [] if queries is None else [queries]
        if tokens is not None:
            x = self.word(tokens)
            if positions is None:
                positions = jnp.arange(tokens.shape[1])[None]
            if first is not None:
                x = jnp.where(positions[..., None] == 0, first, x)
            rows.append(self.position(x, jnp.maximum(positions, 0)))
        return self.dropout(self.norm(jnp.concatenate(rows, axis=1)), train=train)


class QueryingEncoder(nn.Module):
    """Queries and text through the layers that they share.

    Source: Li et al. 2023, section 3.1, as released. Deviates: no.
    Args (call): states: [B, P, D'] of the image; None: no queries. text: its tokens
        and segments [B, T] count, one text a row; None: no text. mask: a key of
        MASKS. first: see ``Embedding``.
    Returns: (states of the queries [B, Q, D], of the text [B, T, D]), None for neither.
    """

    cfg: EncoderArch
    count: int  # Q, learned queries
    cross_every: int  # the first of so many layers attends to the image

    def setup(self):
        cfg = self.cfg
        self.embedding = Embedding(cfg)
        pattern = (WITH_IMAGE,) + (WITHOUT,) * (self.cross_every - 1)
        self.stack = Stack(cfg, cfg.depth, causal=False, pattern=pattern)
        drawn = INITS[cfg.init].embedding(cfg.width)
        shape = (self.count, cfg.width)
        self.queries = parameter(self, "queries", drawn, shape, (None, "embed"))

    def __call__(
        self,
        states: jax.Array | None,
        text: Any,
        mask: str,
        first: jax.Array | None = None,
        *,
        train: bool,
    ) -> tuple[jax.Array | None, jax.Array | None]:
        count, rows, tokens, memories = 0, None, None, {}
        if states is not None:
            count, rows = self.count, self._rows(len(states))
            memories["image"] = Memory(states)
            real = jnp.zeros((len(states), 0), bool)
        if text is not None:
            tokens, real = text.tokens, jnp.asarray(text.segments) > 0
            self._check(tokens.shape[1])
        x = self.embedding(rows, tokens, first, train=train)
        x = constrain(x, "batch", "length", "embed")
        context = Context(MASKS[mask](count, real), memories=memories, queries=count)
        positions = jnp.arange(x.shape[1])[None]
        x = self.stack(x, positions, context, train=train)
        parts = x[:, :count], x[:, count:]
        return (
            None if states is None else parts[0],
            None if text is None else parts[1],
        )

    def prefill(
        self,
        states: jax.Array,
        tokens: jax.Array,
        lengths: jax.Array,
        first: jax.Array,
        *,
        width: int,
        max_length: int,
    ) -> Cache:
        """Cache of the queries and of the beginning of a text.

        Args: states: [B, P, D']. first: see ``Embedding``. Others: see ``Gpt.prefill``;
            ``max_length`` counts tokens alone.
        """
        (batch, size), count = tokens.shape, self.count
        self._check(max_length)
        starts = size - jnp.asarray(lengths, jnp.int32)  # all end in the same slot
        positions = jnp.arange(size)[None] - starts[:, None]
        if size:
            tokens = jnp.take_along_axis(tokens, positions % size, axis=1)
        x = self.embedding(self._rows(batch), tokens, first, positions, train=False)
        real = jnp.pad(positions >= 0, ((0, 0), (count, 0)), constant_values=True)
        real = real.astype(jnp.int32)
        mask = dataclasses.replace(
            MASKS["causal"](count, real), q_segments=real, kv_segments=real
        )
        memories = {"image": Memory(states)}
        slots = count + max_length
        layers = self.stack.init_cache(batch, width, slots, memories)
        context = Context(mask, memories=memories, queries=count)
        places = jnp.arange(count + size)[None]
        _, layers = self.stack.prefill(x, layers, width, places, context)
        written = jnp.zeros((batch, width, slots), jnp.int32)
        return Cache(jnp.int32(count + size), layers, count + starts, written)

    def step(
        self, tokens: jax.Array, cache: Cache, first: jax.Array
    ) -> tuple[jax.Array, Cache]:
        """Tokens [B, W] in the next slot -> (states [B, W, D], cache)."""
        positions = (cache.index - cache.starts)[:, None]
        x = self.embedding(None, tokens, first, positions, train=False)
        written, visible = ancestry.write(cache.ancestry, cache.index)
        width, length = written.shape[1:]
        slots = jnp.repeat(jnp.arange(length), width)
        there = (slots < self.count) | (slots >= cache.starts[:, None, None])
        parts = x, cache.layers, cache.index, Context()  # of text alone
        x, layers = self.stack.step(*parts, visible=visible & there)
        index = cache.index + 1
        return x, cache._replace(index=index, layers=layers, ancestry=written)

    def _rows(self, batch):
        # for all rows before it is rounded, so that gradients sum in float32
        return jnp.repeat(self.queries[None], batch, axis=0).astype(self.cfg.dtype)

    def _check(self, length):
        if 0 < self.cfg.longest < length:
            raise ValueError(
                f"rows of {length} tokens are longer than "
                f"model.text.max_length={self.cfg.max_length}"
            )
