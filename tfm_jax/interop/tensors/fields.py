"""Fields of a foreign ``config.json``: of the type and the size that a model can have.

Sizes are bounded so that no file makes us trace thousands of layers before its tensors
are looked at.
"""

import dataclasses
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from tfm_jax.config import element_of, roles_of, types_of
from tfm_jax.interop.problems import cut, listed

MOST = 2**24  # of a size
LAYERS = 256  # of a depth, whatever it is called here
ACTIVATIONS = {  # ours -> transformers' names for it; the first is written
    "relu": ("relu",),
    "gelu": ("gelu", "gelu_python"),
    "gelu_tanh": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast"),
    "silu": ("silu", "swish"),
    "squared_relu": ("relu2",),
}


def of_tensors(cls: type) -> list[str]:
    """Fields of the dataclass ``cls`` that a folder must say.

    Initial values and execution change neither names nor values of its tensors. Dropout
    does not either, but a model that is trained on elsewhere has it from the folder.
    """
    roles = roles_of(cls).items()
    return [name for name, role in roles if role not in ("initial", "execution")]


def check(values: Mapping, cls: type, theirs: Mapping[str, Iterable[str]]) -> None:
    """Checks the fields that become fields of the dataclass ``cls``.

    Args: theirs: field of ``cls``, dotted in a section -> what the file calls it.
    Raises: ValueError listing every value of another type or size.
    """
    types = types_of(cls)
    problems = []
    for ours, called in theirs.items():
        for name in called:
            wanted = _wrong(types[ours], values[name], ours)
            if wanted:
                problems.append(f"{name}={cut(repr(values[name]))} must be {wanted}")
    refuse(problems)


def _wrong(expected, value, ours):
    """What ``value`` must be; "" if it is that."""
    if expected is bool:
        return "" if type(value) is bool else "true or false"
    if element := element_of(expected):
        some = value if isinstance(value, list) else [value]
        wrong = next(filter(None, (_wrong(element, x, ours) for x in some)), "")
        return wrong and f"{wrong}, or a list of such"
    if expected is float:
        fits = type(value) in (int, float) and 0 <= value <= sys.float_info.max
        return "" if fits else "a number, not negative"
    most = LAYERS if ours.endswith("depth") else MOST
    fits = type(value) is int and 1 <= value <= most
    return "" if fits else f"an integer in 1 .. {most:,}"


def fixed(values: Mapping, expected: Mapping) -> list[str]:
    """Problems with fields that have one value here; one that is absent has it."""
    return [
        f"{name}={cut(repr(values[name]))} must be {wanted!r}"
        for name, wanted in expected.items()
        if values.get(name, wanted) != wanted
    ]


def fixed_type(values: Mapping, name: str, kind: type) -> list[str]:
    """The problem with a field that is no ``kind``, or no positive one."""
    wanted = _wrong(kind, values[name], "")
    return [f"{name}={cut(repr(values[name]))} must be {wanted}"] if wanted else []


def chosen(
    values: Mapping, name: str, choices: Mapping[str, str], problems: list[str]
) -> str:
    """Ours for the word that a field holds; appends to ``problems`` if it is none."""
    value = values.get(name)
    if not isinstance(value, str) or value not in choices:
        legal = ", ".join(choices)
        problems.append(f"{name}={cut(repr(value))}; choose from ({legal})")
        return ""
    return choices[value]


def architecture(values: Mapping) -> str:
    """The class that the file names first; "" if it names none. Raises: ValueError."""
    named = values.get("architectures") or [""]
    if not isinstance(named, list) or not isinstance(named[0], str):
        raise ValueError(f"architectures={cut(repr(named))} must be a list of names")
    return named[0]


def inverse(table: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Theirs -> ours, of ours -> several of theirs."""
    return {name: ours for ours, theirs in table.items() for name in theirs}


def head_sizes(cfg: Any) -> list[str]:
    """The problem with heads that do not divide the width among them."""
    sizes = {cfg.head_key_size * cfg.heads, cfg.head_value_size * cfg.heads}
    wrong = sizes != {cfg.width}
    return ["model.key_size and model.value_size must be width / heads"] * wrong


def refuse(problems: list[str], source: str = "config.json") -> None:
    """Raises: ValueError if there are any. Args: source: what has no counterpart."""
    if problems:
        raise ValueError(f"{source} has no counterpart: {listed(problems)}")


def typed(cls: type, values: Mapping) -> dict:
    """``values`` with floats and tuples where ``cls`` has them."""
    types = types_of(cls)

    def of_type(expected, x):
        if element := element_of(expected):
            some = x if isinstance(x, list | tuple) else [x]
            return tuple(of_type(element, each) for each in some)
        return float(x) if expected is float else x

    return {name: of_type(types[name], x) for name, x in values.items()}


def written(value: Any) -> Any:
    """A field's value for a file, where one number stands for several equal ones."""
    if not isinstance(value, tuple):
        return value
    return value[0] if len(value) == 1 else [*value]


def complete(cls: type, values: Mapping) -> dict:
    """All fields of ``cls``: its defaults, and ``values``."""
    return dataclasses.asdict(cls()) | typed(cls, values)
