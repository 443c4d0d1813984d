"""The Q-Former in transformers, ``Blip2ForImageTextRetrieval``.

Source: Li et al. 2023, arXiv:2301.12597, as the ``Blip2...`` classes of transformers 5.
Deviates from the reference: it has no temperature of the similarities, which has its
first value here, and no head that generates the text; both are left out where a run is
written. A language model beside it belongs to other classes.
"""

import dataclasses
import re
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from tfm_jax.config import build, flatten
from tfm_jax.interop.imported import ImportedPairs
from tfm_jax.interop.maps import encoders, vit
from tfm_jax.interop.tensors import fields, storage
from tfm_jax.interop.tensors.fields import ACTIVATIONS
from tfm_jax.interop.tensors.name_map import NameMap
from tfm_jax.layers.layout import to_unrolled
from tfm_jax.models import qformer
from tfm_jax.objectives import retrieval

CLASS = "Blip2ForImageTextRetrieval"
ATTENTION = {  # our module -> theirs
    "/query": "attention.query",
    "/key": "attention.key",
    "/value": "attention.value",
    "/out": "output.dense",
    "_residual/norm_after": "output.LayerNorm",
}
FFN = {
    "/up": "intermediate{}.dense",
    "/down": "output{}.dense",
    "_residual/norm_after": "output{}.LayerNorm",
}
QUERYING = {
    **{f"self_attention{x}": f"attention.{y}" for x, y in ATTENTION.items()},
    **{f"cross_attention{x}": f"crossattention.{y}" for x, y in ATTENTION.items()},
    **{f"ffn{x}": y.format("") for x, y in FFN.items()},
    **{f"query_ffn{x}": y.format("_query") for x, y in FFN.items()},
}
PARTS = ("query", "key", "value")  # of one map there, in this order
VISION = {
    **{f"self_attention/{part}": "self_attn.qkv" for part in PARTS},
    "self_attention_residual/norm_before": "layer_norm1",
    "self_attention/out": "self_attn.projection",
    "ffn_residual/norm_before": "layer_norm2",
    "ffn/up": "mlp.fc1",
    "ffn/down": "mlp.fc2",
}
WHOLE = {  # names of their own; theirs have the axes [1, T, D]
    "vision/encoder/embedding/cls": "vision_model.embeddings.class_embedding",
    "vision/encoder/embedding/position/table": (
        "vision_model.embeddings.position_embedding"
    ),
    "qformer/queries": "query_tokens",
}
MODULES = {
    "vision/encoder/embedding/patch": "vision_model.embeddings.patch_embedding",
    **{
        f"vision/encoder/stack/layer_{{}}/{ours}": (
            f"vision_model.encoder.layers.{{}}.{theirs}"
        )
        for ours, theirs in VISION.items()
    },
    "vision/encoder/stack/final_norm": "vision_model.post_layernorm",
    "qformer/embedding/word": "embeddings.word_embeddings",
    "qformer/embedding/position": "embeddings.position_embeddings",
    "qformer/embedding/norm": "qformer.layernorm",
    **{
        f"qformer/stack/layer_{{}}/{ours}": f"qformer.encoder.layer.{{}}.{theirs}"
        for ours, theirs in QUERYING.items()
    },
    "head/image": "vision_projection",
    "head/text": "text_projection",
    "head/match": "itm_head",
}
TEMPERATURE = "head/temperature"
ABSENT = re.compile(rf"{TEMPERATURE}|head/(lm|begin)/.*")  # from the reference
FIELDS = {
    "queries": "num_query_tokens",
    "embed_width": "image_text_hidden_size",
    "cross_every": "qformer_config.cross_attention_frequency",
    **{
        f"text.{ours}": f"qformer_config.{theirs}"
        for ours, theirs in encoders.FIELDS.items()
        if ours != "types"
    },
    "vision.width": "vision_config.hidden_size",
    "vision.heads": "vision_config.num_attention_heads",
    "vision.ffn_width": "vision_config.intermediate_size",
    "vision.depth": "vision_config.num_hidden_layers",
    "vision.norm_eps": "vision_config.layer_norm_eps",
    "vision.attention_dropout": "vision_config.attention_dropout",
    "vision.image_size": "vision_config.image_size",
    "vision.patch_size": "vision_config.patch_size",
}
ACTIVATION = {
    "vision.activation": "vision_config.hidden_act",
    "text.activation": "qformer_config.hidden_act",
}
FIXED = {
    "model_type": "blip-2",
    "vision_config.qkv_bias": True,
    "qformer_config.use_qformer_text_input": True,
}
DEFAULTS: dict[str, Any] = {  # of transformers, for what a file leaves out
    "num_query_tokens": 32,
    "image_text_hidden_size": 256,
    "qformer_config.use_qformer_text_input": False,
    "qformer_config.cross_attention_frequency": 2,
    **{f"qformer_config.{name}": x for name, x in encoders.DEFAULTS.items()},
    "vision_config.hidden_size": 1408,
    "vision_config.num_attention_heads": 16,
    "vision_config.intermediate_size": 6144,
    "vision_config.num_hidden_layers": 39,
    "vision_config.layer_norm_eps": 1e-6,
    "vision_config.attention_dropout": 0.0,
    "vision_config.image_size": 224,
    "vision_config.patch_size": 14,
    "vision_config.hidden_act": "gelu",
}
# what a folder need not say, or says elsewhere
UNTOLD = {"head", "generation_mask", "vision.pixel_mean", "vision.pixel_std"}
UNTOLD |= {f"{x}.{y}_size" for x in ("vision", "text") for y in ("key", "value")}

_LAYER = re.compile(r"/layer_(\d+)/")


class QFormerMap(NameMap):
    """Image encoder, Q-Former and the heads of retrieval."""

    imported = ImportedPairs

    def read_config(self, values: dict) -> Any:
        values, cls = DEFAULTS | dict(flatten(values)), self.family.config
        fields.check(values, cls, {ours: (name,) for ours, name in FIELDS.items()})
        problems = fields.fixed(values, FIXED)
        named = {"architectures": fields.architecture(values) or CLASS}
        fields.chosen(named, "architectures", {CLASS: CLASS}, problems)
        activations = fields.inverse(ACTIVATIONS)
        given = {ours: values[theirs] for ours, theirs in FIELDS.items()}
        for ours, theirs in ACTIVATION.items():
            given[ours] = fields.chosen(values, theirs, activations, problems)
        fields.refuse(problems)
        whole = dict(flatten(dataclasses.asdict(cls()))) | fields.typed(cls, given)
        return build(cls, unflatten_dict(whole | {"head": "retrieval"}, sep="."))

    def write_config(self, cfg: Any) -> dict:
        told, usual = FIELDS.keys() | ACTIVATION.keys() | UNTOLD, type(cfg)()
        problems = fields.head_sizes(cfg.vision) + fields.head_sizes(cfg.text)
        for name in fields.of_tensors(type(cfg)):
            value, wanted = (attrgetter(name)(x) for x in (cfg, usual))
            if name in ACTIVATION and value not in ACTIVATIONS:
                legal = tuple(ACTIVATIONS)
                problems.append(f"model.{name}={value!r}; choose from {legal}")
            elif name not in told and value != wanted:
                problems.append(f"model.{name}={value!r} must be {wanted!r}")
        for name in ("vision.image_size", "vision.patch_size"):
            if len(value := attrgetter(name)(cfg)) > 1:
                problems.append(f"model.{name}={value} must be one number")
        if cfg.head == "states":
            problems.append("model.head='states'; choose from (pretraining, retrieval)")
        fields.refuse(problems, f"transformers' {self.model_type}")
        values = FIXED | {"architectures": [CLASS], "dtype": "float32"}
        values["qformer_config.encoder_hidden_size"] = cfg.vision.width
        for ours, theirs in FIELDS.items():
            values[theirs] = fields.written(attrgetter(ours)(cfg))
        for ours, theirs in ACTIVATION.items():
            values[theirs] = ACTIVATIONS[attrgetter(ours)(cfg)][0]
        return unflatten_dict(values, sep=".")

    def read_processor(self, cfg: Any, values: dict) -> Any:
        scales = vit.pixel_scales(type(cfg.vision), values)
        vision = dataclasses.replace(cfg.vision, **scales)
        return dataclasses.replace(cfg, vision=vision)

    def resizing_problems(self, cfg: Any, values: dict) -> list[str]:
        return vit.resizing_problems(cfg.vision, values)

    def write_processor(self, cfg: Any) -> dict:
        return vit.processor(cfg.vision, "BlipImageProcessor")

    def to_params(self, cfg: Any, tensors: Mapping[str, np.ndarray]) -> dict:
        cfg = dataclasses.replace(cfg, head="retrieval")
        params = storage.to_params(self.table(cfg), tensors)
        params["head"]["temperature"] = np.float32(cfg.temperature)
        return params

    def to_tensors(self, cfg: Any, params: Any) -> dict:
        flat = flatten_dict(to_unrolled(params), sep="/")
        written = {path: x for path, x in flat.items() if not ABSENT.fullmatch(path)}
        return storage.to_tensors(self.table(cfg), unflatten_dict(written, sep="/"))

    def table(self, cfg: Any) -> dict[str, storage.Stored]:
        """Path of each parameter to its place in the reference, which lacks some."""
        cfg = dataclasses.replace(cfg, layout="unrolled")
        shapes = storage.shapes(self.family.model(cfg), retrieval.example)
        return {
            path: _stored(path, shape)
            for path, shape in shapes.items()
            if not ABSENT.fullmatch(path)
        }


def _stored(path, ours):
    if path in WHOLE:
        shape = (1,) * (3 - len(ours)) + ours
        return storage.Stored((WHOLE[path],), shape, ours)
    module, _, leaf = _LAYER.sub("/layer_{}/", path).rpartition("/")
    layer = _LAYER.search(path)
    called = MODULES[module].format(layer[1] if layer else "")
    stored = storage.stored((f"{called}.{encoders.LEAVES[leaf][0]}",), path, ours)
    part = module.rpartition("/")[2]
    if not called.endswith("qkv"):
        return stored
    whole = (len(PARTS) * stored.shape[0], *stored.shape[1:])
    return stored._replace(shape=whole, part=(PARTS.index(part), len(PARTS)))


BLIP2 = QFormerMap("blip-2", qformer.FAMILY)
HUGGINGFACE = (BLIP2,)
