"""Stored layouts of a stack: a subtree a layer, or one with a leading axis L.

Where layers differ, and repeat with a period of n, the second layout has n subtrees:
that of layer i holds layers i, i + n, i + 2 n, ...
"""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core.meta import map_axis_meta

_LAYER = re.compile(r"layer_(\d+)")
_SCANNED = re.compile(r"layers(?:_(\d+)_of_(\d+))?")


def _period(layers: Sequence[Any]) -> int:
    """The smallest n at which ``layers`` repeat, a divisor of their number."""
    depth = len(layers)
    return next(
        n
        for n in range(1, depth + 1)
        if depth % n == 0 and list(layers) == list(layers[:n]) * (depth // n)
    )


def _scanned_names(layers: Sequence[Any]) -> list[str]:
    n = _period(layers)
    return ["layers"] if n == 1 else [f"layers_{i}_of_{n}" for i in range(n)]


# layers that can be compared -> names of the subtrees that hold them
NAMES = {
    "unrolled": lambda layers: [f"layer_{i}" for i in range(len(layers))],
    "scanned": _scanned_names,
}


def to_scanned(params: dict[str, Any]) -> dict[str, Any]:
    """``{layer_0: ..., layer_1: ...}`` anywhere in it -> ``{layers: [L, ...]}``.

    Layers count as equal if their trees of parameters are.
    """
    if not isinstance(params, dict):
        return params
    numbered = {int(m[1]): params[k] for k in params if (m := _LAYER.fullmatch(k))}
    rest = {k: to_scanned(v) for k, v in params.items() if not _LAYER.fullmatch(k)}
    if numbered:
        layers = [numbered[i] for i in range(len(numbered))]
        names = NAMES["scanned"](list(map(jax.tree.structure, layers)))
        for i, name in enumerate(names):
            alike = layers[i :: len(names)]
            rest[name] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alike)
    return rest


def to_unrolled(params: dict[str, Any]) -> dict[str, Any]:
    """The inverse of ``to_scanned``."""
    if not isinstance(params, dict):
        return params
    scanned = {k: m for k in params if (m := _SCANNED.fullmatch(k))}
    unrolled = {k: to_unrolled(v) for k, v in params.items() if k not in scanned}
    for k, match in scanned.items():
        first, period = int(match[1] or 0), int(match[2] or 1)
        for i in range(jax.tree.leaves(params[k])[0].shape[0]):
            layer = jax.tree.map(lambda x, i=i: x[i], params[k])
            unrolled[f"layer_{first + i * period}"] = layer
    return unrolled


def init_params(model: nn.Module, rng: jax.Array, *inputs: Any) -> dict[str, Any]:
    """Parameters of ``model``, whose initial values do not depend on its layout.

    Args:
        model: a module with a ``cfg`` that has a ``layout``.
        rng: JAX key. inputs: example arguments of its call; only shapes matter.
    Returns: nested dict of float32 arrays.
    """
    plain = _initial(model, layout="unrolled")
    params = nn.unbox(plain.init(rng, *inputs, train=False))["params"]
    return to_scanned(params) if model.cfg.layout == "scanned" else params


class Abstract(NamedTuple):
    """Parameters that are not drawn.

    Attributes:
        params: shape and dtype of each.
        specs: ``PartitionSpec`` of each over logical axis names.
    """

    params: dict[str, Any]
    specs: dict[str, Any]


def abstract(model: nn.Module, *inputs: Any) -> Abstract:
    """What ``init_params`` would make, by one trace."""
    init = functools.partial(_initial(model).init, train=False)
    boxed = jax.eval_shape(lambda: init(jax.random.key(0), *inputs))

    def opened(box: Any) -> Any:
        return box.unbox(apply_constraint=False)

    shapes = map_axis_meta(opened, boxed)
    return Abstract(shapes["params"], nn.get_partition_spec(boxed)["params"])


def _initial(model, **changes):
    """``model`` for its parameters, which no kernel need run for."""
    cfg = dataclasses.replace(model.cfg, attention="xla", **changes)
    return model.clone(cfg=cfg)
