"""GPT-Neo's kinds of attention, global and local, as windows of our layers."""

from tfm_jax.interop import fields
from tfm_jax.interop.problems import cut


def read(values: dict) -> dict:
    """Our field ``windows``. Raises: ValueError if it is none."""
    fields.refuse(fields.fixed_type(values, "window_size", int))
    sizes = {"global": 0, "local": values["window_size"]}
    kinds = _layer_kinds(values["attention_types"], values["num_layers"])
    if kinds is None or len(kinds) != values["num_layers"] or {*kinds} - {*sizes}:
        raise ValueError(
            f"attention_types={cut(values['attention_types'])} must name 'global' or "
            f"'local' for num_layers={values['num_layers']} layers"
        )
    found = tuple(sizes[kind] for kind in kinds)
    for period in range(1, len(found) + 1):
        cycled = found[:period] * len(found)
        if cycled[: len(found)] == found:
            return {"windows": found[:period] if any(found) else ()}
    raise AssertionError("a sequence is its own period")


def _layer_kinds(repeated, most):
    """The words of [[words, times], ...]; None if it is something else."""
    kinds = []
    for pair in repeated if isinstance(repeated, list) else [None]:
        words, times = pair if isinstance(pair, list) and len(pair) == 2 else (0, 0)
        named = isinstance(words, list) and all(isinstance(x, str) for x in words)
        if not named or type(times) is not int or not 0 <= times <= most:
            return None
        kinds += words[:most] * times
        if len(kinds) > most:
            return None
    return kinds


def write(cfg) -> dict:
    """The inverse of ``read``. Raises: ValueError for windows of several sizes."""
    windows = [cfg.window(layer) for layer in range(cfg.depth)]
    sizes = {w for w in windows if w}
    if len(sizes) > 1:
        raise ValueError(f"model.windows={cfg.windows} must have one size beside 0")
    period = len(cfg.windows) or 1
    repeats = cfg.depth // period if cfg.depth % period == 0 else 1
    kinds = ["local" if w else "global" for w in windows[: cfg.depth // repeats]]
    return {
        "attention_types": [[kinds, repeats]],
        "window_size": max(sizes, default=256),
    }
