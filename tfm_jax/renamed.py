"""Renamed: knobs whose name, or names of values, were others in runs of before.

Within their section, so that old and new are told apart by the last word.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tfm_jax.knobs import ConfigError


class Name(NamedTuple):
    """Dotted name of a knob, and what its values are called there if otherwise."""

    knob: str
    values: Mapping[str, str] = {}


NOW = {  # name of before -> that of now
    "optim.rates": Name("optim.lr_multipliers"),
    "data.masking.share": Name("data.masking.mask_rate"),
    "mesh.exchange": Name(
        "mesh.gradient_allreduce", {"arrays": "per_array", "flat": "fused"}
    ),
}
BEFORE = {
    now.knob: Name(before, {new: old for old, new in now.values.items()})
    for before, now in NOW.items()
}
_VARIANT_KNOB = re.compile(r"(?<=[:;])[\w.]+(?==)")  # of eval.variants


def modern(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, nested or of dotted knobs, in the names of now.

    Raises: ConfigError if it has a knob under both names.
    """
    return _spelled(config, NOW)


def former(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same in the names of before, which identities of runs are made of."""
    return _spelled(config, BEFORE)


def hint(name: str, names: Iterable[str]) -> str:
    """``; it is called 'NAME' now`` of a knob of before, if ``names`` have it.

    Args: name, names: dotted, all from the same section on.
    """
    for before, now in NOW.items():
        new = now.knob.removeprefix(before.removesuffix(name))
        if f".{before}".endswith(f".{name}") and new in names:
            return f"; it is called {new!r} now"
    return ""


def _spelled(config, names, prefix=""):
    spelled = {}
    for name, value in config.items():
        knob = f"{prefix}{name}"
        if isinstance(value, Mapping):
            value = _spelled(value, names, f"{knob}.")
        elif knob in names:
            other = names[knob].knob.removeprefix(prefix)
            if other in config:
                raise ConfigError(
                    f"{knob} is called {prefix}{other} now, which is set too; take one"
                )
            name = other
            if isinstance(value, str):
                value = names[knob].values.get(value, value)
        elif knob == "eval.variants" and isinstance(value, tuple | list):
            value = type(value)(_variant(entry, names) for entry in value)
        spelled[name] = value
    return spelled


def _variant(entry, names):
    def spelled(knob):
        data = f"data.{knob[0]}"
        return (names[data].knob if data in names else data).removeprefix("data.")

    return _VARIANT_KNOB.sub(spelled, entry) if isinstance(entry, str) else entry
