"""Non-linearities of the feed-forward block; exact and tanh GELU have own names."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Activation(NamedTuple):
    """``function`` of one array; ``gated``: multiplied with a second projection."""

    function: Callable
    gated: bool = False


def _in_float32(function):
    """``function`` without rounding in between; backward it keeps its input alone."""

    @jax.checkpoint
    def widened(x):
        return function(x.astype(jnp.float32)).astype(x.dtype)

    return lambda x: function(x) if x.dtype == jnp.float32 else widened(x)


def _with_erf(x):
    # as PyTorch has it; erfc, which jax.nn.gelu takes, needs twice the time on CPUs
    return 0.5 * x * (1.0 + jax.lax.erf(x * 0.5**0.5))


_gelu = _in_float32(_with_erf)
_gelu_tanh = _in_float32(functools.partial(jax.nn.gelu, approximate=True))
_silu = _in_float32(jax.nn.silu)
_squared_relu = _in_float32(lambda x: jnp.square(jax.nn.relu(x)))


ACTIVATIONS = {
    "relu": Activation(jax.nn.relu),  # Vaswani et al. 2017, equation 2
    "gelu": Activation(_gelu),  # Hendrycks and Gimpel 2016, with erf
    "gelu_tanh": Activation(_gelu_tanh),  # the same paper's tanh form; GPT-1, GPT-2
    "silu": Activation(_silu),  # Ramachandran et al. 2017 ("swish")
    # So et al. 2021, arXiv:2109.08668, section 3.2
    "squared_relu": Activation(_squared_relu),
    "reglu": Activation(jax.nn.relu, gated=True),  # Shazeer 2020, arXiv:2002.05202
    "geglu": Activation(_gelu, gated=True),  # Shazeer 2020
    "swiglu": Activation(_silu, gated=True),  # Shazeer 2020
}
