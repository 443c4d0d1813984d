"""Starts: the paths that ``init_from`` names, one or one for each part of a model."""

import re
from collections.abc import Collection
from os.path import expanduser

from tfm_jax.config import ConfigError, from_flag, no_choice, to_flag


def sources(init_from: str, parts: Collection[str]) -> dict[str, str]:
    """Part of the model -> path of what it starts from; "" is the whole of it.

    ``lm=PATH,vision=PATH`` names several; a path with a comma stands in quotes, with
    its name: ``'lm=a,b',vision=c``.

    Args: parts: those that the family's models have.
    Raises: ConfigError for a part that there is not, one without path and one twice.
    """
    if not init_from:
        return {}
    if not parts or not re.match(r"[\s'\"]*\w+=", init_from):
        return {"": init_from}
    paths: dict[str, str] = {}
    for item in from_flag(init_from, tuple[str, ...], "init_from"):
        name, _, path = item.partition("=")
        if name not in parts:
            message = no_choice("part", name, tuple(parts))
            raise ConfigError(f"init_from={init_from}: {message}")
        if not path or name in paths:
            wrong = "is named twice" if name in paths else "names no run"
            raise ConfigError(
                f"init_from={init_from}: {name} {wrong}; write {name}=PATH once"
            )
        paths[name] = path
    return paths


def at_home(init_from: str, parts: Collection[str]) -> str:
    """The same with ``~`` of each path spelled out."""
    paths = sources(init_from, parts)
    if "~" not in init_from or "" in paths:
        return expanduser(init_from)
    return to_flag(tuple(f"{name}={expanduser(x)}" for name, x in paths.items()))
