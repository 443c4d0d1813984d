"""What a denoising model is conditioned on: the time of diffusion, a label."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from tfm_jax.layers.linear import INITS, Linear, parameter
from tfm_jax.ops.diffusion import WAVES
from tfm_jax.ops.dropout import dropout


class TimeEmbedding(nn.Module):
    """Vector of a time, ``down(silu(up(waves(time))))``.

    Source: Ho et al. 2020, arXiv:2006.11239, appendix B, and released code; Peebles and
    Xie 2023, arXiv:2212.09748, released code. Deviates: no.
    Args (call): times: [B] float32, in [0, 1000). Returns: [B, D] in ``dtype``.
    """

    waves: str  # a key of WAVES
    frequencies: int  # numbers that a time becomes first
    width: int  # D
    initializer: str  # a key of INITS
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, times: jax.Array) -> jax.Array:
        def dense(name):
            features, axes = (self.width,), (None, "embed")
            return Linear(features, axes, self.initializer, dtype=self.dtype, name=name)

        x = WAVES[self.waves](times, self.frequencies).astype(self.dtype)
        return dense("down")(nn.silu(dense("up")(x)))


class LabelEmbedding(nn.Module):
    """Vector of a label, or of none, for classifier-free guidance.

    Source: Ho and Salimans 2022, arXiv:2207.12598, algorithm 1. Deviates: no.
    Args (call): labels: [B] int32; the last of ``labels`` + 1 rows is of none.
    Returns: [B, D] in ``dtype``.
    """

    labels: int
    width: int  # D
    dropout: float  # probability that a label is left out while training
    initializer: str  # a key of INITS
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, labels: jax.Array, *, train: bool) -> jax.Array:
        init = INITS[self.initializer].embedding(self.width)
        shape = (self.labels + 1, self.width)
        table = parameter(self, "table", init, shape, ("vocab", "embed"))
        if train and self.dropout:
            kept = dropout(
                jnp.ones(labels.shape), self.dropout, self.make_rng("dropout")
            )
            dropped = kept == 0.0
            labels = jnp.where(dropped, self.labels, labels)
        return jnp.take(table, labels, axis=0, mode="clip").astype(self.dtype)
