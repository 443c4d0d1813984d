"""What the name maps of BERT, ALBERT and ELECTRA have in common.

A family is a ``Reference``: tables of fields and of modules, each read both ways.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from tfm_jax.config import build
from tfm_jax.data.batch import TextBatch
from tfm_jax.interop import label_names, names
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
# fields that change neither names nor values of tensors; all that is neither here nor
# in ``Reference.fields`` must have its default
FREE = {"init", "residual_init", "dtype", "layout", "remat", "attention"}
FREE |= {"key_size", "value_size", "activation", "labels", "head_dropout", "head"}
# our activation -> the reference's names for it; the first is written
ACTIVATIONS = {
    "relu": ("relu",),
    "gelu": ("gelu", "gelu_python"),
    "gelu_tanh": ("gelu_new", "gelu_pytorch_tanh"),
    "silu": ("silu", "swish"),
}
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

    Raises: ValueError listing every field that is missing or has no counterpart here.
    """
    wanted = {"model_type", "architectures", "hidden_act", *reference.fields.values()}
    missing = sorted(wanted - set(values))
    if missing:
        raise ValueError(f"config.json lacks {', '.join(missing)}")
    fixed = {"model_type": reference.model_type, **reference.fixed}
    problems = [
        f"{name}={values[name]!r} must be {expected!r}"
        for name, expected in fixed.items()
        if values.get(name, expected) != expected
    ]
    heads = {theirs: ours for ours, theirs in reference.architectures.items()}
    architecture = (values["architectures"] or [None])[0]
    if architecture not in heads:
        problems.append(
            f"architectures=[{architecture!r}]; choose from ({', '.join(heads)})"
        )
    activations = {n: ours for ours, theirs in ACTIVATIONS.items() for n in theirs}
    if values["hidden_act"] not in activations:
        problems.append(
            f"hidden_act={values['hidden_act']!r}; choose from "
            f"({', '.join(activations)})"
        )
    if problems:
        raise ValueError("config.json has no counterpart: " + "; ".join(problems))
    dropout = values.get(reference.head_dropout)
    ours = {ours: values[theirs] for ours, theirs in reference.fields.items()} | dict(
        activation=activations[values["hidden_act"]],
        head=heads[architecture],
        labels=label_names.count(values),
        head_dropout=values["hidden_dropout_prob"] if dropout is None else dropout,
    )
    defaults = dataclasses.asdict(cls())
    floats = {n for n, x in defaults.items() if isinstance(x, float)}
    ours = {n: float(x) if n in floats else x for n, x in ours.items()}
    return build(cls, defaults | ours)


def write_config(reference: Reference, cfg) -> dict:
    """The content of ``config.json`` for ``cfg``, token ids apart.

    Raises: ValueError listing every field that the reference cannot represent.
    """
    problems = [
        f"model.{field.name}={getattr(cfg, field.name)!r} must be {field.default!r}"
        for field in dataclasses.fields(cfg)
        if field.name not in FREE | reference.free | set(reference.fields)
        and getattr(cfg, field.name) != field.default
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
        raise ValueError(f"{called} has no counterpart: " + "; ".join(problems))
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
    return names.to_tensors(table(reference, model), to_unrolled(params))
