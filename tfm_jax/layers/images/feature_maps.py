"""Layers of feature maps [B, H, W, C]: convolutions, residual blocks, attention."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from tfm_jax.layers.arch import Arch
from tfm_jax.layers.linear import INITS, Dropout, Linear, parameter
from tfm_jax.layers.parts import CROSS, FFN, PARTS, SELF, Context
from tfm_jax.layers.residual import modulate
from tfm_jax.layers.stack import Block
from tfm_jax.ops.products import spread

INIT = "glorot"  # uniform by the mean of both fans, as in Ho et al.'s released code


class Convolution(nn.Module):
    """3 x 3, to as many pixels, or with ``stride`` 2 to half as many on each side.

    Args (call): x: [B, H, W, C]. Returns: [B, H, W, features] or half of H and W.
    """

    features: int
    dtype: DTypeLike = jnp.float32
    stride: int = 1
    scale: float = 1.0  # on the initial kernel

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def init(key, shape, dtype):
            return self.scale * INITS[INIT].kernel(key, shape, dtype)

        shape = (3, 3, x.shape[-1], self.features)
        kernel = parameter(self, "kernel", init, shape, (None, None, None, "embed"))
        zeros = nn.initializers.zeros
        bias = parameter(self, "bias", zeros, (self.features,), ("embed",))
        before = 2 - self.stride  # of a map of even sides, as "SAME" of TensorFlow
        y = jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            (self.stride, self.stride),
            ((before, 1), (before, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return (y + bias).astype(self.dtype)


def group_norm(
    groups: int, epsilon: float, dtype: DTypeLike, name: str | None
) -> nn.GroupNorm:
    """Wu and He 2018, arXiv:1803.08494; statistics are float32."""
    return nn.GroupNorm(
        groups, epsilon=epsilon, dtype=dtype, use_fast_variance=False, name=name
    )


# how the time and a label act on a residual block; terms that they are mapped to
MODULATIONS = {
    "shift": 1,  # Ho et al. 2020, arXiv:2006.11239, appendix B
    # "adaptive group normalisation"; Dhariwal and Nichol 2021, arXiv:2105.05233
    "scale_shift": 2,
}


class ResidualBlock(nn.Module):
    """``x + conv(dropout(silu(norm(conv(silu(norm(x))) + map(silu(condition))))))``.

    Source: Ho et al. 2020, arXiv:2006.11239, appendix B, and released code.
    Deviates: the last convolution starts at 0, there at 1e-10 of its usual scale.
    Args (call): x: [B, H, W, C]. condition: [B, E]. Returns: [B, H, W, features].
    """

    features: int
    groups: int
    epsilon: float
    dropout: float
    modulation: str  # a key of MODULATIONS
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, *, train: bool) -> jax.Array:
        def norm(name):
            return group_norm(self.groups, self.epsilon, self.dtype, name)

        def dense(features, name):
            axes, dtype = (None, "embed"), self.dtype
            return Linear((features,), axes, INIT, dtype=dtype, name=name)

        def convolve(name, scale=1.0):
            return Convolution(self.features, self.dtype, scale=scale, name=name)

        y = convolve("first")(nn.silu(norm("first_norm")(x)))
        terms = MODULATIONS[self.modulation]
        terms = dense(terms * self.features, "condition")(nn.silu(condition))
        terms = terms[:, None, None]
        if self.modulation == "shift":
            y = norm("second_norm")(y + spread(terms, y.shape))
        else:
            scale, shift = jnp.split(terms, 2, axis=-1)
            y = modulate(norm("second_norm")(y), shift, scale)
        y = Dropout(self.dropout, name="dropout")(nn.silu(y), train=train)
        y = convolve("second", 0.0)(y)
        if x.shape[-1] != self.features:
            x = dense(self.features, "shortcut")(x)
        return x + y


class MapAttention(nn.Module):
    """``x + attention(norm(x))`` over all pixels of a map.

    Source: Ho et al. 2020, arXiv:2006.11239, appendix B, and released code.
    Deviates: the last map starts at 0, there at 1e-10 of its usual scale.
    Args (call): x: [B, H, W, C]. context: not read. Returns: [B, H, W, C].
    """

    cfg: Arch  # of width C
    depth: int  # 1
    groups: int
    epsilon: float

    @nn.compact
    def __call__(self, x: jax.Array, context: Context, *, train: bool) -> jax.Array:
        cfg = self.cfg
        y = group_norm(self.groups, self.epsilon, jnp.dtype(cfg.dtype), "norm")(x)
        y = y.reshape(len(x), -1, cfg.width)
        attend = PARTS["self_attention"].build(cfg, 0.0, "attention")
        return x + attend(y, y, train=train).reshape(x.shape)


class SpatialTransformer(nn.Module):
    """``x + out(blocks(into(norm(x))))``, a Transformer over all pixels of a map.

    Source: Rombach et al. 2022, arXiv:2112.10752, appendix E.2.1, and released code.
    Deviates: without a condition it has no second self-attention.
    Args (call): x: [B, H, W, C]. context: with the memory "condition", if there is
        one. Returns: [B, H, W, C].
    """

    cfg: Arch  # of width C
    depth: int
    groups: int
    epsilon: float

    @nn.compact
    def __call__(self, x: jax.Array, context: Context, *, train: bool) -> jax.Array:
        cfg, dtype = self.cfg, jnp.dtype(self.cfg.dtype)

        def dense(name, scale=1.0):
            axes, width = (None, "embed"), (cfg.width,)
            return Linear(width, axes, cfg.init, dtype=dtype, scale=scale, name=name)

        y = group_norm(self.groups, self.epsilon, dtype, "norm")(x)
        y = dense("into")(y.reshape(len(x), -1, cfg.width))
        cross = (CROSS._replace(memory="condition"),) if context.memories else ()
        parts = (SELF, *cross, FFN)
        for i in range(self.depth):
            block = Block(cfg, parts, self.depth * len(parts), name=f"layer_{i}")
            y, _ = block(y, context, train=train)
        return x + dense("out", 0.0)(y).reshape(x.shape)
