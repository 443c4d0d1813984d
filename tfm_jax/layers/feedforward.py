"""Position-wise feed-forward block, plain or gated."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from tfm_jax.layers.linear import Dropout, Linear, constrain
from tfm_jax.ops.activations import ACTIVATIONS


class FeedForward(nn.Module):
    """``down(act(up(x)))``, or ``down(act(gate(x)) * up(x))`` if the activation gates.

    Source: Vaswani et al. 2017, equation 2; Shazeer 2020, equation 6 for the gated
    forms. Deviates: gated forms keep their biases, and ``ffn_width`` is not reduced by
    a third to keep the parameter count.
    Args (call): x: [B, T, D]. Returns: [B, T, D] in ``dtype``.
    """

    ffn_width: int
    activation: str  # a key of ACTIVATIONS
    initializer: str
    dropout: float = 0.0  # after the activation
    dtype: DTypeLike = jnp.float32
    bias: bool = True
    out_scale: float = 1.0  # on the initial kernel of ``down``

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        act = ACTIVATIONS[self.activation]

        def expand(name):
            linear = Linear(
                (self.ffn_width,),
                ("embed", "mlp"),
                self.initializer,
                bias=self.bias,
                dtype=self.dtype,
                name=name,
            )
            return linear(x)

        y = (
            act.function(expand("gate")) * expand("up")
            if act.gated
            else act.function(expand("up"))
        )
        y = constrain(y, "batch", "length", "mlp")
        y = Dropout(self.dropout, name="dropout")(y, train=train)
        down = Linear(
            (x.shape[-1],),
            ("mlp", "embed"),
            self.initializer,
            bias=self.bias,
            dtype=self.dtype,
            scale=self.out_scale,
            name="down",
        )
        return down(y)
