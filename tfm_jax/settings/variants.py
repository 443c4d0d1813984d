"""Variants: a data section with some knobs changed, for one more evaluation."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from tfm_jax.config import ConfigError, build, from_flag, nearest, types_of

# what results.json has besides variants, and tables of results
RESERVED = (
    *("train", "valid", "test", "step", "memory_bytes", "stopped"),
    *("parameters", "conditions", "probe", "curves"),
)


def read(entries: Sequence[str], data: Any) -> dict[str, Any]:
    """Sections like ``data`` by name.

    Args: entries: each ``NAME:KNOB=VALUE;KNOB=VALUE``, such as ``sop:pairs.kind=sop``.
    Raises: ConfigError naming the entry and what is wrong with it.
    """
    found: dict[str, Any] = {}
    for entry in entries:
        name, _, text = entry.partition(":")
        try:
            if not name.isidentifier() or name in (*RESERVED, *found):
                raise ConfigError(f"{name!r} is no new name")
            section, said = dataclasses.asdict(data), set()
            for part in text.split(";"):
                knob, is_set, value = part.partition("=")
                if not is_set:
                    raise ConfigError("write NAME:KNOB=VALUE;KNOB=VALUE")
                if knob in said:
                    raise ConfigError(
                        f"data.{knob} is given twice; which one is meant?"
                    )
                said.add(knob)
                _set(section, types_of(type(data)), knob, value)
            found[name] = build(type(data), section, "data")
        except ConfigError as error:
            raise ConfigError(f"eval.variants={entry!r}: {error}") from error
    return found


def _set(section, types, knob, text):
    if knob not in types:
        raise ConfigError(f"data.{knob}: there is no such knob{nearest(knob, types)}")
    *outer, last = knob.split(".")
    for name in outer:
        section = section[name]
    section[last] = from_flag(text, types[knob], f"data.{knob}")
