"""From our parameters to another library's tensors and back, none left over."""

import functools
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from tfm_jax.interop.problems import listed
from tfm_jax.layers.layout import abstract


class Stored(NamedTuple):
    """How another library stores one of our parameters.

    Attributes:
        names: it is written under the first and read under any of them; where a file
            has several, they must agree.
        shape: theirs. ours: the shape here.
        order: the axes of theirs in the order of ours; (): the same.
        part: (k, n): ours is the k-th of n equal parts of theirs along its last axis,
            in the order of ours.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    ours: tuple[int, ...]
    order: tuple[int, ...] = ()
    part: tuple[int, int] | None = None


def stored(names: Any, path: str, ours: Any, *, transposed: bool = True) -> Stored:
    """A parameter at ``path``: tables as they are here, affine maps as matrices.

    Kernels [h, w, in, out] of patches are [out, in, h, w] there.

    Args: names: see ``Stored``. ours: its shape. transposed: of matrices.
    """
    if path.endswith("table"):
        return Stored(names, ours, ours)
    if not path.endswith("kernel"):
        return Stored(names, (math.prod(ours),), ours)
    if len(ours) == 4:
        order = (2, 3, 1, 0)
        theirs = tuple(ours[order.index(axis)] for axis in range(4))
        return Stored(names, theirs, ours, order)
    inputs = 2 if path.endswith("attention/out/kernel") else 1  # [H, K] are contracted
    matrix = math.prod(ours[:inputs]), math.prod(ours[inputs:])
    if transposed:
        return Stored(names, matrix[::-1], ours, (1, 0))
    return Stored(names, matrix, ours)


@functools.lru_cache(maxsize=16)  # of a folder they are asked for several times
def shapes(
    model: nn.Module, example: Callable[[], Any]
) -> Mapping[str, tuple[int, ...]]:
    """Path of each parameter of ``model`` to its shape; nothing is computed.

    Args: example: () -> a batch that the model reads.
    """
    flat = flatten_dict(abstract(model, example()).params, sep="/").items()
    return MappingProxyType({path: leaf.shape for path, leaf in flat})


def to_params(table: Mapping[str, Stored], tensors: Mapping[str, np.ndarray]) -> dict:
    """Nested dict of float32 parameters; narrower floats are widened.

    Raises: ValueError listing every tensor that is unknown, missing, of another shape,
        not floating, not finite, or different from its copy.
    """
    problems, params = [], {}
    for path, stored in table.items():
        present = [name for name in stored.names if name in tensors]
        if not present:
            problems.append(f"{stored.names[0]} is missing")
        wrong = [line for n in present for line in _wrong(n, tensors[n], stored.shape)]
        problems += wrong
        if not present or wrong:
            continue
        first, *copies = present
        x = np.asarray(tensors[first], np.float32)
        if not np.isfinite(x).all():
            problems.append(f"{first} has numbers that are not finite")
        for copy in copies:
            if not np.array_equal(x, np.asarray(tensors[copy], np.float32)):
                problems.append(f"{copy} differs from {first}, with which it is tied")
        x = x.transpose(stored.order) if stored.order else x
        if stored.part:
            x = np.split(x, stored.part[1], axis=-1)[stored.part[0]]
        params[path] = x.reshape(stored.ours)
    known = {name for stored in table.values() for name in stored.names}
    problems += [f"{name} is unknown" for name in sorted(set(tensors) - known)]
    _refuse(problems)
    return unflatten_dict(params, sep="/")


def to_tensors(table: Mapping[str, Stored], params: Any) -> dict[str, np.ndarray]:
    """The inverse of ``to_params``: float32 tensors under their first names.

    Raises: ValueError listing every parameter unknown, missing or of another shape.
    """
    flat = flatten_dict(params, sep="/")
    problems = [
        f"parameter {path} is unknown" for path in sorted(set(flat) - set(table))
    ]
    tensors: dict[str, np.ndarray] = {}
    parts: dict[str, Any] = {}
    for path, stored in table.items():
        if path not in flat:
            problems.append(f"parameter {path} is missing")
            continue
        x = np.asarray(flat[path])
        wrong = list(_wrong(f"parameter {path}", x, stored.ours))
        problems += wrong
        if not wrong:
            name, order = stored.names[0], stored.order or range(len(stored.shape))
            *rows, columns = (stored.shape[axis] for axis in order)
            k, n = stored.part or (0, 1)
            pieces = parts.setdefault(name, {})
            pieces[k] = x.astype(np.float32).reshape(*rows, columns // n)
            if len(pieces) == n:
                whole = np.concatenate([pieces[k] for k in range(n)], axis=-1)
                tensors[name] = whole.transpose(np.argsort(order))
    _refuse(problems)
    return tensors


def _wrong(name, x, shape):
    if x.shape != shape:
        yield f"{name} has shape {x.shape}, not {shape}"
    if not jnp.issubdtype(x.dtype, jnp.floating):
        yield f"{name} has dtype {x.dtype}, which is not floating"


def _refuse(problems):
    if problems:
        raise ValueError(f"the checkpoint does not fit: {listed(problems)}")
