"""Attention as one pure function: score, mask style and implementation are choices."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from tfm_jax.ops.kernels import cudnn, splash
from tfm_jax.ops.masks import MASK_STYLES, Mask, combine
from tfm_jax.ops.platform import platform
from tfm_jax.ops.products import einsum


class Score(NamedTuple):
    """``function(q, k, parameter) -> logits``; ``shape(H, K)`` of its parameter.

    That of "additive" may have a batch axis in front.
    """

    function: Callable
    shape: Callable[[int, int], tuple[int, ...]] | None = None
    initial: float = 0.0  # constant start of the parameter; 0 means Glorot's range


def _dot(q, k, _=None):
    return einsum("bthk,bshk->bhts", q, k, dtype=q.dtype, out=jnp.float32)


def _scaled_dot(q, k, _=None):
    return _dot(q, k) / math.sqrt(q.shape[-1])


def _cosine(q, k, scale):
    def unit(x):
        x = x.astype(jnp.float32)
        return x * jax.lax.rsqrt(jnp.sum(x * x, -1, keepdims=True) + 1e-12)

    return _dot(unit(q), unit(k)) * scale[:, None, None]


def _additive(q, k, vector):
    q, k = q.astype(jnp.float32), k.astype(jnp.float32)  # gradients are sums
    axes = "bhk"[-vector.ndim :]

    def one_query(q_bhk):  # never holds [B, H, T, S, K]: one query at a time
        hidden = jnp.tanh(q_bhk[:, None] + k)
        return jnp.einsum(f"bshk,{axes}->bhs", hidden, vector)

    rows = jax.lax.map(jax.checkpoint(one_query), jnp.swapaxes(q, 0, 1))
    return jnp.moveaxis(rows, 0, 2)


# q [B, T, H, K], k [B, S, H, K] -> logits [B, H, T, S] float32
SCORES = {
    "scaled_dot": Score(_scaled_dot),  # Vaswani et al. 2017, equation 1
    "dot": Score(_dot),  # Luong et al. 2015, arXiv:1508.04025, section 3.1
    # Henry et al. 2020, arXiv:2010.04245; scale per head from 10 (Liu et al. 2022)
    "cosine": Score(_cosine, lambda heads, size: (heads,), 10.0),
    # Bahdanau et al. 2015, arXiv:1409.0473, appendix A.1.2; W_q and W_k are the
    # projections of the attention layer
    "additive": Score(_additive, lambda heads, size: (heads, size)),
}


def attention_weights(
    q: jax.Array,
    k: jax.Array,
    bias: jax.Array | None = None,
    *,
    score: str = "scaled_dot",
    parameter: jax.Array | None = None,
    mask_style: str = "before",
) -> jax.Array:
    """Attention weights [B, H, T, S] float32; see ``attention`` for the arguments."""
    logits = SCORES[score].function(q, k, parameter)
    return MASK_STYLES[mask_style](logits, bias)


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | None = None,
    *,
    mask: Mask | None = None,
    score: str = "scaled_dot",
    parameter: jax.Array | None = None,
    mask_style: str = "before",
    transform: Callable | None = None,
    implementation: str = "auto",
    divided: PartitionSpec | None = None,
    remat: bool = False,
) -> jax.Array:
    """Weighted mean of the values a query may see.

    Source: Vaswani et al. 2017, section 3.2.1. Deviates: a query that may see nothing
    gets zeros, with zero gradients, in every implementation.

    Args:
        q: [B, T, H, K] queries. k: [B, S, H, K] keys. v: [B, S, H, K'] values.
        bias: [B|1, H|1, T, S] float32 added to the logits: 0 visible, -inf hidden, or
            any finite preference.
        mask: structure that is combined with ``bias``.
        score: a key of ``SCORES``. parameter: the array that score needs, if any.
        mask_style: a key of ``MASK_STYLES``.
        transform: applied to the weights [B, H, T, S] before the values are summed
            (dropout, recording).
        implementation: a key of ``IMPLEMENTATIONS``.
        divided: mesh axes that ``q`` is divided over, for kernels that XLA does not
            divide by itself.
        remat: the backward pass computes the weights again instead of keeping them,
            which fused kernels do anyway; ``transform`` must be pure.
    Returns: [B, T, H, K'] in the dtype of ``v``.
    Raises: ValueError if the implementation cannot do what is asked, or is not here.
    """
    asked = (q, v, bias, mask, score, mask_style, transform)
    if implementation == "auto":
        implementation = _automatic(k.shape[1], asked)
    if kernel := KERNELS.get(implementation):
        if problem := not_here(implementation):
            raise ValueError(problem)
        if special := beyond_fused(implementation, *asked):
            raise ValueError(
                f"model.attention={implementation!r} cannot do {special}; choose from "
                "(auto, xla)"
            )
        return _run(kernel, q, k, v, mask, divided)
    if implementation != "xla":
        raise ValueError(
            f"model.attention={implementation!r}; choose from {IMPLEMENTATIONS}"
        )

    def plain(q, k, v, bias, mask, parameter):
        structure = None if mask is None else mask.bias(q.shape[1], k.shape[1])
        weights = attention_weights(
            q,
            k,
            combine(structure, bias),
            score=score,
            parameter=parameter,
            mask_style=mask_style,
        )
        if transform is not None:
            weights = transform(weights)
        return einsum("bhts,bshk->bthk", weights, v, dtype=v.dtype)

    if remat:
        plain = jax.checkpoint(plain)
    return plain(q, k, v, bias, mask, parameter)


def _run(kernel, q, k, v, mask, divided):
    """The kernel; made for each that a traced window may be, of which one runs."""
    if mask is None or not isinstance(mask.window, jax.Array):
        return kernel.run(q, k, v, mask, divided)

    def within(window, q, k, v):
        wide = window >= max(q.shape[1], k.shape[1])
        one = dataclasses.replace(mask, window=None if wide else window, windows=())
        return kernel.run(q, k, v, one, divided)

    # again in the backward pass, for which a branch would keep what each of them needs
    branches = [
        jax.checkpoint(functools.partial(within, window)) for window in mask.windows
    ]
    number = jnp.argmax(jnp.array(mask.windows) == mask.window)
    return jax.lax.switch(number, branches, q, k, v)


def _automatic(keys, asked):
    """The kernel of the platform, where it can do what is asked and pays."""
    for name, kernel in KERNELS.items():
        if kernel.platform == platform():
            short = min(asked[0].shape[1], keys) < kernel.least
            return "xla" if short or beyond_fused(name, *asked) else name
    return "xla"


def not_here(implementation: str) -> str:
    """Why the platform cannot run it, in words; "" if it can."""
    kernel = KERNELS.get(implementation)
    if kernel is None or kernel.platform == platform():
        return ""
    return (
        f"model.attention={implementation!r} needs {kernel.device}, this machine has "
        f"{platform()!r}; choose from (auto, xla)"
    )


def beyond_fused(
    implementation: str,
    q: jax.Array | jax.ShapeDtypeStruct,
    v: jax.Array | jax.ShapeDtypeStruct,
    bias: Any,
    mask: Mask | None,
    score: str,
    mask_style: str,
    transform: Any,
) -> str:
    """What of the request a fused kernel does not know, in words; "" if nothing.

    Args: as for ``attention``; of ``q`` and ``v`` shapes and dtypes are enough, of
        ``bias`` and ``transform`` whether they are None.
    """
    mask, kernel = mask or Mask(), KERNELS[implementation]
    wanted = {
        f"model.dtype={q.dtype.name!r}": q.dtype not in kernel.dtypes,
        **kernel.lacks(q, v, mask),
        f"score={score!r}": score != "scaled_dot",
        f"mask_style={mask_style!r}": mask_style != "before",
        "biases on the logits": bias is not None,
        "dropout on the weights": transform is not None,
        "windows that are not known": isinstance(mask.window, jax.Array)
        and not mask.windows,
        "a visible prefix": mask.prefix is not None,
    }
    return ", ".join(name for name, asked in wanted.items() if asked)


class Kernel(NamedTuple):
    """A fused implementation.

    Attributes:
        run: (q, k, v, mask, divided) -> what ``attention`` returns.
        platform, device: where it is, for the program and in words.
        dtypes: of queries, keys and values.
        lacks: (q, v, mask) -> words for what it alone may lack, and whether it does.
        least: tokens below which "auto" does not pay for its padding.
    """

    run: Callable
    platform: str
    device: str
    dtypes: tuple[Any, ...]
    lacks: Callable
    least: int = 0


_HALVES = (jnp.bfloat16, jnp.float16)
KERNELS = {
    "cudnn": Kernel(cudnn.attention, "gpu", "an NVIDIA GPU", _HALVES, cudnn.lacks),
    "splash": Kernel(
        splash.attention,
        "tpu",
        "a TPU",
        (jnp.bfloat16, jnp.float32),
        splash.lacks,
        splash.TILE,
    ),
}
IMPLEMENTATIONS = ("auto", "xla", *KERNELS)
