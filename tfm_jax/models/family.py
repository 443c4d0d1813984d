"""Family: what the rest of the package has to know of an architecture."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from flax import linen as nn


class Start(NamedTuple):
    """A part of a model that may start from another run than the rest.

    Attributes:
        families: names of those whose models it may be.
        section: dotted, in the section ``model``: where the architecture of that model
            is taken over; "": the whole of it.
        take: (parameters there by path, the config that they are of, config of the
            whole model here) -> parameters by the paths that they have here.
        owns: regular expression of the paths that are of this part alone.
        brings: other parts that such a model has, too.
        inside: name of a family whose models have such a part -> (config, parameters of
            one) -> (``model_name``, config, parameters) of that part as a model.
    """

    families: tuple[str, ...]
    section: str
    take: Callable[[dict, Any, Any], dict]
    owns: str
    brings: tuple[str, ...] = ()
    inside: Mapping[str, Callable[[Any, dict], tuple]] = MappingProxyType({})


class Family(NamedTuple):
    """An architecture; a module of this package ends in its own, as ``FAMILY``.

    Attributes:
        name: value of ``model_name``.
        config: frozen dataclass, the section ``model``.
        model: Linen class, whose only argument is a ``config``; with ``starts`` also
            ``frozen_parts``, names of those without dropout. One that generates has
            ``prefill`` and ``step`` as in `gpt`.
        sizes: published sizes, name -> fields of ``config``.
        learns: workload -> values of ``config.head`` that can learn it, in the order
            in which an imported model is given one; () where there is no such field.
        task_parameters: first names of the parameter paths that belong to a head: new
            or dropped where a run starts from another one.
        task_fields: fields of ``config`` that describe nothing but those parameters.
        fitted: fields in which a run may differ from the model that it starts from,
            since ``fit`` makes up for it: (parameters by path, the config that they are
            of, a config that differs in these fields) -> parameters of that.
        below, above: first names of the parameter paths ("encoder/embedding") below the
            first layer and above the last, for layer-wise learning rates.
        frame: special tokens around texts, key of ``data.rows.framing.FRAMES``.
        pairs: head that judges sentence pairs -> the kind that it was pretrained on.
        causal: its layers see no future tokens.
        joint: heads with which several towers are trained together.
        towers: name -> (config, params) of such a model -> those of one tower as a
            model of its own; the first is the one that is kept.
        starts: part of the model -> what it may start from, and which parameters are
            its own; the tokenizer is that of the first that has one.
        check_new: config -> nothing; ConfigError for one that new runs may not have,
            though runs of before were let begin with it.
    """

    name: str
    config: type
    model: type[nn.Module]
    sizes: Mapping[str, Mapping]
    learns: Mapping[str, tuple[str, ...]]
    task_parameters: tuple[str, ...] = ()
    task_fields: frozenset[str] = frozenset()
    fitted: frozenset[str] = frozenset()
    fit: Callable[..., dict] = lambda params, before, now: params
    below: tuple[str, ...] = ()
    above: tuple[str, ...] = ()
    frame: str = "bert"
    pairs: Mapping[str, str] = MappingProxyType({})
    causal: bool = False
    joint: tuple[str, ...] = ()
    towers: Mapping[str, Callable[..., tuple]] = MappingProxyType({})
    starts: Mapping[str, Start] = MappingProxyType({})
    check_new: Callable[[Any], None] = lambda config: None
