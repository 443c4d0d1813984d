"""Parts: residual sub-layers as data, and what each kind of them computes."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.layers.attention import KeyValue, LatentAttention, MultiHeadAttention
from tfm_jax.layers.feedforward import FeedForward
from tfm_jax.layers.linear import BIASES
from tfm_jax.ops.masks import Mask


class Part(NamedTuple):
    """One residual sub-layer; a layer is a tuple of parts.

    Attributes:
        name: of its module in the parameter tree, where its residual connection is
            ``{name}_residual``.
        kind: a key of PARTS.
        memory: a key of ``Context.memories``, for cross-attention.
        rows: a key of ROWS, the rows that it updates.
        gate: a key of ``layers.residual.GATES``, on what it adds to its input.
        changes: (field, value) pairs in which its config is not that of the stack.
    """

    name: str
    kind: str
    memory: str = ""
    rows: str = "all"
    gate: str = "none"
    changes: tuple[tuple[str, Any], ...] = ()


SELF = Part("self_attention", "self_attention")
CROSS = Part("cross_attention", "cross_attention", memory="encoder")
FFN = Part("ffn", "feed_forward")
# layers; Vaswani et al. 2017, section 3.1 and figure 1
ENCODER = (SELF, FFN)
DECODER = (SELF, CROSS, FFN)

# number of queries -> the rows of x [B, T, D] that a part updates, where the first rows
# are learned queries and the others text (Li et al. 2023, arXiv:2301.12597, figure 2)
ROWS: dict[str, Callable[[int], slice]] = {
    "all": lambda queries: slice(None),
    "queries": lambda queries: slice(queries),
    "text": lambda queries: slice(queries, None),
}


class Memory(NamedTuple):
    """States [B, S, D'] for cross-attention, and which of them a row of x attends to.

    Attributes:
        states: None in a cached step, where the cache holds their keys and values.
        mask: structure, of the rows that attend to them.
    """

    states: jax.Array | None
    mask: Mask | None = None


# of one part; None if it has none, and in a full pass
Cache = KeyValue | None


class FullPass(NamedTuple):
    """Self-attention over the rows at hand; nothing is cached."""

    def write(self, past: Cache, new: KeyValue) -> tuple[KeyValue, Cache]:
        """(keys and values to attend to, cache)."""
        return new, past


class Prefill(NamedTuple):
    """A prompt at once: its keys and values become the past of hypothesis 0."""

    hypotheses: int

    def write(self, past: KeyValue, new: KeyValue) -> tuple[KeyValue, KeyValue]:
        slots = slice(0, new.key.shape[1] * self.hypotheses, self.hypotheses)
        past = jax.tree.map(
            lambda old, x: old.at[..., slots].set(jnp.moveaxis(x, 1, 3)), past, new
        )
        return new, past


class CachedStep(NamedTuple):
    """One token of each of W hypotheses, in slots ``slot`` .. ``slot + W - 1``."""

    slot: jax.Array

    def write(self, past: KeyValue, new: KeyValue) -> tuple[KeyValue, KeyValue]:
        update = jax.lax.dynamic_update_slice_in_dim
        past = jax.tree.map(
            lambda old, x: update(old, jnp.moveaxis(x, 1, 3), self.slot, 3), past, new
        )
        return from_cache(past), past


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["mask", "bias", "positions", "memories", "condition", "mode"],
    meta_fields=["queries"],
)
@dataclasses.dataclass(frozen=True)
class Context:
    """Inputs that all layers of a stack share.

    Attributes:
        mask: structure of self-attention.
        bias: [B, H, T, S] on the logits of self-attention, or None.
        positions: [B, T] if queries and keys are rotated, else None.
        memories: name -> ``Memory``, for cross-attention.
        condition: [B, C] for the modulation of residual connections, or None.
        queries: how many of the first rows are learned queries, see ROWS.
        mode: ``FullPass``, ``Prefill`` or ``CachedStep``.
    """

    mask: Mask | None = None
    bias: jax.Array | None = None
    positions: jax.Array | None = None
    memories: dict[str, Memory] = dataclasses.field(default_factory=dict)
    condition: jax.Array | None = None
    queries: int = 0
    mode: FullPass | Prefill | CachedStep = FullPass()


def to_cache(kv: KeyValue) -> KeyValue:
    """[B, S, H, K] -> [B, H, K, S], which the two products of attention read as is."""
    return jax.tree.map(lambda x: jnp.moveaxis(x, 1, 3), kv)


def from_cache(kv: KeyValue) -> KeyValue:
    """The inverse of ``to_cache``; no copy."""
    return jax.tree.map(lambda x: jnp.moveaxis(x, 3, 1), kv)


class Kind(NamedTuple):
    """How sub-layers of one kind are built, called and cached.

    Attributes:
        build: (cfg, out_scale, name) -> module.
        call: (module, part, y [B, T, D], context, cache, train) -> ([B, T, D], cache);
            the cache is None in a full pass.
        cache: (module, part, batch, slots, memories) -> cache before the first token.
    """

    build: Callable[..., nn.Module]
    call: Callable
    cache: Callable


def _build_attention(cfg, out_scale, name, kind=MultiHeadAttention, **more):
    return kind(
        width=cfg.width,
        heads=cfg.heads,
        key_size=cfg.head_key_size,
        value_size=cfg.head_value_size,
        score=cfg.score,
        mask_style=cfg.mask_style,
        implementation=cfg.attention,
        initializer=cfg.init,
        dropout=cfg.attention_dropout,
        dtype=jnp.dtype(cfg.dtype),
        biases=BIASES[cfg.biases],
        out_scale=out_scale,
        remat=cfg.remat == "attention",
        name=name,
        **more,
    )


def _self_attend(module, part, y, context, cache, train):
    kv, cache = context.mode.write(cache, module.project(y, context.positions))
    z = module.attend(
        y,
        kv,
        mask=context.mask,
        bias=context.bias,
        positions=context.positions,
        train=train,
    )
    return z, cache


def _past_cache(module, part, batch, slots, memories):
    """Empty: [B, H, K, T * W], the W hypotheses of a token beside one another."""
    return KeyValue(
        jnp.zeros((batch, module.heads, module.key_size, slots), module.dtype),
        jnp.zeros((batch, module.heads, module.value_size, slots), module.dtype),
    )


def _cross_attend(module, part, y, context, cache, train):
    states, mask = context.memories[part.memory]
    kv = module.project(states) if cache is None else from_cache(cache)
    return module.attend(y, kv, mask=mask, train=train), cache


def _memory_cache(module, part, batch, slots, memories):
    """Keys and values of a memory, once per sentence: [B, H, K, S]."""
    kv = to_cache(module.project(memories[part.memory].states))
    # without the barrier XLA moves the transpositions into the decoding loop
    return jax.lax.optimization_barrier(kv)


def _build_latent_attention(cfg, out_scale, name):
    norm = dict(norm_kind=cfg.norm_kind, norm_eps=cfg.norm_eps)
    return _build_attention(cfg, out_scale, name, LatentAttention, **norm)


def _latent_attend(module, part, y, context, cache, train):
    return module.over(y, context.memories[part.memory].states, train=train), cache


def _build_feed_forward(cfg, out_scale, name):
    return FeedForward(
        cfg.ffn_width,
        cfg.activation,
        cfg.init,
        cfg.activation_dropout,
        jnp.dtype(cfg.dtype),
        BIASES[cfg.biases].others,
        out_scale,
        name=name,
    )


def _feed_forward(module, part, y, context, cache, train):
    return module(y, train=train), cache


def _no_cache(module, part, batch, slots, memories):
    return None


PARTS = {
    "self_attention": Kind(_build_attention, _self_attend, _past_cache),
    "cross_attention": Kind(_build_attention, _cross_attend, _memory_cache),
    # of stacks that are computed at once, over a whole memory
    "latent_attention": Kind(_build_latent_attention, _latent_attend, _no_cache),
    "feed_forward": Kind(_build_feed_forward, _feed_forward, _no_cache),
}
