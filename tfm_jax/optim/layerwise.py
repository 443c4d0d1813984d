"""Layer-wise: which parameters move, and how fast, by the paths they have."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tfm_jax.config import ConfigError

_LAYER = re.compile(r"(.*?)/?layer_(\d+)/.*")
_SCANNED = re.compile(r"(.*?)/?layers(?:_(\d+)_of_(\d+))?/.*")


def path_of(keys: Sequence[Any]) -> str:
    """A path of ``jax.tree_util`` as "encoder/layer_0/ffn/up/kernel"."""
    return "/".join(str(key.key) for key in keys)


def frozen(pattern: str, params: optax.Params) -> Any:
    """Tree of bool: whether ``pattern`` has a match in the path of a parameter.

    Raises: ConfigError if that is true of all or of none.
    """
    found = jax.tree_util.tree_map_with_path(
        lambda keys, _: bool(pattern) and bool(re.search(pattern, path_of(keys))),
        params,
    )
    if pattern and len(set(jax.tree.leaves(found))) < 2:
        which = "every parameter" if all(jax.tree.leaves(found)) else "none"
        leaves = jax.tree_util.tree_leaves_with_path(params)
        first = {str(keys[0].key): path_of(keys) for keys, _ in reversed(leaves)}
        paths = ", ".join(reversed(first.values()))
        raise ConfigError(f"freeze={pattern!r} matches {which} of {paths}, ...")
    return found


def hold(pattern: str, params: optax.Params) -> optax.Params:
    """``params``, through the frozen ones of which no gradient flows."""
    return jax.tree.map(
        lambda held, x: jax.lax.stop_gradient(x) if held else x,
        frozen(pattern, params),
        params,
    )


def parse(multipliers: Sequence[str]) -> list[tuple[re.Pattern, float]]:
    """("REGEX=FACTOR", ...) -> [(pattern, factor), ...].

    Raises: ValueError naming the entry that is none.
    """
    found = []
    for entry in multipliers:
        pattern, _, factor = entry.rpartition("=")
        try:
            found.append((re.compile(pattern), float(factor)))
        except (re.error, ValueError) as error:
            message = f"optim.lr_multipliers={entry!r}; expected REGEX=FACTOR: {error}"
            raise ValueError(message) from error
        if not pattern or not found[-1][1] >= 0.0:
            raise ValueError(
                f"optim.lr_multipliers={entry!r}; expected REGEX=FACTOR, 0 or more"
            )
    return found


def each_layer(function: Callable, tree: Any, *rest: Any) -> Any:
    """``function(x, ...)`` of all leaves; those of scanned layers layer by layer."""

    def of_leaf(keys, *leaves):
        scanned = _SCANNED.fullmatch(path_of(keys))
        return (jax.vmap(function) if scanned else function)(*leaves)

    return jax.tree_util.tree_map_with_path(of_leaf, tree, *rest)


def by_layer(
    transformation: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """A stateless transformation of whole arrays, the same in both layouts."""

    def update(updates, params):
        def of_one(u, p):
            return transformation.update(u, optax.EmptyState(), p)[0]

        return each_layer(of_one, updates, params)

    return optax.stateless(update)


def factors(
    decay: float,
    multipliers: Sequence[str],
    params: optax.Params,
    *,
    below: Sequence[str] = (),
    above: Sequence[str] = (),
) -> Any:
    """Tree of what the learning rate of each parameter is multiplied with.

    Of L layers the l-th, from 1, has decay^(L + 2 - l), embeddings decay^(L + 2) and
    heads 1; the first of ``multipliers`` that matches is multiplied to that.

    Source: Clark et al. 2020, arXiv:2003.10555, appendix B and the released code;
    Howard and Ruder 2018, arXiv:1801.06146, section 3.2, is decay 1 / 2.6.
    Deviates: what two stacks share, or lies above them, counts by the deeper one.
    Args: below, above: first names of the paths of parameters below the first layer and
        above the last, such as "encoder/embedding".
    Raises: ConfigError for an entry of ``multipliers`` that matches no parameter, and
        for a parameter that lies neither in a layer nor ``below`` or ``above`` them if
        ``decay`` is not 1.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    paths = [path_of(keys) for keys, _ in leaves]
    depths: dict[str, int] = {}
    for path, (_, x) in zip(paths, leaves, strict=True):
        if layer := _LAYER.fullmatch(path):
            depths[layer[1]] = max(depths.get(layer[1], 0), int(layer[2]) + 1)
        elif stack := _SCANNED.fullmatch(path):
            depths[stack[1]] = x.shape[0] * int(stack[3] or 1)
    deepest = max(depths.values(), default=0)
    patterns = parse(multipliers)
    for entry, (pattern, _) in zip(multipliers, patterns, strict=True):
        if not any(map(pattern.search, paths)):
            raise ConfigError(
                f"optim.lr_multipliers={entry!r} matches none of "
                f"{', '.join(paths[:3])}, ..."
            )

    def factor(keys, x):
        path = path_of(keys)
        chosen = next((f for p, f in patterns if p.search(path)), 1.0)
        if decay == 1.0:
            return chosen
        if layer := _LAYER.fullmatch(path):
            return chosen * decay ** (depths[layer[1]] + 1 - int(layer[2]))
        if stack := _SCANNED.fullmatch(path):
            depth, first, period = depths[stack[1]], stack[2] or 0, stack[3] or 1
            layers = jnp.arange(int(first), depth, int(period), dtype=jnp.float32)
            of_each = chosen * decay ** (depth + 1 - layers)
            return of_each.reshape(-1, *(1,) * (x.ndim - 1))
        if _under(path, below):
            return chosen * decay ** (deepest + 2)
        if not _under(path, above):
            raise ConfigError(
                f"optim.layer_decay={decay}: {path} lies in no layer, and its family "
                f"names it neither below them ({', '.join(below)}) nor above "
                f"({', '.join(above)})"
            )
        return chosen

    return jax.tree_util.tree_map_with_path(factor, params)


def _under(path, names):
    return any(f"{path}/".startswith(f"{name}/") for name in names)


def scale(
    decay: float, multipliers: Sequence[str], **outside: Sequence[str]
) -> optax.GradientTransformation:
    """Multiplies updates with ``factors``.

    Args: outside: ``below`` and ``above``.
    """

    def init(params):
        # what is wrong is said before the first step
        factors(decay, multipliers, params, **outside)
        return optax.EmptyState()

    def update(updates, state, params=None):
        del params
        found = factors(decay, multipliers, updates, **outside)
        return jax.tree.map(jnp.multiply, updates, found), state

    return optax.GradientTransformation(init, update)
