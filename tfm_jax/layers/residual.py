"""Residual connection: normalisation (Post-LN, Pre-LN), gate, modulation (adaLN)."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from tfm_jax.layers.linear import Dropout, Linear, parameter
from tfm_jax.layers.norms import NORM_KINDS
from tfm_jax.ops.products import spread


class Placement(NamedTuple):
    """Norms of ``after(x + inside(sublayer(before(x))))``; ``final``: of the stack."""

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


def _tanh_gate(initial):
    def gate(residual, y):
        init = nn.initializers.constant(initial)
        alpha = parameter(residual, "alpha", init, ())
        # for all rows before it is rounded, so that its gradient is summed in float32
        return jnp.broadcast_to(jnp.tanh(alpha), y.shape).astype(y.dtype) * y

    return gate


# (residual, y [B, T, D]) -> what is added to x
GATES: dict[str, Callable] = {
    "none": lambda residual, y: y,
    # a scalar, 0 at the start; Alayrac et al. 2022, arXiv:2204.14198, section 2.2
    "tanh": _tanh_gate(0.0),
    "tanh_one": _tanh_gate(1.0),  # the same, open from the start
}


class Modulation(nn.Module):
    """Vectors regressed from a condition, ``map(silu(condition))``; zero at the start.

    Source: Peebles and Xie 2023, arXiv:2212.09748, section 3.2 and released code.
    Deviates: each residual connection has its own map, which the code stacks for all of
    a layer.
    Args (call): condition: [B, C]. Returns: ``terms`` of [B, 1, D].
    """

    terms: int
    width: int  # D
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, condition: jax.Array) -> list[jax.Array]:
        shape, axes = (self.terms, self.width), ("embed", None, None)
        regress = Linear(shape, axes, "lecun", dtype=self.dtype, scale=0.0, name="map")
        return jnp.split(regress(nn.silu(condition)), self.terms, axis=1)


def modulate(y: jax.Array, shift: jax.Array, scale: jax.Array) -> jax.Array:
    """``y (1 + scale) + shift``, of [B, T, D] by [B, 1, D]."""
    return y * (1 + spread(scale, y.shape)) + spread(shift, y.shape)


# what is regressed from the condition; Peebles and Xie 2023, arXiv:2212.09748, figure 3
CONDITIONS: dict[str, tuple[str, ...]] = {
    "none": (),
    "adaln": ("shift", "scale"),  # of the sub-layer's input, see ``modulate``
    "adaln_zero": ("shift", "scale", "gate"),  # and a factor of its output
}


class Residual(nn.Module):
    """``after(x + gate * inside(sublayer(modulate(before(x), condition))))``.

    Source: Vaswani et al. 2017, section 3.1 and "Residual Dropout" in 5.4: dropout is
    applied to the sub-layer's output before it is added. Deviates: no.
    Args (call): x: [B, T, D]. sublayer: callable [B, T, D] -> ([B, T, D], anything).
        condition: [B, C], unless ``condition`` is "none".
    Returns: ([B, T, D], what the sub-layer returned besides).
    """

    placement: str  # a key of NORM_PLACEMENTS
    kind: str  # a key of NORM_KINDS
    epsilon: float
    dropout: float
    add: bool = True  # False: no residual connection
    dtype: DTypeLike = jnp.float32
    gate: str = "none"  # a key of GATES
    condition: str = "none"  # a key of CONDITIONS

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        sublayer: Callable,
        condition: jax.Array | None = None,
        *,
        train: bool,
    ) -> tuple[jax.Array, Any]:
        place, terms = NORM_PLACEMENTS[self.placement], CONDITIONS[self.condition]

        def norm(slot, y):
            make = NORM_KINDS[self.kind]
            return make(epsilon=self.epsilon, dtype=self.dtype, name=slot)(y)

        def regress():
            make = Modulation(len(terms), x.shape[-1], self.dtype, name="modulation")
            return make(condition)

        regressed = regress() if terms else []
        affine, gates = regressed[:2], regressed[2:]
        y = norm("norm_before", x) if place.before else x
        y, rest = sublayer(modulate(y, *affine) if affine else y)
        if place.inside:
            y = norm("norm_inside", y)
        y = Dropout(self.dropout, name="dropout")(y, train=train)
        gates = [spread(gate, y.shape) for gate in gates]
        y = functools.reduce(jnp.multiply, gates, GATES[self.gate](self, y))
        y = x + y if self.add else y
        return (norm("norm_after", y) if place.after else y), rest
