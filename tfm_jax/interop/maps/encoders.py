"""Name maps of encoders: tables of fields and of modules, read both ways."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfm_jax.config import build
from tfm_jax.interop.tensors import fields, label_names, storage
from tfm_jax.interop.tensors.fields import ACTIVATIONS
from tfm_jax.interop.tensors.name_map import NameMap
from tfm_jax.layers.layout import to_unrolled
from tfm_jax.objectives import causal_lm

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
OF_TEXT = {"vocab", "types", "max_length"}
# what ``write_config`` tells in its own way or checks; all that is neither here nor in
# ``EncoderMap.fields`` must have its default
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
UNWRITTEN = FIXED.keys() - {"tie_word_embeddings"}
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


@dataclasses.dataclass(frozen=True)
class EncoderMap(NameMap):
    """How transformers calls and stores an encoder.

    Attributes:
        architectures: our head -> their class.
        modules: our module -> theirs, "{}" being the number of a layer; a module may
            have several names, of which the first is written.
        fields: our field -> theirs. fixed: their fields that have one value here.
        defaults: of their fields, for what a file leaves out.
        head_dropout: their name for ours; "": there is none.
        beside: names of tensors that belong to heads which a model does without.
        untold: further fields of ours that need no counterpart.
        number: (config, layer) -> their number of the layer.
        example: () -> a batch that the model reads.
        as_read: the config that a file spells -> the model's.
        as_written: the model's -> the one that a file spells, with equal parameters.
    """

    architectures: Mapping[str, str]
    modules: Mapping[str, str | tuple[str, ...]]
    fields: Mapping[str, str]
    fixed: Mapping[str, object]
    defaults: Mapping[str, object]
    head_dropout: str = "classifier_dropout"
    beside: re.Pattern = re.compile("(?!)")
    untold: frozenset[str] = frozenset()
    number: Callable[..., int] = lambda cfg, layer: layer
    example: Callable[[], Any] = causal_lm.example
    as_read: Callable = lambda cfg: cfg
    as_written: Callable = lambda cfg: cfg

    def read_config(self, values: dict) -> Any:
        values = dict(self.defaults) | values
        cls = self.family.config
        theirs = {ours: (name,) for ours, name in self.fields.items()}
        fields.check(values, cls, theirs)
        problems = fields.fixed(values, {"model_type": self.model_type, **self.fixed})
        heads = {theirs: ours for ours, theirs in self.architectures.items()}
        named = fields.architecture(values) or self.architectures["states"]
        head = fields.chosen({"architectures": named}, "architectures", heads, problems)
        activations = fields.inverse(ACTIVATIONS)
        activation = fields.chosen(values, "hidden_act", activations, problems)
        own = {}
        if self.head_dropout:
            own["head_dropout"] = dropout = values.get(self.head_dropout)
            if dropout is None:
                own["head_dropout"] = values["hidden_dropout_prob"]
            elif type(dropout) not in (int, float):
                problems.append(f"{self.head_dropout} must be a number")
        fields.refuse(problems)
        ours = {ours: values[theirs] for ours, theirs in self.fields.items()} | dict(
            activation=activation,
            head=head,
            labels=label_names.count(values),
            **own,
        )
        return self.as_read(build(cls, fields.complete(cls, ours)))

    def write_config(self, cfg: Any) -> dict:
        cfg = self.as_written(cfg)
        apart = APART | self.untold | set(self.fields)
        problems = [
            f"model.{name}={getattr(cfg, name)!r} must be {getattr(type(cfg), name)!r}"
            for name in fields.of_tensors(type(cfg))
            if name not in apart and getattr(cfg, name) != getattr(type(cfg), name)
        ]
        tables = {"activation": ACTIVATIONS, "head": self.architectures}
        for name, table in tables.items():
            value = getattr(cfg, name)
            if value not in table:
                problems.append(f"model.{name}={value!r}; choose from {tuple(table)}")
        problems += fields.head_sizes(cfg)
        fields.refuse(problems, f"transformers' {self.model_type}")
        number = cfg.head == "classify" and cfg.labels == 1
        return {
            "model_type": self.model_type,
            "architectures": [self.architectures[cfg.head]],
            "hidden_act": ACTIVATIONS[cfg.activation][0],
            **{name: x for name, x in self.fixed.items() if name not in UNWRITTEN},
            **({self.head_dropout: cfg.head_dropout} if self.head_dropout else {}),
            **label_names.write(label_names.unnamed(cfg.labels)),
            **({"problem_type": "regression"} if number else {}),
            "dtype": "float32",
            **{
                theirs: fields.written(getattr(cfg, ours))
                for ours, theirs in self.fields.items()
            },
        }

    def to_params(self, cfg: Any, tensors: Mapping[str, np.ndarray]) -> dict:
        prefix = f"{self.model_type}."
        if not any(name.startswith(prefix) for name in tensors):  # of the bare model
            tensors = {f"{prefix}{name}": x for name, x in tensors.items()}
        places = self.table(cfg)
        known = {name for stored in places.values() for name in stored.names}
        rest = {
            name: x
            for name, x in tensors.items()
            if name in known
            or not (BUFFERS.fullmatch(name) or self.beside.fullmatch(name))
        }
        return storage.to_params(places, rest)

    def to_tensors(self, cfg: Any, params: Any) -> dict:
        tensors = storage.to_tensors(self.table(cfg), to_unrolled(params))
        if cfg.head == "states":  # the bare model's names
            prefix = f"{self.model_type}."
            return {name.removeprefix(prefix): x for name, x in tensors.items()}
        return tensors

    def table(self, cfg: Any) -> dict[str, storage.Stored]:
        """Path of each parameter of a model to its place in the reference."""
        cfg = dataclasses.replace(self.as_written(cfg), layout="unrolled")
        shapes = storage.shapes(self.family.model(cfg), self.example)
        return {path: self._stored(cfg, path, shape) for path, shape in shapes.items()}

    def _stored(self, cfg, path, ours):
        layer = _LAYER.search(path)
        module, _, leaf = _LAYER.sub("/layer_{}/", path).rpartition("/")
        whole = self.modules.get(path)  # a parameter that is a name of its own
        called = self.modules[module] if whole is None else whole
        leaves = LEAVES[leaf] if whole is None else ("",)
        called = tuple(
            ".".join(filter(None, (theirs, last)))
            for theirs in ((called,) if isinstance(called, str) else called)
            for last in leaves
        )
        if layer:
            number = self.number(cfg, int(layer[1]))
            called = tuple(name.format(number) for name in called)
        return storage.stored(called, path, ours)
