"""Products of two arrays whose numbers are rounded and whose sums are float32."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from tfm_jax.ops.platform import platform


class _Kind(NamedTuple):
    """What of a product is known before it is traced."""

    subscripts: str
    dtype: jnp.dtype
    out: jnp.dtype
    gradients: tuple[jnp.dtype, jnp.dtype]


def einsum(
    subscripts: str,
    a: jax.Array,
    b: jax.Array,
    *,
    dtype: DTypeLike,
    out: DTypeLike | None = None,
) -> jax.Array:
    """``jnp.einsum`` of two operands rounded to ``dtype``, summed in float32.

    So are its gradients, for which the cotangent is rounded; each comes in the dtype of
    its operand, so that those of float32 parameters are nowhere rounded as a whole.

    Source: Micikevicius et al. 2018, arXiv:1710.03740, section 3.3. Deviates: no.

    Args:
        subscripts: "ab,bc->ac"; every index stands in two of the three terms.
        dtype: of the numbers that are multiplied.
        out: of the result, by default ``dtype``.
    """
    dtype = jnp.dtype(dtype)
    out = dtype if out is None else jnp.dtype(out)
    kind = _Kind(subscripts, dtype, out, (a.dtype, b.dtype))
    if dtype == jnp.float32:
        return _sum(kind, a, b)
    return _product(kind, a, b)


def spread(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """``x`` broadcast to ``shape``; its gradient, a sum, is summed in float32."""
    return jnp.broadcast_to(x.astype(jnp.float32), shape).astype(x.dtype)


def _sum(kind, a, b):
    a, b = a.astype(kind.dtype), b.astype(kind.dtype)
    if platform() != "cpu" or kind.dtype == jnp.float32:
        return jnp.einsum(kind.subscripts, a, b, preferred_element_type=kind.out)
    return _sum_on_cpu(kind.subscripts, a, b).astype(kind.out)


def _sum_on_cpu(subscripts, a, b):
    """The product in the one form for which XLA takes bfloat16 instructions (AMX).

    All others it widens to float32 before they are multiplied, at a sixth of the speed:
    the result has to be float32, and the left operand has to lie in memory so that its
    last axis is the one that is summed over.
    """
    left, right, result = _terms(subscripts)
    free = [i for i in result if not (i in left and i in right)]
    if free and free[0] in right:  # XLA would swap them itself, after it has looked
        a, b, left, right = b, a, right, left
    if left[-1] not in result:
        return _dot(a, b, left, right, result)
    size = dict(zip((*left, *right), (*a.shape, *b.shape), strict=True))
    of_result = math.prod(size[i] for i in result)
    if right[-1] in result and b.size + 4 * of_result < a.size:
        other = sorted(result, key=lambda i: i not in right)  # cheaper: turn b, and y
        y = _sum_on_cpu(f"{right},{left}->{''.join(other)}", b, a)
        y = jax.lax.optimization_barrier(y)  # or XLA would turn a after all
        return jnp.transpose(y, [other.index(i) for i in result])
    last = sorted(left, key=lambda i: i not in result)
    return _dot(_lie(a, left, last), b, last, right, result)


def _dot(a, b, left, right, result):
    subscripts = f"{''.join(left)},{right}->{result}"
    return jnp.einsum(subscripts, a, b, preferred_element_type=jnp.float32)


def _lie(x, order, wanted):
    """``x`` with its axes, and its numbers in memory, in the ``wanted`` order.

    The barrier keeps the transposition out of the product that is next to it; the axis
    in front makes XLA copy the numbers rather than only rename the axes.
    """
    x = jnp.transpose(x, [order.index(i) for i in wanted])
    return jax.lax.optimization_barrier(x[None])[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(kind, a, b):
    return _sum(kind, a, b)


def _forward(kind, a, b):
    a, b = a.astype(kind.dtype), b.astype(kind.dtype)
    return _sum(kind, a, b), (a, b)


def _backward(kind, operands, g):
    a, b = operands
    left, right, result = _terms(kind.subscripts)
    of_a = kind._replace(subscripts=f"{result},{right}->{left}", out=kind.gradients[0])
    of_b = kind._replace(subscripts=f"{left},{result}->{right}", out=kind.gradients[1])
    return _sum(of_a, g, b), _sum(of_b, a, g)


_product.defvjp(_forward, _backward)


def _terms(subscripts):
    operands, result = subscripts.split("->")
    return *operands.split(","), result
