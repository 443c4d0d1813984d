"""Kinds of norms; their statistics are float32."""

import functools
from collections.abc import Callable

from flax import linen as nn
from jax.typing import DTypeLike


class _Identity(nn.Module):
    epsilon: float
    dtype: DTypeLike

    def __call__(self, x):
        return x


def _layernorm(*, epsilon, dtype, name, bias=True, scale=True):
    return nn.LayerNorm(
        epsilon,
        dtype,
        use_bias=bias,
        use_scale=scale,
        use_fast_variance=False,
        name=name,
    )


# epsilon, dtype, name -> module
NORM_KINDS: dict[str, Callable[..., nn.Module]] = {
    "layernorm": _layernorm,  # Ba et al. 2016, arXiv:1607.06450
    # Karpathy's nanoGPT
    "layernorm_no_bias": functools.partial(_layernorm, bias=False),
    # Peebles and Xie 2023, arXiv:2212.09748, released code: adaLN has the affine map
    "layernorm_no_affine": functools.partial(_layernorm, bias=False, scale=False),
    "rmsnorm": nn.RMSNorm,  # Zhang and Sennrich 2019, arXiv:1910.07467
    "none": _Identity,
}
