"""Block and Stack: the one place where sub-layers become layers."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.layers.arch import Arch
from tfm_jax.layers.attention import KeyValue, MultiHeadAttention
from tfm_jax.layers.feedforward import FeedForward
from tfm_jax.layers.linear import BIASES, RESIDUAL_INITS, constrain
from tfm_jax.layers.positions import POSITIONS, PositionBias
from tfm_jax.layers.residual import NORM_KINDS, NORM_PLACEMENTS, Residual
from tfm_jax.layers.sharing import lenders
from tfm_jax.ops.masks import Mask, combine, to_bias

_POLICIES = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}
NO_WINDOW = 1 << 30  # wider than any row


class Context(NamedTuple):
    """What all layers of a stack share.

    Attributes:
        mask: structure of self-attention. bias: [B, H, T, T] by distance, or None.
        positions: [B, T] if queries and keys are rotated, else None.
        memory: [B, S, D] for cross-attention, or None. memory_mask: its structure.
    """

    mask: Mask
    bias: jax.Array | None = None
    positions: jax.Array | None = None
    memory: jax.Array | None = None
    memory_mask: Mask | None = None


class LayerCache(NamedTuple):
    """One decoder layer's memory while decoding W hypotheses a sentence.

    Keys and values lie as the two products of attention read them, so that a step
    copies neither.

    Attributes:
        past: self-attention, [B, H, K, T * W] and [B, H, K', T * W], the W hypotheses
            of the first token before those of the second.
        memory: cross-attention, [B, H, K, S] and [B, H, K', S], once per sentence; None
            in decoders without encoder.
    """

    past: KeyValue
    memory: KeyValue | None = None


class Block(nn.Module):
    """Self-attention, cross-attention if ``cross``, feed-forward; each residual.

    Source: Vaswani et al. 2017, section 3.1 and figure 1. Deviates: no.
    """

    cfg: Arch
    cross: bool = False
    depth: int = 1  # blocks of the stack, for the initial values

    def setup(self):
        cfg, dtype = self.cfg, jnp.dtype(self.cfg.dtype)
        biases = BIASES[cfg.biases]
        sublayers = self.depth * (3 if self.cross else 2)
        out_scale = RESIDUAL_INITS[cfg.residual_init](sublayers)

        def attention():
            return MultiHeadAttention(
                width=cfg.width,
                heads=cfg.heads,
                key_size=cfg.head_key_size,
                value_size=cfg.head_value_size,
                score=cfg.score,
                mask_style=cfg.mask_style,
                implementation=cfg.attention,
                initializer=cfg.init,
                dropout=cfg.attention_dropout,
                dtype=dtype,
                biases=biases,
                out_scale=out_scale,
            )

        def residual():
            return Residual(
                placement=cfg.norm,
                kind=cfg.norm_kind,
                epsilon=cfg.norm_eps,
                dropout=cfg.dropout,
                add=cfg.residual,
                dtype=dtype,
            )

        self.self_attention = attention()
        self.self_attention_residual = residual()
        if self.cross:
            self.cross_attention = attention()
            self.cross_attention_residual = residual()
        self.ffn = FeedForward(
            cfg.ffn_width,
            cfg.activation,
            cfg.init,
            cfg.activation_dropout,
            dtype,
            biases.others,
            out_scale,
        )
        self.ffn_residual = residual()

    def __call__(
        self,
        x: jax.Array,
        context: Context,
        feeds: "Block | None" = None,
        *,
        train: bool,
    ) -> jax.Array:
        """[B, T, D] -> [B, T, D]; ``feeds``: the block whose feed-forward is used."""
        see = context

        def look_around(y):
            z = self.self_attention(
                y, y, mask=see.mask, bias=see.bias, positions=see.positions, train=train
            )
            return z, None

        def look_across(y):
            z = self.cross_attention(y, see.memory, mask=see.memory_mask, train=train)
            return z, None

        x, _ = self.self_attention_residual(x, look_around, train=train)
        if self.cross:
            x, _ = self.cross_attention_residual(x, look_across, train=train)
        lender = self if feeds is None else feeds
        return lender._feed_forward(x, train=train)

    def _feed_forward(self, x, *, train):
        x, _ = self.ffn_residual(
            x, lambda y: (self.ffn(y, train=train), None), train=train
        )
        return constrain(x, "batch", "length", "embed")

    def init_cache(
        self, batch: int, hypotheses: int, length: int, memory: jax.Array | None = None
    ) -> LayerCache:
        """``LayerCache`` of an empty past; memory [B, S, D] is projected once."""
        cfg, slots, dtype = self.cfg, length * hypotheses, jnp.dtype(self.cfg.dtype)
        past = KeyValue(
            jnp.zeros((batch, cfg.heads, cfg.head_key_size, slots), dtype),
            jnp.zeros((batch, cfg.heads, cfg.head_value_size, slots), dtype),
        )
        if not self.cross:
            return LayerCache(past)
        key, value = self.cross_attention.project(memory)
        across = KeyValue(jnp.moveaxis(key, 1, 3), jnp.moveaxis(value, 1, 3))
        # without the barrier XLA moves the transpositions into the decoding loop
        return LayerCache(past, jax.lax.optimization_barrier(across))

    def prefill(
        self, x: jax.Array, cache: LayerCache, hypotheses: int, context: Context
    ) -> tuple[jax.Array, LayerCache]:
        """A prompt at once, in the slots of hypothesis 0: [B, P, D], cache -> both."""
        see = context

        def look_around(y):
            now = self.self_attention.project(y, see.positions)
            slots = slice(0, y.shape[1] * hypotheses, hypotheses)
            past = jax.tree.map(
                lambda old, new: old.at[..., slots].set(jnp.moveaxis(new, 1, 3)),
                cache.past,
                now,
            )
            z = self.self_attention.attend(
                y,
                now,
                mask=see.mask,
                bias=see.bias,
                positions=see.positions,
                train=False,
            )
            return z, past

        return self._advance(x, cache, look_around, see.memory_mask)

    def step(
        self,
        x: jax.Array,
        cache: LayerCache,
        index: jax.Array,
        *,
        bias: jax.Array | None,
        positions: jax.Array | None,
        memory_mask: Mask | None,
    ) -> tuple[jax.Array, LayerCache]:
        """One token further: [B, W, D] -> ([B, W, D], cache); causality is the cache.

        Args:
            x: [B, W, D], token ``index`` of each of W hypotheses.
            bias: [B, H|1, W, T * W] hides what lies ahead and other hypotheses.
            positions: [1, 1] or None.
        """
        slot = index * x.shape[1]

        def look_back(y):
            now = self.self_attention.project(y, positions)  # [B, W, H, K]
            past = jax.tree.map(
                lambda old, new: jax.lax.dynamic_update_slice_in_dim(
                    old, jnp.moveaxis(new, 1, 3), slot, 3
                ),
                cache.past,
                now,
            )
            z = self.self_attention.attend(
                y, _as_projected(past), bias=bias, positions=positions, train=False
            )
            return z, past

        return self._advance(x, cache, look_back, memory_mask)

    def _advance(self, x, cache, look_back, memory_mask):
        """``look_back``: [B, T, D] -> ([B, T, D], the past with these tokens)."""

        def look_across(y):
            z = self.cross_attention.attend(
                y, _as_projected(cache.memory), mask=memory_mask, train=False
            )
            return z, None

        x, past = self.self_attention_residual(x, look_back, train=False)
        if self.cross:
            x, _ = self.cross_attention_residual(x, look_across, train=False)
        return self._feed_forward(x, train=False), cache._replace(past=past)


def _as_projected(kv: KeyValue) -> KeyValue:
    """[B, H, K, S] and [B, H, K', S] -> [B, S, H, K] and [B, S, H, K']; no copy."""
    return jax.tree.map(lambda x: jnp.moveaxis(x, 3, 1), kv)


def _within(context, window):
    """``context`` for a layer that sees ``window`` keys on either side; 0: all."""
    if isinstance(window, int) and window == 0:
        return context
    return context._replace(mask=dataclasses.replace(context.mask, window=window))


class Stack(nn.Module):
    """``depth`` blocks and, where the placement asks for it, a final norm.

    Blocks that borrow all of their parameters have none; see ``layers.sharing``.
    """

    cfg: Arch
    depth: int
    causal: bool
    cross: bool = False
    share: str = (
        "none"  # a key of SHARES; others need the unrolled layout, and no cache
    )
    groups: int = 1

    def setup(self):
        cfg = self.cfg
        self.position_bias = PositionBias(cfg.positions, cfg.heads, not self.causal)
        self.windows = [cfg.window(i) for i in range(self.depth)]
        if cfg.layout == "scanned":
            self.layers = Block(cfg, self.cross, self.depth)
        else:
            self.layer = [Block(cfg, self.cross, self.depth) for _ in range(self.depth)]
        if NORM_PLACEMENTS[cfg.norm].final:
            make, dtype = NORM_KINDS[cfg.norm_kind], jnp.dtype(cfg.dtype)
            self.final_norm = make(epsilon=cfg.norm_eps, dtype=dtype, name=None)

    def __call__(
        self, x: jax.Array, positions: jax.Array, context: Context, *, train: bool
    ) -> jax.Array:
        """[B, T, D], positions [B, T] -> [B, T, D]."""
        context = self._everywhere(positions, context)

        def body(block, x, context, window=None, feeds=None):
            if window is not None:
                context = _within(context, window)
            return block(x, context, feeds, train=train)

        if self.cfg.remat != "none":
            policy = _POLICIES[self.cfg.remat]
            body = nn.remat(
                body, prevent_cse=self.cfg.layout == "unrolled", policy=policy
            )
        if self.cfg.layout == "scanned":
            windows = None  # one body for all layers: where they differ, it is told
            if len(set(self.windows)) == 1:
                context = _within(context, self.windows[0])
            else:
                windows = jnp.array([w or NO_WINDOW for w in self.windows])
            scan = nn.scan(
                lambda block, x, context, w: (body(block, x, context, w), None),
                variable_axes={"params": 0, "intermediates": 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=(nn.broadcast, 0),
                length=self.depth,
                metadata_params={nn.PARTITION_NAME: "layers"},
            )
            x, _ = scan(self.layers, x, context, windows)
        else:
            lent = lenders(self.share, self.groups, self.depth)
            for (attends, feeds), window in zip(lent, self.windows, strict=True):
                other = None if feeds == attends else self.layer[feeds]
                x = body(self.layer[attends], x, _within(context, window), None, other)
        return self._finish(x)

    def _everywhere(self, positions, context):
        """``context`` with what all layers share of the ``positions`` [B, T]."""
        return context._replace(
            bias=self.position_bias(positions, positions),
            positions=positions if POSITIONS[self.cfg.positions].rotates else None,
        )

    def _finish(self, x):
        return self.final_norm(x) if NORM_PLACEMENTS[self.cfg.norm].final else x

    def init_cache(
        self, batch: int, hypotheses: int, length: int, memory: jax.Array | None = None
    ) -> tuple[LayerCache, ...]:
        """Tuple of ``LayerCache``, one a layer; memory [B, S, D] if there is cross."""
        return tuple(
            block.init_cache(batch, hypotheses, length, memory) for block in self.layer
        )

    def prefill(
        self,
        x: jax.Array,
        caches: Sequence[LayerCache],
        hypotheses: int,
        positions: jax.Array,
        context: Context,
    ) -> tuple[jax.Array, tuple[LayerCache, ...]]:
        """[B, P, D] in slots 0 .. P - 1 of empty caches -> ([B, P, D], caches)."""
        context = self._everywhere(positions, context)
        updated = []
        for block, cache, window in zip(self.layer, caches, self.windows, strict=True):
            x, cache = block.prefill(x, cache, hypotheses, _within(context, window))
            updated.append(cache)
        return self._finish(x), tuple(updated)

    def step(
        self,
        x: jax.Array,
        caches: Sequence[LayerCache],
        index: jax.Array,
        *,
        visible: jax.Array,
        memory_mask: Mask | None,
    ) -> tuple[jax.Array, tuple[LayerCache, ...]]:
        """[B, W, D] at position ``index`` -> ([B, W, D], caches).

        Args: visible: [B, W, T * W] bool, which slots of the past each hypothesis sees.
        """
        width = x.shape[1]
        here = jnp.full((1, 1), index)
        slots = jnp.arange(visible.shape[-1] // width)
        distance = self.position_bias(here, slots[None])
        if distance is not None:
            distance = jnp.repeat(distance, width, axis=-1)
        near = jnp.repeat(index - slots, width)
        biases = {
            w: combine(
                to_bias(visible & (near < w) if w else visible)[:, None], distance
            )
            for w in set(self.windows)
        }
        rotates = POSITIONS[self.cfg.positions].rotates
        positions = here if rotates else None
        updated = []
        for block, cache, window in zip(self.layer, caches, self.windows, strict=True):
            x, cache = block.step(
                x,
                cache,
                index,
                bias=biases[window],
                positions=positions,
                memory_mask=memory_mask,
            )
            updated.append(cache)
        return self._finish(x), tuple(updated)
