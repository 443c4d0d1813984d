"""Non-linearities of the feed-forward block; exact and tanh GELU have own names."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax


class Activation(NamedTuple):
    """``function`` of one array; ``gated``: multiplied with a second projection."""

    function: Callable
    gated: bool = False


_gelu = functools.partial(jax.nn.gelu, approximate=False)
_gelu_tanh = functools.partial(jax.nn.gelu, approximate=True)

ACTIVATIONS = {
    "relu": Activation(jax.nn.relu),  # Vaswani et al. 2017, equation 2
    "gelu": Activation(_gelu),  # Hendrycks and Gimpel 2016, with erf
    "gelu_tanh": Activation(_gelu_tanh),  # the same paper's tanh form; GPT-1, GPT-2
    "silu": Activation(jax.nn.silu),  # Ramachandran et al. 2017 ("swish")
    "reglu": Activation(jax.nn.relu, gated=True),  # Shazeer 2020, arXiv:2002.05202
    "geglu": Activation(_gelu, gated=True),  # Shazeer 2020
    "swiglu": Activation(jax.nn.silu, gated=True),  # Shazeer 2020
}
