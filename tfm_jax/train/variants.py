"""Variants: a data section with some knobs changed, for one more evaluation."""

import dataclasses
from typing import Any

from tfm_jax.config import ConfigError, build

_READ = {
    bool: {"true": True, "false": False}.__getitem__,
    int: int,
    float: float,
    str: str,
}


def read(entries, data) -> dict[str, Any]:
    """Sections like ``data`` by name.

    Args: entries: each ``NAME:KNOB=VALUE;KNOB=VALUE``, such as ``sop:pairs.kind=sop``.
    Raises: ConfigError naming the entry and what is wrong with it.
    """
    found = {}
    for entry in entries:
        name, _, text = entry.partition(":")
        try:
            if not name.isidentifier() or name in ("train", "valid", "test", *found):
                raise ConfigError(f"{name!r} is no new name")
            section = dataclasses.asdict(data)
            for part in text.split(";"):
                _set(section, *part.partition("=")[::2])
            found[name] = build(type(data), section, "data")
        except ConfigError as error:
            raise ConfigError(f"eval.variants={entry!r}: {error}") from error
    return found


def _set(section, knob, text):
    *outer, last = knob.split(".")
    for name in outer:
        section = section.get(name)
        if not isinstance(section, dict):
            raise ConfigError(f"data.{knob}: there is no such knob")
    old = section.get(last)
    if type(old) not in _READ:
        raise ConfigError(f"data.{knob}: there is no such knob, or it cannot vary")
    try:
        section[last] = _READ[type(old)](text)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"data.{knob}={text!r} is no {type(old).__name__}") from error
