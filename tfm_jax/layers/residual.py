"""Residual connection and normalisation: placement (Post-LN, Pre-LN) and kind."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from tfm_jax.layers.linear import Dropout


class Placement(NamedTuple):
    """``after(x + inside(sublayer(before(x))))``; ``final``: also after the stack."""

    before: bool = False
    inside: bool = False
    after: bool = False
    final: bool = False


NORM_PLACEMENTS = {
    "post": Placement(after=True),  # Vaswani et al. 2017, section 3.1
    "pre": Placement(before=True, final=True),  # Xiong et al. 2020, arXiv:2002.04745
    # Ding et al. 2021, arXiv:2105.13290, section 2.4
    "sandwich": Placement(before=True, inside=True, final=True),
    "none": Placement(),
}


class _Identity(nn.Module):
    epsilon: float
    dtype: DTypeLike

    def __call__(self, x):
        return x


def _layernorm(*, epsilon, dtype, name, bias=True):
    return nn.LayerNorm(
        epsilon, dtype, use_bias=bias, use_fast_variance=False, name=name
    )


# epsilon, dtype, name -> module; statistics are float32 in all of them
NORM_KINDS: dict[str, Callable[..., nn.Module]] = {
    "layernorm": _layernorm,  # Ba et al. 2016, arXiv:1607.06450
    "layernorm_no_bias": functools.partial(
        _layernorm, bias=False
    ),  # Karpathy's nanoGPT
    "rmsnorm": nn.RMSNorm,  # Zhang and Sennrich 2019, arXiv:1910.07467
    "none": _Identity,
}


class Residual(nn.Module):
    """A sub-layer with its residual connection, dropout and normalisation.

    Source: Vaswani et al. 2017, section 3.1 and "Residual Dropout" in 5.4: dropout is
    applied to the sub-layer's output before it is added. Deviates: no.
    Args (call): x: [B, T, D]. sublayer: callable [B, T, D] -> ([B, T, D], anything).
    Returns: ([B, T, D], what the sub-layer returned besides).
    """

    placement: str  # a key of NORM_PLACEMENTS
    kind: str  # a key of NORM_KINDS
    epsilon: float
    dropout: float
    add: bool = True  # False: no residual connection
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, sublayer: Callable, *, train: bool
    ) -> tuple[jax.Array, Any]:
        place = NORM_PLACEMENTS[self.placement]

        def norm(slot, y):
            make = NORM_KINDS[self.kind]
            return make(epsilon=self.epsilon, dtype=self.dtype, name=slot)(y)

        y, rest = sublayer(norm("norm_before", x) if place.before else x)
        if place.inside:
            y = norm("norm_inside", y)
        y = Dropout(self.dropout, name="dropout")(y, train=train)
        y = x + y if self.add else y
        return (norm("norm_after", y) if place.after else y), rest
