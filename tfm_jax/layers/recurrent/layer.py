"""One direction of one recurrent layer, and its dropout; a row may hold sentences."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from tfm_jax.layers.arch import REMATS
from tfm_jax.layers.linear import INITS, parameter
from tfm_jax.ops.dropout import dropout
from tfm_jax.ops.products import spread
from tfm_jax.ops.recurrence import CELLS, Cell, States, multiply, scan


def _orthogonal(key, shape, dtype=jnp.float32):
    """A matrix for each gate."""
    rows, columns = shape
    one = nn.initializers.orthogonal()
    keys = jax.random.split(key, columns // rows)
    return jnp.concatenate([one(k, (rows, rows), dtype) for k in keys], axis=1)


# initial kernels of the states before, given those of all other maps
RECURRENT_INITS = {
    "orthogonal": lambda init: _orthogonal,  # Saxe et al. 2014, arXiv:1312.6120
    "like_others": lambda init: init.kernel,
}

# whether a row is dropped alike in all its steps
DROPOUT_MASKS = {
    "per_step": False,  # Zaremba et al. 2014, arXiv:1409.2329
    "variational": True,  # Gal and Ghahramani 2016, arXiv:1512.05287
}


class Affine(nn.Module):
    """``Linear`` of one axis, whose arrays are there for products inside of a scan."""

    inputs: int
    outputs: int
    kernel_init: Callable
    bias_init: Callable | None = None  # None: no bias
    dtype: DTypeLike = jnp.float32

    def setup(self):
        shape, axes = (self.inputs, self.outputs), ("embed", "mlp")
        self.kernel = parameter(self, "kernel", self.kernel_init, shape, axes)
        self.bias = None
        if self.bias_init:
            size = (self.outputs,)
            self.bias = parameter(self, "bias", self.bias_init, size, ("mlp",))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., I] -> [..., O]."""
        return biased(multiply(x, self.kernel, self.dtype), self.bias)


def biased(x: jax.Array, bias: jax.Array | None) -> jax.Array:
    """``x`` + ``bias`` in the dtype of ``x``."""
    return x if bias is None else (x + bias).astype(x.dtype)


class RecurrentLayer(nn.Module):
    """One direction of one layer; ``cfg`` is of ``RecurrentArch``."""

    cfg: Any
    inputs: int

    def setup(self):
        cfg, cell = self.cfg, CELLS[self.cfg.cell]
        init, columns = INITS[cfg.init], cell.gates * cfg.width
        dtype = jnp.dtype(cfg.dtype)

        def bias(key, shape, dtype=jnp.float32):
            raised = jnp.repeat(
                jnp.array([cfg.forget_bias if n == "f" else 0.0 for n in cell.names]),
                cfg.width,
            )
            return init.bias(key, shape, dtype) + raised

        self.input = Affine(self.inputs, columns, init.kernel, bias, dtype)
        kernel = RECURRENT_INITS[cfg.recurrent_init](init)
        self.recurrent = Affine(cfg.width, columns, kernel, None, dtype)
        self.candidate_bias = None
        if cell.bias:
            self.candidate_bias = parameter(
                self, "candidate_bias", init.bias, (cfg.width,), ("mlp",)
            )

    def __call__(
        self, x: jax.Array, starts: jax.Array | None, *, reverse: bool
    ) -> States:
        """States behind every step.

        Args:
            x: [T, B, I]. starts: [T, B] bool, steps that follow none; None: the first.
            reverse: reads from the last step to the first.
        Returns: arrays [T, B, H], see ``Cell``.
        """
        cfg, cell = self.cfg, CELLS[self.cfg.cell]
        zeros = jnp.zeros((x.shape[1], cfg.width), x.dtype)
        return scan(
            functools.partial(_step, cell),
            {"recurrent": self.recurrent.kernel},
            spread_over_rows(self.candidate_bias, zeros.shape[:-1]),
            (zeros,) * cell.states,
            (self.input(x), starts),
            x.dtype,
            reverse=reverse,
            remat=REMATS[cfg.remat],
        )[1]


def spread_over_rows(parameters: Any, rows: tuple[int, ...]) -> Any:
    """A tree of vectors [D], or [1, D], as [*rows, D] each, for ``scan``."""
    return jax.tree.map(lambda x: spread(x, (*rows, x.shape[-1])), parameters)


def _step(cell, product, bias, states, x):
    gates, start = x
    if start is not None:
        states = reset(states, start, (0.0,) * cell.states)
    states = advance(cell, gates, product("recurrent", states[0]), bias, states)
    return states, states


def reset(states: States, start: jax.Array, initial: Any) -> States:
    """``initial`` in the rows [...] that ``start`` says, of states [..., H]."""
    pairs = zip(initial, states, strict=True)
    return tuple(jnp.where(start[..., None], new, old) for new, old in pairs)


def advance(
    cell: Cell,
    gates: jax.Array,
    recurrent: jax.Array,
    bias: jax.Array | None,
    states: States,
) -> States:
    """One step of ``cell`` in float32, in the dtype of ``states``."""
    wide = tuple(x.astype(jnp.float32) for x in states)
    new = cell.step(
        gates.astype(jnp.float32), recurrent.astype(jnp.float32), bias, wide
    )
    return tuple(x.astype(old.dtype) for x, old in zip(new, states, strict=True))


def starts(segments: jax.Array) -> jax.Array:
    """[T, B] bool, where a segment begins."""
    changes = segments[1:] != segments[:-1]
    return jnp.concatenate([jnp.ones_like(segments[:1], bool), changes])


def step_keys(module: nn.Module, steps: int, *, train: bool) -> jax.Array | None:
    """[T] keys for dropout in a module with a ``cfg``; None: nothing is dropped."""
    cfg = module.cfg
    if not train or cfg.dropout == 0.0:
        return None
    key, numbers = module.make_rng("dropout"), jnp.arange(steps)
    if DROPOUT_MASKS[cfg.dropout_mask]:
        numbers = jnp.zeros_like(numbers)
    return jax.vmap(lambda n: jax.random.fold_in(key, n))(numbers)


def drop(x: jax.Array, rate: float, keys: jax.Array | None) -> jax.Array:
    """Dropout of [T, B, D], by a key for each step; None: nothing is dropped."""
    if keys is None:
        return x
    return jax.vmap(lambda one, key: dropout(one, rate, key))(x, keys)
