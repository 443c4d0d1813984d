"""Block and Stack: the one place where sub-layers become layers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.layers.arch import Arch
from tfm_jax.layers.attention import KeyValue, MultiHeadAttention
from tfm_jax.layers.feedforward import FeedForward
from tfm_jax.layers.linear import constrain
from tfm_jax.layers.positions import POSITIONS, PositionBias
from tfm_jax.layers.residual import NORM_KINDS, NORM_PLACEMENTS, Residual
from tfm_jax.ops.masks import Mask, combine, to_bias

_POLICIES = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


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
        memory: cross-attention, [B, H, K, S] and [B, H, K', S], once per sentence.
    """

    past: KeyValue
    memory: KeyValue


class Block(nn.Module):
    """Self-attention, cross-attention if ``cross``, feed-forward; each residual.

    Source: Vaswani et al. 2017, section 3.1 and figure 1. Deviates: no.
    """

    cfg: Arch
    cross: bool = False

    def setup(self):
        cfg, dtype = self.cfg, jnp.dtype(self.cfg.dtype)

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
            cfg.ffn_width, cfg.activation, cfg.init, cfg.activation_dropout, dtype
        )
        self.ffn_residual = residual()

    def __call__(self, x, context: Context, *, train: bool):
        """[B, T, D] -> [B, T, D]."""
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
        return self._feed_forward(x, train=train)

    def _feed_forward(self, x, *, train):
        x, _ = self.ffn_residual(
            x, lambda y: (self.ffn(y, train=train), None), train=train
        )
        return constrain(x, "batch", "length", "embed")

    def init_cache(self, memory, hypotheses: int, length: int) -> LayerCache:
        """Empty past of ``length`` tokens; memory [B, S, D] projected once."""
        cfg, slots = self.cfg, length * hypotheses
        shape = (memory.shape[0], cfg.heads)
        past = KeyValue(
            jnp.zeros((*shape, cfg.head_key_size, slots), memory.dtype),
            jnp.zeros((*shape, cfg.head_value_size, slots), memory.dtype),
        )
        key, value = self.cross_attention.project(memory)
        across = KeyValue(jnp.moveaxis(key, 1, 3), jnp.moveaxis(value, 1, 3))
        # without the barrier XLA moves the transpositions into the decoding loop
        return LayerCache(past, jax.lax.optimization_barrier(across))

    def step(self, x, cache: LayerCache, index, *, bias, positions, memory_mask):
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

        def look_across(y):
            z = self.cross_attention.attend(
                y, _as_projected(cache.memory), mask=memory_mask, train=False
            )
            return z, None

        x, past = self.self_attention_residual(x, look_back, train=False)
        x, _ = self.cross_attention_residual(x, look_across, train=False)
        return self._feed_forward(x, train=False), cache._replace(past=past)


def _as_projected(kv: KeyValue) -> KeyValue:
    """[B, H, K, S] and [B, H, K', S] -> [B, S, H, K] and [B, S, H, K']; no copy."""
    return jax.tree.map(lambda x: jnp.moveaxis(x, 3, 1), kv)


class Stack(nn.Module):
    """``depth`` blocks and, where the placement asks for it, a final norm."""

    cfg: Arch
    depth: int
    causal: bool
    cross: bool = False

    def setup(self):
        cfg = self.cfg
        self.position_bias = PositionBias(cfg.positions, cfg.heads, not self.causal)
        if cfg.layout == "scanned":
            self.layers = Block(cfg, self.cross)
        else:
            self.layer = [Block(cfg, self.cross) for _ in range(self.depth)]
        if NORM_PLACEMENTS[cfg.norm].final:
            make, dtype = NORM_KINDS[cfg.norm_kind], jnp.dtype(cfg.dtype)
            self.final_norm = make(epsilon=cfg.norm_eps, dtype=dtype, name=None)

    def __call__(self, x, positions, context: Context, *, train: bool):
        """[B, T, D], positions [B, T] -> [B, T, D]."""
        context = context._replace(
            bias=self.position_bias(positions, positions),
            positions=positions if POSITIONS[self.cfg.positions].rotates else None,
        )

        def body(block, x, context):
            return block(x, context, train=train)

        if self.cfg.remat != "none":
            policy = _POLICIES[self.cfg.remat]
            body = nn.remat(
                body, prevent_cse=self.cfg.layout == "unrolled", policy=policy
            )
        if self.cfg.layout == "scanned":
            scan = nn.scan(
                lambda block, x, context: (body(block, x, context), None),
                variable_axes={"params": 0, "intermediates": 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=nn.broadcast,
                length=self.depth,
                metadata_params={nn.PARTITION_NAME: "layers"},
            )
            x, _ = scan(self.layers, x, context)
        else:
            for block in self.layer:
                x = body(block, x, context)
        return self._finish(x)

    def _finish(self, x):
        return self.final_norm(x) if NORM_PLACEMENTS[self.cfg.norm].final else x

    def init_cache(self, memory, hypotheses: int, length: int):
        """Tuple of ``LayerCache``, one a layer."""
        return tuple(
            block.init_cache(memory, hypotheses, length) for block in self.layer
        )

    def step(self, x, caches, index, *, visible, memory_mask):
        """[B, W, D] at position ``index`` -> ([B, W, D], caches).

        Args: visible: [B, W, T * W] bool, which slots of the past each hypothesis sees.
        """
        width = x.shape[1]
        here = jnp.full((1, 1), index)
        bias = to_bias(visible)[:, None]
        distance = self.position_bias(
            here, jnp.arange(visible.shape[-1] // width)[None]
        )
        if distance is not None:
            bias = combine(bias, jnp.repeat(distance, width, axis=-1))
        rotates = POSITIONS[self.cfg.positions].rotates
        positions = here if rotates else None
        updated = []
        for block, cache in zip(self.layer, caches, strict=True):
            x, cache = block.step(
                x,
                cache,
                index,
                bias=bias,
                positions=positions,
                memory_mask=memory_mask,
            )
            updated.append(cache)
        return self._finish(x), tuple(updated)
