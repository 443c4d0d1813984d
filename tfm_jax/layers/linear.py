"""Affine maps as two-dimensional matrix products, with logical axis names."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.errors import ScopeParamShapeError
from jax.typing import DTypeLike

from tfm_jax.ops.dropout import dropout
from tfm_jax.ops.products import einsum


class Init(NamedTuple):
    """``kernel`` of matrices, ``embedding(width)`` of token and position tables.

    ``patches``: the key of INITS for maps of pixels; "": the same. ``projections``:
    factor on the maps to queries, keys and values.
    """

    kernel: Callable
    embedding: Callable[[int], Callable]
    patches: str = ""
    bias: Callable = nn.initializers.zeros
    projections: float = 1.0


def _unit_after_scaling(width):
    return nn.initializers.normal(width**-0.5)


def _uniform(limit):
    def draw(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return Init(draw, lambda width: draw, bias=draw)


INITS = {
    # Glorot and Bengio 2010; tables N(0, 1/D), unit variance after the sqrt(D) scale
    "glorot": Init(nn.initializers.glorot_uniform(), _unit_after_scaling),
    # Gehring et al. 2017, arXiv:1705.03122, section 3.5
    "normal_fan_in": Init(
        nn.initializers.variance_scaling(1.0, "fan_in", "normal"),
        lambda width: nn.initializers.normal(0.1),
    ),
    # LeCun et al. 1998, Flax's default
    "lecun": Init(nn.initializers.lecun_normal(), _unit_after_scaling),
    # Radford et al. 2018, section 4.1
    "normal_0.02": Init(
        nn.initializers.normal(0.02), lambda width: nn.initializers.normal(0.02)
    ),
    # Devlin et al. 2019 (released code): truncated at two standard deviations
    "truncated_0.02": Init(
        nn.initializers.truncated_normal(0.02),
        lambda width: nn.initializers.truncated_normal(0.02),
    ),
    # Dosovitskiy et al. 2021 (released code)
    "vit": Init(
        nn.initializers.glorot_uniform(),
        lambda width: nn.initializers.normal(0.02),
        patches="lecun",
    ),
    # Peebles and Xie 2023, arXiv:2212.09748 (released code), where query, key and value
    # are one matrix [D, 3 D]
    "dit": Init(
        nn.initializers.glorot_uniform(),
        lambda width: nn.initializers.normal(0.02),
        projections=0.5**0.5,
    ),
    # Bahdanau et al. 2015, arXiv:1409.0473, appendix B.1
    "normal_0.01": Init(
        nn.initializers.normal(0.01), lambda width: nn.initializers.normal(0.01)
    ),
    "uniform_0.08": _uniform(0.08),  # Sutskever et al. 2014, arXiv:1409.3215, 3.4
    "uniform_0.1": _uniform(0.1),  # Luong et al. 2015, arXiv:1508.04025, section 4.1
}

# those that say nothing of maps that only some models have
PLAIN_INITS = tuple(
    n for n, row in INITS.items() if not row.patches and row.projections == 1.0
)

# number of residual sub-layers -> factor on the initial maps that end them
RESIDUAL_INITS = {
    "plain": lambda sublayers: 1.0,
    "scaled": lambda sublayers: sublayers**-0.5,  # Radford et al. 2019, section 2.3
}


class Biases(NamedTuple):
    """Whether affine maps have a bias: query, key and value; all others of a block."""

    projections: bool
    others: bool


BIASES = {
    "all": Biases(True, True),  # Vaswani et al. 2017, released code
    "not_qkv": Biases(False, True),  # GPT-Neo, Black et al. 2021
    "none": Biases(False, False),  # Raffel et al. 2020, arXiv:1910.10683
}


def parameter(
    module: nn.Module,
    name: str,
    init: Callable,
    shape: tuple[int, ...],
    axes: tuple[str | None, ...] = (),
) -> jax.Array:
    """A float32 parameter of ``module``, made by ``init(key, shape, dtype)``.

    Flax's ``Module.param`` traces ``init`` wherever the parameter is read, only to
    compare shapes; here they are compared as they are, and a trace is shorter.

    Args: axes: logical names of its axes; (): it has none.
    Raises: ScopeParamShapeError if the parameter is there in another shape.
    """
    value: Any
    if not module.has_variable("params", name):
        drawn = nn.with_logical_partitioning(init, axes) if axes else init
        value = module.param(name, drawn, shape, jnp.float32)
        return value
    value = nn.unbox(module.get_variable("params", name))
    if value.shape != shape:
        path = "/".join(module.path)
        raise ScopeParamShapeError(name, path, value.shape, shape)
    return value


class Linear(nn.Module):
    """``x @ kernel + bias`` over the last ``inputs`` axes of x.

    The product is done on [tokens, features] matrices whatever the rank of x: XLA
    then copies nothing for the weight gradient.

    With ``weight_norm`` the kernel gives the directions of each output's weights, and
    "scale" their length, which is at first that of the kernel.

    Source: Salimans and Kingma 2016, arXiv:1602.07868, equation 2, for that norm.
    Deviates: no.
    Args (call): x: [..., *input shape]. Returns: [..., *features] in ``dtype``.
    """

    features: tuple[int, ...]  # output shape
    axes: tuple[
        str | None, ...
    ]  # logical names of the kernel's axes, inputs then outputs
    initializer: str  # a key of INITS
    inputs: int = 1  # how many trailing axes of x are contracted
    bias: bool = True
    dtype: DTypeLike = jnp.float32
    scale: float = 1.0  # on the initial kernel
    weight_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, shape = x.shape[: -self.inputs], x.shape[-self.inputs :]
        rows, columns = math.prod(shape), math.prod(self.features)
        of_outputs = self.axes[self.inputs :]

        def matrix(key, full_shape, dtype):
            drawn = INITS[self.initializer].kernel(key, (rows, columns), dtype)
            drawn = drawn if self.scale == 1.0 else drawn * self.scale
            return drawn.reshape(full_shape)

        kernel = parameter(self, "kernel", matrix, (*shape, *self.features), self.axes)
        x, kernel = x.reshape(-1, rows), kernel.reshape(rows, columns)
        if self.weight_norm:
            length = jnp.linalg.norm(kernel, axis=0)

            def lengths(key, shape, dtype):
                return length.reshape(shape)

            scale = parameter(self, "scale", lengths, self.features, of_outputs)
            kernel = kernel * (scale.reshape(-1) / length)
        y = einsum("ti,io->to", x, kernel, dtype=self.dtype)
        if self.bias:
            init = INITS[self.initializer].bias
            bias = parameter(self, "bias", init, self.features, of_outputs)
            y = y + bias.reshape(-1)  # in float32, and so is the sum of its gradient
            y = y.astype(self.dtype)
        return y.reshape(*batch, *self.features)


class Dropout(nn.Module):
    """Drops elements with probability ``rate`` while training (``ops.dropout``)."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, of_rows: bool = True) -> jax.Array:
        if not train or self.rate == 0.0:
            return x
        return self.drawn(of_rows=of_rows)(x)

    @nn.nowrap  # what it returns is no array that could be captured
    def drawn(self, *, of_rows: bool = True) -> Callable[[jax.Array], jax.Array]:
        """What training applies, as a pure function: of one key, however often."""
        key = self.make_rng("dropout")
        return functools.partial(dropout, rate=self.rate, key=key, of_rows=of_rows)


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """Ties the axes of an activation to logical names; nothing without a mesh."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return nn.with_logical_constraint(x, names)
