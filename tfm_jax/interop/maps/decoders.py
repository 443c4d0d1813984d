"""Name maps of the GPTs: tables of fields and of modules, each read both ways."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfm_jax.config import build
from tfm_jax.interop.imported import ImportedDecoder
from tfm_jax.interop.tensors import fields, storage
from tfm_jax.interop.tensors.name_map import NameMap
from tfm_jax.layers.layout import to_unrolled
from tfm_jax.objectives import causal_lm

BUFFERS = re.compile(r"(.*\.)?attn\.(attention\.)?(masked_)?bias|(.*\.)?position_ids")
_LAYER = re.compile(r"stack/layer_(\d+)/(.+)/(\w+)")
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "table": "weight"}
_FUSED = {"query": 0, "key": 1, "value": 2}
# their fields of the head "classify" that we cannot vary
_SUMMARY = dict(
    summary_type="cls_index",
    summary_use_proj=True,
    summary_activation=None,
    summary_proj_to_labels=True,
)
_HEADS = {  # parameters that stand on the model, their matrices are [out, in]
    "output/kernel": "lm_head.weight",
    "classify/out/kernel": "multiple_choice_head.summary.weight",
    "classify/out/bias": "multiple_choice_head.summary.bias",
}
_SUMMARY_DROPOUT, _SUMMARY_RATE = "summary_first_dropout", 0.1  # and its default


@dataclasses.dataclass(frozen=True)
class DecoderMap(NameMap):
    """How transformers calls and stores a decoder-only language model.

    Attributes:
        architectures: our head -> their class.
        fields: our field -> theirs.
        activation: their field for it; activations: ours -> their names.
        values: our fields that they cannot vary -> the value.
        fixed: their fields that we cannot vary -> the value, which is the default.
        defaults: of fields, for what a file leaves out.
        outside: our module -> theirs, without ``transformer.``.
        layer: module of one of our layers -> theirs.
        transposed: matrices are [out, in].
        read, write: what turns their fields into ours and back where one of them is
            not one of ours.
    """

    imported = ImportedDecoder
    architectures: Mapping[str, str]
    fields: Mapping[str, str]
    activation: str
    activations: Mapping[str, tuple[str, ...]]
    values: Mapping[str, object]
    fixed: Mapping[str, object]
    defaults: Mapping[str, object]
    outside: Mapping[str, str]
    layer: Mapping[str, str]
    transposed: bool
    read: Callable[[dict], dict] = lambda values: {}
    write: Callable[..., dict] = lambda cfg: {}

    def read_config(self, values: dict) -> Any:
        values = {**self.fixed, **self.defaults, **values}
        cls = self.family.config
        heads = {theirs: ours for ours, theirs in self.architectures.items()}
        head = heads.get(fields.architecture(values), "lm")
        theirs = {ours: (name,) for ours, name in self.fields.items()}
        if head == "classify":
            values = {_SUMMARY_DROPOUT: _SUMMARY_RATE} | _SUMMARY | values
            theirs["head_dropout"] = (_SUMMARY_DROPOUT,)
        inner = self.fields.get("ffn_width", "")
        if inner and values[inner] is None:
            values[inner] = _four_times(values[self.fields["width"]])
        fields.check(values, cls, theirs)
        expected = {"model_type": self.model_type} | dict(self.fixed)
        expected |= _SUMMARY if head == "classify" else {}
        problems = fields.fixed(values, expected)
        activations = fields.inverse(self.activations)
        activation = fields.chosen(values, self.activation, activations, problems)
        fields.refuse(problems)
        ours = {ours: values[name] for ours, (name,) in theirs.items()}
        ours |= dict(self.values) | self.read(values) | {"activation": activation}
        ours.setdefault("ffn_width", 4 * ours["width"])
        if head == "classify":
            ours |= dict(head=head, labels=1)
        return build(cls, fields.complete(cls, ours))

    def write_config(self, cfg: Any) -> dict:
        told = fields.of_tensors(type(cfg))
        problems = [
            f"model.{name}={getattr(cfg, name)!r} must be {expected!r}"
            for name, expected in self.values.items()
            if name in told and getattr(cfg, name) != expected
        ]
        if cfg.activation not in self.activations:
            problems.append(
                f"model.activation={cfg.activation!r}; "
                f"choose from {tuple(self.activations)}"
            )
        problems += fields.head_sizes(cfg)
        if "ffn_width" not in self.fields and cfg.ffn_width != 4 * cfg.width:
            problems.append(f"model.ffn_width={cfg.ffn_width} must be 4 * width")
        if cfg.head not in self.architectures:
            problems.append(
                f"model.head={cfg.head!r}; choose from {tuple(self.architectures)}"
            )
        if cfg.head == "classify" and cfg.labels != 1:
            problems.append(f"model.labels={cfg.labels} must be 1")
        others = {}
        try:
            others = self.write(cfg)
        except ValueError as error:
            problems.append(str(error))
        fields.refuse(problems, f"transformers' {self.model_type}")
        if cfg.head == "classify":
            others |= _SUMMARY | {_SUMMARY_DROPOUT: cfg.head_dropout}
        return {
            "model_type": self.model_type,
            "architectures": [self.architectures[cfg.head]],
            **self.fixed,
            **{theirs: getattr(cfg, ours) for ours, theirs in self.fields.items()},
            **others,
            self.activation: self.activations[cfg.activation][0],
            "dtype": "float32",
        }

    def to_params(self, cfg: Any, tensors: Mapping[str, np.ndarray]) -> dict:
        rest = {name: x for name, x in tensors.items() if not BUFFERS.fullmatch(name)}
        return storage.to_params(self.table(cfg), rest)

    def to_tensors(self, cfg: Any, params: Any) -> dict:
        return storage.to_tensors(self.table(cfg), to_unrolled(params))

    def table(self, cfg: Any) -> dict[str, storage.Stored]:
        """Path of each parameter of a model to its place in the reference."""
        model = self.family.model(dataclasses.replace(cfg, layout="unrolled"))
        shapes = storage.shapes(model, causal_lm.example)
        return {path: self._stored(cfg, path, shape) for path, shape in shapes.items()}

    def _stored(self, cfg, path, ours):
        if path in _HEADS:
            return storage.stored((_HEADS[path],), path, ours)
        if layer := _LAYER.fullmatch(path):
            index, module, leaf = layer.groups()
            name = f"h.{index}.{self.layer[module]}.{_LEAVES[leaf]}"
        else:
            module, _, leaf = path.rpartition("/")
            name = f"{self.outside[module]}.{_LEAVES[leaf]}"
        called = (f"transformer.{name}", name)  # the second: files of the bare model
        if path == "embedding/table" and cfg.tie_embeddings:
            called = (*called, "lm_head.weight")
        stored = storage.stored(called, path, ours, transposed=self.transposed)
        part = _FUSED.get(module.rpartition("/")[2])
        if self.transposed or part is None:
            return stored
        whole = (*stored.shape[:-1], 3 * stored.shape[-1])
        return stored._replace(shape=whole, part=(part, 3))


def _four_times(width):
    return 4 * width if type(width) is int else width
