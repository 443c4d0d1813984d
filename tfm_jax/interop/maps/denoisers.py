"""DenoiserMap: how one class of diffusers is read and written."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax import linen as nn

from tfm_jax.data.batch import NoisyBatch
from tfm_jax.interop.problems import cut
from tfm_jax.interop.tensors import fields, storage
from tfm_jax.layers.layout import to_unrolled

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "table": "weight"}


def _example():
    return NoisyBatch(np.zeros(1), np.zeros(1))


def integers(
    values: Mapping[str, Any], name: str, problems: list[str]
) -> tuple[int, ...]:
    """Those that a field holds, one or a list.

    Appends to ``problems`` if it holds something else, and returns a 1.
    """
    held = values.get(name)
    several = held if isinstance(held, list) else [held]
    if several and all(type(x) is int and 0 < x < fields.MOST for x in several):
        return tuple(several)
    problems.append(f"{name}={cut(repr(held))} must be positive integers")
    return (1,)


@dataclasses.dataclass(frozen=True)
class DenoiserMap:
    """A class; a module of this package ends in its own, as ``DIFFUSERS``.

    Attributes:
        class_name: theirs. config, model: ours.
        read_config: content of a ``config.json`` -> our configuration; ValueError
            listing every field that has no counterpart here.
        write_config: the inverse; ValueError for what diffusers cannot represent.
        place: (cfg, path of one of our parameters, its shape) -> its place there.
        as_published: gives their model what the code that published the architecture
            has in other ways than they; returns what that is, in words.
    """

    class_name: str
    config: type
    model: type[nn.Module]
    read_config: Callable[[Mapping[str, Any]], Any]
    write_config: Callable[[Any], dict[str, Any]]
    place: Callable[..., storage.Stored]
    as_published: Callable[[Any], str] = lambda model: ""

    def table(self, cfg: Any) -> dict[str, storage.Stored]:
        """Path of each parameter of a model to its place in the reference."""
        model = self.model(dataclasses.replace(cfg, layout="unrolled"))
        shapes = storage.shapes(model, _example)
        return {path: self.place(cfg, path, shape) for path, shape in shapes.items()}

    def to_params(self, cfg: Any, tensors: Mapping[str, np.ndarray]) -> dict:
        """See ``NameMap``."""
        return storage.to_params(self.table(cfg), tensors)

    def to_tensors(self, cfg: Any, params: Any) -> dict:
        """The inverse of ``to_params``, of any layout; copies are written, too."""
        table = self.table(cfg)
        tensors = storage.to_tensors(table, to_unrolled(params))
        return {n: tensors[row.names[0]] for row in table.values() for n in row.names}
