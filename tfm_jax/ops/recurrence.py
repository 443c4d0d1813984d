"""Scans whose weights get their gradients in one product each, and recurrent cells."""

import functools
import string
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from tfm_jax.ops.products import einsum

States = tuple[jax.Array, ...]


class Cell(NamedTuple):
    """A recurrent unit.

    Attributes:
        gates: G, pre-activations a unit: both kernels have G * H columns.
        states: how many arrays it remembers; the first of them is its output.
        step: ``step(x, y, bias, states) -> states`` of [..., G * H] what comes from the
            input, bias included, and from the output before, a bias [H] or None, and
            [..., H] each; all float32.
        names: of the gates, in the order of the columns.
        bias: the output before has a bias [H] of its own, on the last gate.
    """

    gates: int
    states: int
    step: Callable[..., States]
    names: str
    bias: bool = False


def _gru(x, y, bias, states):
    (h,) = states
    (x_r, x_z, x_n), (y_r, y_z, y_n) = (jnp.split(z, 3, axis=-1) for z in (x, y))
    reset, update = jax.nn.sigmoid(x_r + y_r), jax.nn.sigmoid(x_z + y_z)
    candidate = jnp.tanh(x_n + reset * (y_n + bias))
    return ((1.0 - update) * candidate + update * h,)


def _lstm(x, y, bias, states):
    del bias
    i, f, g, o = jnp.split(x + y, 4, axis=-1)
    c = jax.nn.sigmoid(f) * states[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


CELLS = {
    # Cho et al. 2014, arXiv:1406.1078, with the reset gate behind the product, as in
    # cuDNN and PyTorch; the update gate of Bahdanau et al. 2015 is its complement
    "gru": Cell(3, 1, _gru, "rzn", bias=True),
    # Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000
    "lstm": Cell(4, 2, _lstm, "ifgo"),
}


def multiply(x: jax.Array, kernel: jax.Array, dtype: DTypeLike) -> jax.Array:
    """[..., I] times [I, O], rounded to ``dtype`` -> [..., O] in ``dtype``.

    Integers [...] are numbers of rows, those of a table that is looked up.
    """
    if _is_lookup(x):
        return _look_up(kernel, x).astype(dtype)
    axes = _axes(x)
    return einsum(f"{axes}i,io->{axes}o", x, kernel, dtype=dtype)


def _look_up(table, x):
    return jnp.take(table, x, axis=0, mode="clip")


def _is_lookup(x):
    return jnp.issubdtype(x.dtype, jnp.integer)


def _axes(x):
    """Letters for all axes but the last.

    They are not merged: products of merged axes, of which one is divided among devices,
    would be computed as a whole by each of them.
    """
    return string.ascii_uppercase[: x.ndim - 1]


def scan(
    body: Callable,
    kernels: Mapping[str, jax.Array],
    constants: Any,
    carry: Any,
    xs: Any,
    dtype: DTypeLike,
    *,
    reverse: bool = False,
    remat: Callable | None = None,
) -> tuple[Any, Any]:
    """``lax.scan``, with the gradient of each kernel as one product over all steps.

    ``lax.scan`` alone adds up a product a step, for which it reads and writes an array
    as large as the kernel each time.

    Args:
        body: ``body(product, constants, carry, x) -> (carry, y)``, in which
            ``product(name, x)`` is ``multiply(x, kernels[name])``, once for each name.
            It must not close over what gradients flow to.
        kernels: name -> [I, O]; where ``x`` is integers, a table that they look up in.
        dtype: of the products.
        constants: any tree; the gradients of all steps are added up in float32. One
            that all rows share should be ``spread`` over them: otherwise the devices
            that divide the rows among them add up theirs in every step.
        xs: tree of [T, ...]; ``x`` is one step of it.
        reverse: from the last step to the first.
        remat: policy of ``jax.checkpoint`` for a step; None: all is kept.
    Returns: (carry, tree of [T, ...]).
    """

    def narrowed(product, wide, carry, x):
        exact = jax.tree.map(lambda x, like: x.astype(like), wide, dtypes)
        return body(product, exact, carry, x)

    dtypes = jax.tree.map(lambda x: x.dtype, constants)
    static = _Static(narrowed, jnp.dtype(dtype), reverse, remat)
    return _scan(static, dict(kernels), jax.tree.map(_wide, constants), carry, xs)


def _wide(x):
    return x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x


class _Static(NamedTuple):
    body: Callable
    dtype: jnp.dtype
    reverse: bool
    remat: Callable | None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scan(static, kernels, constants, carry, xs):
    def product(name, x):
        return multiply(x, kernels[name], static.dtype)

    def step(carry, x):
        return static.body(product, constants, carry, x)

    return jax.lax.scan(step, carry, xs, reverse=static.reverse)


def _forward(static, kernels, constants, carry, xs):
    dtype = static.dtype

    def step(constants, carry, x, slots):
        inputs = {}

        def product(name, x):
            assert name not in inputs, f"{name} is multiplied twice in a step"
            inputs[name] = x
            y = multiply(x, kernels[name], dtype)
            return y if slots is None else _through(y, slots[name])

        carry, y = static.body(product, constants, carry, x)
        return carry, (y, inputs)

    first = jax.tree.map(lambda x: x[0], xs)
    length = len(jax.tree.leaves(xs)[0])
    _, (_, inputs) = jax.eval_shape(step, constants, carry, first, None)

    def zeros(name, x):
        rows = x.shape if _is_lookup(x) else x.shape[:-1]
        return jnp.zeros((length, *rows, kernels[name].shape[-1]), dtype)

    slots = {name: zeros(name, x) for name, x in inputs.items()}

    def run(constants, carry, xs, slots):
        def one(carry, x):
            return step(constants, carry, *x)

        if static.remat:
            one = jax.checkpoint(one, prevent_cse=False, policy=static.remat)
        carry, (ys, inputs) = jax.lax.scan(
            one, carry, (xs, slots), reverse=static.reverse
        )
        return (carry, ys), inputs

    results, pull, inputs = jax.vjp(run, constants, carry, xs, slots, has_aux=True)
    return results, (pull, inputs, kernels)


def _backward(static, saved, cotangents):
    pull, inputs, kernels = saved
    constants, carry, xs, slots = pull(cotangents)
    of_kernels = {}
    for name, kernel in kernels.items():
        if name not in inputs:
            of_kernels[name] = jnp.zeros_like(kernel)
            continue
        x, g, out = inputs[name], slots[name], kernel.dtype
        if _is_lookup(x):
            _, pull_table = jax.vjp(lambda table, x=x: _look_up(table, x), kernel)
            (of_kernels[name],) = pull_table(g.astype(out))
            continue
        terms = f"{_axes(x)}i,{_axes(x)}o->io"
        of_kernels[name] = einsum(terms, x, g, dtype=static.dtype, out=out)
    return of_kernels, constants, carry, xs


_scan.defvjp(_forward, _backward)


@jax.custom_vjp
def _through(y, slot):
    """``y``, whose cotangent is also that of ``slot``."""
    del slot
    return y


_through.defvjp(lambda y, slot: (y, None), lambda _, g: (g, g))
