"""Multi-head attention: self, cross, cached step by step, and of latents."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from tfm_jax.layers.linear import (
    BIASES,
    INITS,
    Biases,
    Dropout,
    Linear,
    constrain,
    parameter,
)
from tfm_jax.layers.norms import NORM_KINDS
from tfm_jax.ops.attention import SCORES, attention
from tfm_jax.ops.masks import Mask
from tfm_jax.ops.positions import rotate


class KeyValue(NamedTuple):
    """Projected keys [B, S, H, K] and values [B, S, H, K']."""

    key: jax.Array
    value: jax.Array


class MultiHeadAttention(nn.Module):
    """Multi-head attention; ``project`` a memory once, ``attend`` to it often.

    Source: Vaswani et al. 2017, section 3.2.2. Deviates: no.
    """

    width: int  # D, of the output
    heads: int
    key_size: int  # per head
    value_size: int  # per head
    score: str
    mask_style: str
    implementation: str
    initializer: str
    dropout: float = 0.0  # probability, on the attention weights
    dtype: DTypeLike = jnp.float32
    biases: Biases = BIASES["all"]
    out_scale: float = 1.0  # on the initial kernel of the output map
    remat: bool = False  # weights are computed again in the backward pass, not kept

    def setup(self):
        def into_heads(size):
            shape, axes = (self.heads, size), ("embed", "heads", "kv")
            return Linear(
                shape,
                axes,
                self.initializer,
                bias=self.biases.projections,
                dtype=self.dtype,
                scale=INITS[self.initializer].projections,
            )

        self.query = into_heads(self.key_size)
        self.key = into_heads(self.key_size)
        self.value = into_heads(self.value_size)
        self.out = Linear(
            (self.width,),
            ("heads", "kv", "embed"),
            self.initializer,
            2,
            bias=self.biases.others,
            dtype=self.dtype,
            scale=self.out_scale,
        )
        self.weight_dropout = Dropout(self.dropout)
        score = SCORES[self.score]
        if score.shape:
            constant = nn.initializers.constant(score.initial)
            shape = score.shape(self.heads, self.key_size)
            init = constant if score.initial else nn.initializers.glorot_uniform()
            self.score_parameter = parameter(self, "score", init, shape)

    def project(
        self, memory: jax.Array, positions: jax.Array | None = None
    ) -> KeyValue:
        """[B, S, D] -> keys and values; ``positions`` [B, S] rotate the keys."""
        key = self.key(memory)
        if positions is not None:
            key = rotate(key, positions)
        return KeyValue(key, self.value(memory))

    def attend(
        self,
        x: jax.Array,
        kv: KeyValue,
        *,
        mask: Mask | None = None,
        bias: jax.Array | None = None,
        positions: jax.Array | None = None,
        train: bool,
    ) -> jax.Array:
        """[B, T, D] queries over projected memory -> [B, T, D].

        Args:
            x: [B, T, D].
            kv: what ``project`` returned.
            mask: ``Mask`` structure. bias: [B|1, H|1, T, S] float32 on the logits.
            positions: [B, T] rotate the queries.
        A query that may see nothing gets the output bias.
        """
        query = self.query(x)
        if positions is not None:
            query = rotate(query, positions)
        axes = ("batch", "length", "heads", "kv")
        query = constrain(query, *axes)
        drops = train and self.dropout > 0.0
        records = self.is_mutable_collection("intermediates")
        transform = self.weight_dropout.drawn() if drops else None

        def record(weights):
            self.sow("intermediates", "weights", weights)
            return transform(weights) if transform else weights

        y = attention(
            query,
            kv.key,
            kv.value,
            bias,
            mask=mask,
            score=self.score,
            parameter=self.score_parameter if SCORES[self.score].shape else None,
            mask_style=self.mask_style,
            transform=record if records else transform,
            implementation="xla" if records else self.implementation,
            divided=nn.logical_to_mesh_axes(axes),
            remat=self.remat and not records,
        )
        return self.out(y)

    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array,
        *,
        mask: Mask | None = None,
        bias: jax.Array | None = None,
        positions: jax.Array | None = None,
        train: bool,
    ) -> jax.Array:
        """Self-attention if ``memory`` is ``x``; ``positions`` [B, T] rotate both."""
        kv = self.project(memory, positions)
        return self.attend(
            x, kv, mask=mask, bias=bias, positions=positions, train=train
        )


class LatentAttention(MultiHeadAttention):
    """Latents attend to a memory, which has a norm of its own, and to one another.

    Source: Jaegle et al. 2021, arXiv:2103.03206, section 3.1, with both in one softmax
    by one pair of maps: Alayrac et al. 2022, arXiv:2204.14198, figure 5. Deviates: no.
    """

    norm_kind: str = "layernorm"  # a key of NORM_KINDS
    norm_eps: float = 1e-5

    def setup(self):
        super().setup()
        make = NORM_KINDS[self.norm_kind]
        self.memory_norm = make(epsilon=self.norm_eps, dtype=self.dtype, name=None)

    def over(self, y: jax.Array, states: jax.Array, *, train: bool) -> jax.Array:
        """Latents [B, T, D] over states [B, S, D] and themselves -> [B, T, D]."""
        both = jnp.concatenate([self.memory_norm(states), y], axis=1)
        return self.attend(y, self.project(both), train=train)
