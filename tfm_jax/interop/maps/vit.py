"""ViT in transformers.

Source: Dosovitskiy et al. 2021, arXiv:2010.11929, as the ``ViT...`` classes of
transformers 5. What happens to pixels before the model is in a file of its own.
Deviates from the reference: the pooler of the bare model is left out.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

from tfm_jax.interop.imported import ImportedImages
from tfm_jax.interop.maps import encoders
from tfm_jax.interop.tensors import fields, label_names
from tfm_jax.models import vit
from tfm_jax.objectives import classify_images

# our module -> theirs; the first is written, the second what the classes call it now
LAYER = {
    "self_attention_residual/norm_before": ("layernorm_before",) * 2,
    "self_attention/query": ("attention.attention.query", "attention.q_proj"),
    "self_attention/key": ("attention.attention.key", "attention.k_proj"),
    "self_attention/value": ("attention.attention.value", "attention.v_proj"),
    "self_attention/out": ("attention.output.dense", "attention.o_proj"),
    "ffn_residual/norm_before": ("layernorm_after",) * 2,
    "ffn/up": ("intermediate.dense", "mlp.fc1"),
    "ffn/down": ("output.dense", "mlp.fc2"),
}
EMBEDDING = {  # theirs have the axes [1, T, D]
    "encoder/embedding/cls": "vit.embeddings.cls_token",
    "encoder/embedding/position/table": "vit.embeddings.position_embeddings",
}
PIXEL = 1 / 255  # what they multiply pixels by first
BILINEAR = 2  # as Pillow numbers it


class ImageMap(encoders.EncoderMap):
    """An encoder of images, and the file that says how pixels become its inputs."""

    imported = ImportedImages

    def read_processor(self, cfg: Any, values: dict) -> Any:
        return dataclasses.replace(cfg, **pixel_scales(type(cfg), values))

    def resizing_problems(self, cfg: Any, values: dict) -> list[str]:
        return resizing_problems(cfg, values)

    def write_processor(self, cfg: Any) -> dict:
        return processor(cfg, "ViTImageProcessor")

    def read_ids(self, values: dict, decoding: dict | None) -> dict:
        return {"labels": label_names.read(values)}

    def write_ids(
        self, ids: Any = None, labels: Sequence[str] = ()
    ) -> tuple[dict, dict | None]:
        return label_names.write(labels), None

    def _stored(self, cfg, path, ours):
        stored = super()._stored(cfg, path, ours)
        if path in EMBEDDING:
            return stored._replace(shape=(1,) * (3 - len(ours)) + ours)
        return stored


def pixel_scales(cls: type, values: dict) -> dict[str, tuple[float, ...]]:
    """Fields of ``cls``, an ``ImageArch``, by a ``preprocessor_config.json``.

    Raises: ValueError listing what has no counterpart.
    """
    problems = fields.fixed(values, {"do_rescale": True})
    factor = values.get("rescale_factor", PIXEL)
    if type(factor) not in (int, float) or not math.isclose(
        factor, PIXEL, rel_tol=1e-4
    ):
        problems.append("rescale_factor must be 1/255")
    scales = {"pixel_mean": (0.0,), "pixel_std": (1.0,)}
    if values.get("do_normalize", True):
        theirs = {"pixel_mean": "image_mean", "pixel_std": "image_std"}
        given = {name: values.get(name, 0.5) for name in theirs.values()}
        fields.check(given, cls, {k: (v,) for k, v in theirs.items()})
        scales = {ours: _alike(given[name]) for ours, name in theirs.items()}
    fields.refuse(problems, "preprocessor_config.json")
    return fields.typed(cls, scales)


def resizing_problems(cfg: Any, values: dict) -> list[str]:
    """What that file has done to an image of another size, and no run does."""
    values = {name: x for name, x in values.items() if x is not None}
    expected: dict[str, Any] = {"do_center_crop": False}
    if values.get("do_resize", True):
        expected |= {"size": _size(cfg), "resample": BILINEAR}
    if type(size := values.get("size")) is int:  # as folders had it until 2022
        values["size"] = {"height": size, "width": size}
    return fields.fixed(values, expected)


def processor(cfg: Any, name: str) -> dict:
    """The content of that file for ``cfg``. Args: name: of their class."""
    return {
        "image_processor_type": name,
        "do_resize": True,
        "size": _size(cfg),
        "resample": BILINEAR,
        "do_rescale": True,
        "rescale_factor": PIXEL,
        "do_normalize": True,
        "image_mean": _of_each(cfg.pixel_mean, cfg.channels),
        "image_std": _of_each(cfg.pixel_std, cfg.channels),
    }


def _alike(numbers):
    """One number, where all of a list are equal."""
    equal = isinstance(numbers, list) and len({*numbers}) == 1
    return numbers[0] if equal else numbers


def _size(cfg):
    return dict(zip(("height", "width"), cfg.image, strict=True))


def _of_each(numbers, channels):
    return [*numbers] * (channels // len(numbers))


VIT = ImageMap(
    model_type="vit",
    family=vit.FAMILY,
    architectures={"classify": "ViTForImageClassification", "states": "ViTModel"},
    modules={
        **EMBEDDING,
        "encoder/embedding/patch": "vit.embeddings.patch_embeddings.projection",
        **{
            f"encoder/stack/layer_{{}}/{ours}": (
                f"vit.encoder.layer.{{}}.{written}",
                f"vit.layers.{{}}.{now}",
            )
            for ours, (written, now) in LAYER.items()
        },
        "encoder/stack/final_norm": "vit.layernorm",
        "head/classify/out": "classifier",
    },
    fields={
        **{k: x for k, x in encoders.FIELDS.items() if k not in encoders.OF_TEXT},
        "image_size": "image_size",
        "patch_size": "patch_size",
        "channels": "num_channels",
    },
    fixed={"qkv_bias": True},
    defaults=dict(
        hidden_size=768,
        num_attention_heads=12,
        intermediate_size=3072,
        num_hidden_layers=12,
        layer_norm_eps=1e-12,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        hidden_act="gelu",
        image_size=224,
        patch_size=16,
        num_channels=3,
    ),
    head_dropout="",
    beside=re.compile(r"vit\.(pooler\.dense\.(weight|bias)|embeddings\.mask_token)"),
    untold=frozenset({"pixel_mean", "pixel_std"}),  # the processor's
    example=classify_images.example,
)
HUGGINGFACE = (VIT,)
