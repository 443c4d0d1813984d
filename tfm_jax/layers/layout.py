"""Stored layouts of a stack: a subtree a layer, or one with a leading axis L."""

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

_LAYER = re.compile(r"layer_(\d+)")


def to_scanned(params: dict[str, Any]) -> dict[str, Any]:
    """``{layer_0: ..., layer_1: ...}`` anywhere in it -> ``{layers: [L, ...]}``."""
    if not isinstance(params, dict):
        return params
    numbered = {int(m[1]): params[k] for k in params if (m := _LAYER.fullmatch(k))}
    rest = {k: to_scanned(v) for k, v in params.items() if not _LAYER.fullmatch(k)}
    if numbered:
        layers = [numbered[i] for i in range(len(numbered))]
        rest["layers"] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
    return rest


def to_unrolled(params: dict[str, Any]) -> dict[str, Any]:
    """The inverse of ``to_scanned``."""
    if not isinstance(params, dict):
        return params
    unrolled = {k: to_unrolled(v) for k, v in params.items() if k != "layers"}
    if "layers" in params:
        depth = jax.tree.leaves(params["layers"])[0].shape[0]
        for i in range(depth):
            unrolled[f"layer_{i}"] = jax.tree.map(lambda x, i=i: x[i], params["layers"])
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


def logical_specs(model: nn.Module, *inputs: Any) -> dict[str, Any]:
    """Tree of ``PartitionSpec`` over logical axis names, one leaf a parameter."""
    init = functools.partial(_initial(model).init, train=False)
    boxed = jax.eval_shape(lambda: init(jax.random.key(0), *inputs))
    return nn.get_partition_spec(boxed)["params"]


def _initial(model, **changes):
    """``model`` for its parameters, which no kernel need run for."""
    cfg = dataclasses.replace(model.cfg, attention="xla", **changes)
    return model.clone(cfg=cfg)
