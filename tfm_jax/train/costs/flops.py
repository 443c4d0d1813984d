"""FLOPs of a traced function: every loop's body as often as it runs."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr

# one operation for each element of the result, exp and tanh as much as a sum
ELEMENTWISE = frozenset(
    "abs add atan2 cbrt cos div erf erfc erf_inv exp exp2 expm1 integer_pow log log1p "
    "logistic max min mul neg pow rem rsqrt sin sqrt square sub tan tanh".split()
)
# one for each element that goes in
REDUCTIONS = frozenset(
    "cumlogsumexp cummax cummin cumprod cumsum reduce_max reduce_min reduce_prod "
    "reduce_sum".split()
)
# what they do cannot be seen, or not how often
OPAQUE = frozenset(
    "custom_call dot_product_attention_bwd dot_product_attention_fwd ffi_call "
    "io_callback pallas_call pure_callback ragged_dot ragged_dot_general while".split()
)


class Uncountable(ValueError):
    """An operation whose FLOPs cannot be read off the traced function."""


def count(function: Callable, *arguments: Any) -> Counter:
    """FLOPs of ``function(*arguments)``: ``products`` and ``elementwise``.

    A multiply-add of a product or a convolution is two operations. Anything else on
    floating-point arrays is one for each element, so that tanh of additive scores,
    which is as much work as a product, counts; moving data is none. Sums of gradients
    and of scalars are left out: a loop over layers has some that the same layers
    written out have not. Of the branches of a condition the costliest counts. Nothing
    is compiled or run.

    Source: Clark et al. 2020, arXiv:2003.10555, appendix B, counts operations alike.
    XLA's ``cost_analysis`` is no substitute: it takes the body of a loop once
    (openxla/xla, HloCostAnalysis::HandleWhile, where the trip count is not known).
    Args: arguments: arrays or ``jax.ShapeDtypeStruct``.
    Raises: Uncountable for a loop of unknown length and for an opaque kernel.
    """
    return _of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of(jaxpr):
    total = Counter()
    for equation in jaxpr.eqns:
        total.update(_of_equation(equation))
    return total


def _of_equation(equation):
    name, parameters = equation.primitive.name, equation.params
    if name in OPAQUE:
        raise Uncountable(f"its step has {name!r}, whose operations cannot be counted")
    if name in PRODUCTS:
        return Counter(products=PRODUCTS[name](equation))
    if name in ELEMENTWISE:
        return Counter(elementwise=_elements(equation.outvars[0]))
    if name in REDUCTIONS:
        return Counter(elementwise=_elements(equation.invars[0]))
    inner = [_of(jaxpr) for jaxpr in inner_jaxprs(parameters)]
    if name == "cond":
        return max(inner, key=Counter.total)
    times = _TIMES.get(name, lambda parameters: 1)(parameters)
    return Counter({k: n * times for each in inner for k, n in each.items()})


def inner_jaxprs(parameters: Any) -> Iterator[Jaxpr]:
    """The functions that an operation with these parameters calls."""
    for value in parameters.values():
        for part in value if isinstance(value, tuple | list) else [value]:
            if isinstance(part, ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, Jaxpr):
                yield part


def _elements(variable):
    shape, dtype = variable.aval.shape, variable.aval.dtype
    return math.prod(shape) if shape and jnp.issubdtype(dtype, jnp.inexact) else 0


def _dot_general(equation):
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    return 2 * math.prod(out) * math.prod(left[axis] for axis in contracted)


def _convolution(equation):
    kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
    channels = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    times = 2 * math.prod(out) * math.prod(kernel) // channels
    return times // math.prod(equation.params["lhs_dilation"])  # the rest are zeros


PRODUCTS = {"dot_general": _dot_general, "conv_general_dilated": _convolution}
_TIMES = {  # primitive -> how often its body runs
    "scan": lambda parameters: parameters["length"],
    "shard_map": lambda parameters: parameters["mesh"].size,
}
