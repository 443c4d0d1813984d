"""What the name maps of BERT, ALBERT and ELECTRA have in common.

A family is a ``Reference``: tables of fields and of modules, each read both ways.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from tfm_jax.config import build
from tfm_jax.data.batch import TextBatch
from tfm_jax.interop import fields, label_names, names
from tfm_jax.interop.fields import ACTIVATIONS
from tfm_jax.interop.problems import listed
from tfm_jax.layers.layout import to_unrolled

# our field -> the reference's
FIELDS = {
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "ffn_width": "intermediate_size",
    "depth": "num_hidden_layers",
    "vocab": "vocab_size",
    "types": "type_vocab_size",
    "max_length": "max_position_embeddings",
    "norm_eps": "layer_norm_eps",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}
# what ``write_config`` tells in its own way or checks; all that is neither here nor in
# ``Reference.fields`` must have its default
APART = {"key_size", "value_size", "activation", "labels", "head_dropout", "head"}
DEFAULTS = dict(  # of transformers, for what a file leaves out
    hidden_size=768,
    num_attention_heads=12,
    intermediate_size=3072,
    num_hidden_layers=12,
    vocab_size=30522,
    type_vocab_size=2,
    max_position_embeddings=512,
    layer_norm_eps=1e-12,
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1,
    hidden_act="gelu",
)
# their fields that we cannot vary; older files leave some of them out
FIXED = dict(
    is_encoder_decoder=False,
    is_decoder=False,
    add_cross_attention=False,
    tie_word_embeddings=True,
    position_embedding_type="absolute",
)
# our leaf -> theirs; the first is written, the others are those of older files
LEAVES = {
    "kernel": ("weight",),
    "scale": ("weight", "gamma"),
    "bias": ("bias", "beta"),
    "table": ("weight",),
}
# buffers that the reference computes, but that older files hold
BUFFERS = re.compile(r".*embeddings\.(position_ids|token_type_ids)")

_LAYER = re.compile(r"/layer_(\d+)/")


class Reference(NamedTuple):
    """How transformers calls and stores one family.

    Attributes:
        model_type: theirs. architectures: our head -> their class.
        fields: our field -> theirs. fixed: their fields that have one value here.
        defaults: of their fields, for what a file leaves out.
        head_dropout: their name for ours.
        modules: our module -> theirs, "{}" being the number of a layer; a module may
            have several names, of which the first is written.
        beside: names of tensors that belong to heads which a model does without.
        free: further fields of ours that need no counterpart.
        number: (config, layer) -> their number of the layer.
    """

    model_type: str
    architectures: Mapping[str, str]
    modules: Mapping[str, str | tuple[str, ...]]
    fields: Mapping[str, str] = FIELDS
    fixed: Mapping[str, object] = FIXED
    defaults: Mapping[str, object] = MappingProxyType(DEFAULTS)
    head_dropout: str = "classifier_dropout"
    beside: re.Pattern = re.compile("(?!)")
    free: frozenset[str] = frozenset()
    number: Callable[..., int] = lambda cfg, layer: layer


def example() -> TextBatch:
    """The smallest batch, for shapes only."""
    ones = np.ones((1, 2), np.int32)
    return TextBatch(ones, ones)


def read_config(reference: Reference, cls: type, values: dict):
    """The model that the content of a ``config.json`` describes, a ``cls``.

    What the file leaves out has the default of transformers.

    Raises: ValueError listing every field that has no counterpart here.
    """
    values = dict(reference.defaults) | values
    theirs = {ours: (name,) for ours, name in reference.fields.items()}
    fields.check(values, cls, theirs)
    expected = {"model_type": reference.model_type, **reference.fixed}
    problems = fields.fixed(values, expected)
    heads = {theirs: ours for ours, theirs in reference.architectures.items()}
    named = fields.architecture(values) or reference.architectures["states"]
    head = fields.chosen({"architectures": named}, "architectures", heads, problems)
    activations = fields.inverse(ACTIVATIONS)
    activation = fields.chosen(values, "hidden_act", activations, problems)
    dropout = values.get(reference.head_dropout)
    if dropout is None:
        dropout = values["hidden_dropout_prob"]
    elif type(dropout) not in (int, float):
        problems.append(f"{reference.head_dropout} must be a number")
    fields.refuse(problems)
    ours = {ours: values[theirs] for ours, theirs in reference.fields.items()} | dict(
        activation=activation,
        head=head,
        labels=label_names.count(values),
        head_dropout=dropout,
    )
    return build(cls, fields.complete(cls, ours))


def write_config(reference: Reference, cfg) -> dict:
    """The content of ``config.json`` for ``cfg``, token ids apart.

    Raises: ValueError listing every field that the reference cannot represent.
    """
    apart = APART | reference.free | set(reference.fields)
    problems = [
        f"model.{name}={getattr(cfg, name)!r} must be {getattr(type(cfg), name)!r}"
        for name in fields.of_tensors(type(cfg))
        if name not in apart and getattr(cfg, name) != getattr(type(cfg), name)
    ]
    tables = {"activation": ACTIVATIONS, "head": reference.architectures}
    for name, table in tables.items():
        value = getattr(cfg, name)
        if value not in table:
            problems.append(f"model.{name}={value!r}; choose from {tuple(table)}")
    if {cfg.head_key_size * cfg.heads, cfg.head_value_size * cfg.heads} != {cfg.width}:
        problems.append("model.key_size and model.value_size must be width / heads")
    if problems:
        called = f"transformers' {reference.model_type}"
        raise ValueError(f"{called} has no counterpart: {listed(problems)}")
    theirs = {theirs: getattr(cfg, ours) for ours, theirs in reference.fields.items()}
    number = cfg.head == "classify" and cfg.labels == 1
    return {
        "model_type": reference.model_type,
        "architectures": [reference.architectures[cfg.head]],
        "hidden_act": ACTIVATIONS[cfg.activation][0],
        "tie_word_embeddings": True,
        **{name: x for name, x in reference.fixed.items() if name not in FIXED},
        reference.head_dropout: cfg.head_dropout,
        **label_names.write(label_names.unnamed(cfg.labels)),
        **({"problem_type": "regression"} if number else {}),
        "dtype": "float32",
        **theirs,
    }


def table(reference: Reference, model) -> dict[str, names.Stored]:
    """Path of each parameter of ``model`` to its place in the reference."""
    plain = model.clone(cfg=dataclasses.replace(model.cfg, layout="unrolled"))
    shapes = names.shapes(plain, example())
    return {
        path: _stored(reference, model.cfg, path, shape)
        for path, shape in shapes.items()
    }


def _stored(reference, cfg, path, ours):
    layer = _LAYER.search(path)
    path = _LAYER.sub("/layer_{}/", path)
    module, _, leaf = path.rpartition("/")
    whole = reference.modules.get(path)  # a parameter that is a name of its own
    called = reference.modules[module] if whole is None else whole
    leaves = LEAVES[leaf] if whole is None else ("",)
    called = tuple(
        ".".join(filter(None, (theirs, last)))
        for theirs in ((called,) if isinstance(called, str) else called)
        for last in leaves
    )
    if layer:
        number = reference.number(cfg, int(layer[1]))
        called = tuple(name.format(number) for name in called)
    if leaf == "table":
        return names.Stored(called, ours, ours)
    if leaf == "kernel":
        inputs = 2 if module.endswith("attention/out") else 1  # [H, K] are contracted
        rows, columns = math.prod(ours[:inputs]), math.prod(ours[inputs:])
        return names.Stored(called, (columns, rows), ours, transposed=True)
    return names.Stored(called, (math.prod(ours),), ours)


def to_params(reference: Reference, model, tensors) -> dict:
    """Nested dict of float32 parameters for the unrolled ``model``.

    Raises: ValueError listing all that is unknown, missing or does not fit.
    """
    base = f"{reference.model_type}."
    if not any(name.startswith(base) for name in tensors):  # files of the bare model
        tensors = {f"{base}{name}": x for name, x in tensors.items()}
    places = table(reference, model)
    known = {name for stored in places.values() for name in stored.names}
    rest = {
        name: x
        for name, x in tensors.items()
        if name in known
        or not (BUFFERS.fullmatch(name) or reference.beside.fullmatch(name))
    }
    return names.to_params(places, rest)


def to_tensors(reference: Reference, model, params) -> dict[str, np.ndarray]:
    """The inverse of ``to_params``, of any layout."""
    tensors = names.to_tensors(table(reference, model), to_unrolled(params))
    if model.cfg.head == "states":  # the bare model's names
        base = f"{reference.model_type}."
        return {name.removeprefix(base): x for name, x in tensors.items()}
    return tensors
