"""Layer-wise: which parameters move, and how fast, by the paths they have."""

import re

import jax
import jax.numpy as jnp
import optax

from tfm_jax.config import ConfigError

_LAYER = re.compile(r"(.*?)/?layer_(\d+)/.*")
_SCANNED = re.compile(r"(.*?)/?layers/.*")
# first or second names of what lies below the first layer
_BELOW = re.compile(r"(\w+/)?(embedding|position|source_embedding|target_embedding)/.*")


def path_of(keys) -> str:
    """A path of ``jax.tree_util`` as "encoder/layer_0/ffn/up/kernel"."""
    return "/".join(str(key.key) for key in keys)


def frozen(pattern: str, params):
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
        paths = ", ".join(path_of(keys) for keys, _ in leaves[:3])
        raise ConfigError(f"freeze={pattern!r} matches {which} of {paths}, ...")
    return found


def hold(pattern: str, params):
    """``params``, through the frozen ones of which no gradient flows."""
    return jax.tree.map(
        lambda held, x: jax.lax.stop_gradient(x) if held else x,
        frozen(pattern, params),
        params,
    )


def parse(rates) -> list[tuple[re.Pattern, float]]:
    """("REGEX=FACTOR", ...) -> [(pattern, factor), ...].

    Raises: ValueError naming the entry that is none.
    """
    found = []
    for entry in rates:
        pattern, _, factor = entry.rpartition("=")
        try:
            found.append((re.compile(pattern), float(factor)))
        except (re.error, ValueError) as error:
            raise ValueError(f"optim.rates={entry!r}: {error}") from error
        if not pattern or not found[-1][1] >= 0.0:
            raise ValueError(f"optim.rates={entry!r}; expected REGEX=FACTOR, 0 or more")
    return found


def factors(decay: float, rates, params):
    """Tree of what the learning rate of each parameter is multiplied with.

    Of L layers the l-th, from 1, has decay^(L + 2 - l), embeddings decay^(L + 2) and
    heads 1; the first of ``rates`` that matches is multiplied to that.

    Source: Clark et al. 2020, arXiv:2003.10555, appendix B and the released code;
    Howard and Ruder 2018, arXiv:1801.06146, section 3.2, is decay 1 / 2.6.
    Deviates: what two stacks share, or lies above them, counts by the deeper one.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    depths = {}
    for keys, x in leaves:
        path = path_of(keys)
        if layer := _LAYER.fullmatch(path):
            depths[layer[1]] = max(depths.get(layer[1], 0), int(layer[2]) + 1)
        elif stack := _SCANNED.fullmatch(path):
            depths[stack[1]] = x.shape[0]
    deepest = max(depths.values(), default=0)
    patterns = parse(rates)

    def factor(keys, x):
        path = path_of(keys)
        chosen = next((f for p, f in patterns if p.search(path)), 1.0)
        if layer := _LAYER.fullmatch(path):
            return chosen * decay ** (depths[layer[1]] + 1 - int(layer[2]))
        if stack := _SCANNED.fullmatch(path):
            count = depths[stack[1]]
            of_each = chosen * decay ** (
                count + 1 - jnp.arange(count, dtype=jnp.float32)
            )
            return of_each.reshape(-1, *(1,) * (x.ndim - 1))
        return chosen * (decay ** (deepest + 2) if _BELOW.fullmatch(path) else 1.0)

    return jax.tree_util.tree_map_with_path(factor, params)


def scale(decay: float, rates) -> optax.GradientTransformation:
    """Multiplies updates with ``factors``."""
    return optax.stateless(
        lambda updates, params: jax.tree.map(
            lambda u, f: u * f, updates, factors(decay, rates, updates)
        )
    )
