"""The command line: flags that mean one thing, and knobs that there are."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tfm_jax.flags.values import from_flag
from tfm_jax.knobs import ConfigError, flatten, nearest
from tfm_jax.renamed import hint

_FLAG = re.compile(r"--?(?P<name>[a-z_]\w*(\.[A-Za-z_]\w*)*)(=(?P<value>.*))?", re.S)


def check_argv(argv: Iterable[str]) -> list[str]:
    """The arguments as ``--name=value``, once what would be misread is refused.

    Raises:
        ConfigError: for a repeated flag, a flag without value, a positional argument.
    """
    result, seen = [], set()
    arguments = iter(argv)
    for argument in arguments:
        flag = _FLAG.fullmatch(argument)
        if not flag:
            raise ConfigError(f"{argument!r} is not understood; write --name=value")
        name, value = flag["name"], flag["value"]
        if name in ("flagfile", "undefok") or name.startswith("noconfig."):
            raise ConfigError(f"{argument} is not supported; write --name=value")
        if value is None:
            value = next(arguments, "-")
            if value.startswith("-"):
                raise ConfigError(f"--{name} has no value; write --{name}=value")
        if name in seen:
            raise ConfigError(f"--{name} is given twice; which one is meant?")
        seen.add(name)
        result.append(f"--{name}={value}")
    return result


def check_overrides(
    argv: Iterable[str],
    config: Mapping[str, Any],
    types: Mapping[str, Any] | None = None,
    *,
    prefix: str = "--config.",
    several: bool = False,
) -> dict[str, Any]:
    """Knob -> value of the ``--config.KNOB=VALUE`` flags in ``check_argv`` output.

    Args:
        config: nested, with a value for each knob.
        types: knob -> type that its dataclass declares; one that is not there has the
            type of its value in ``config``, and an empty tuple is one of strings.
        prefix: what stands before a knob. several: each flag gives a tuple of values.

    Raises:
        ConfigError: for a flag that names no knob, or a whole section, and for a value
            that is not of the knob's type.
    """
    types = {knob: _type_of(x) for knob, x in flatten(config)} | dict(types or {})
    values = {}
    for argument in argv:
        flag, _, text = argument.partition("=")
        knob = flag.removeprefix(prefix)
        if knob == flag:
            continue
        if knob not in types:
            if any(other.startswith(f"{knob}.") for other in types):
                raise ConfigError(
                    f"{argument} would replace the whole section; "
                    f"set its knobs one by one: {flag}.knob=value"
                )
            instead = hint(knob, types) or _nearest_knob(knob, types)
            raise ConfigError(f"{argument}: there is no knob {knob!r}{instead}")
        expected: Any = types[knob]
        if several:
            expected = tuple[expected, ...]
        values[knob] = from_flag(text, expected, flag)
    return values


def _type_of(value):
    if isinstance(value, tuple | list):
        return tuple[_type_of(value[0]) if value else str, ...]
    return type(value)


def _nearest_knob(knob: str, knobs: Iterable[str]) -> str:
    """A hint by the last word, which may be a part of a name or in another section."""
    word = knob.rpartition(".")[2]
    leaves = {other: other.rpartition(".")[2] for other in knobs}
    near = [leaf for leaf in leaves.values() if word in leaf.split("_")]
    near = near or difflib.get_close_matches(word, leaves.values(), 1)
    same = [other for other, leaf in leaves.items() if leaf in near]
    return nearest(knob, same, cutoff=0.0)
