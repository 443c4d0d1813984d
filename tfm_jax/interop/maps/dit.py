"""DiT in diffusers, ``DiTTransformer2DModel``.

Deviates from the reference: each of its blocks has a copy of the maps of time and
label, which must agree; its frequencies of the time go down to 1 / 10,000 and its
second norm has another epsilon, where the weights that are published, and our model,
have those of the released code of Peebles and Xie 2023.
"""

import math
import re
from typing import Any

from tfm_jax.config import build
from tfm_jax.interop.maps.denoisers import LEAVES, DenoiserMap, integers
from tfm_jax.interop.tensors import fields, storage
from tfm_jax.models import dit

_FIXED: dict[str, Any] = dict(
    dropout=0.0,
    norm_num_groups=32,
    attention_bias=True,
    activation_fn="gelu-approximate",
    upcast_attention=False,
    norm_type="ada_norm_zero",
    norm_elementwise_affine=False,
)
_DEFAULTS: dict[str, Any] = dict(
    num_attention_heads=16,
    attention_head_dim=72,
    in_channels=4,
    out_channels=None,
    num_layers=28,
    sample_size=32,
    patch_size=2,
    num_embeds_ada_norm=1000,
)
_VALUES: dict[str, Any] = dict(
    conditioning="adaln_zero",
    norm="pre",
    norm_kind="layernorm",
    norm_eps=1e-6,
    residual=True,
    positions="sincos2d_mae",
    score="scaled_dot",
    mask_style="before",
    windows=(),
    biases="all",
    activation="gelu_tanh",
)


def _write_config(cfg):
    height, width = cfg.image
    problems = [
        f"model.{name}={getattr(cfg, name)!r} must be {wanted!r}"
        for name, wanted in _VALUES.items()
        if getattr(cfg, name) != wanted
    ]
    problems += fields.head_sizes(cfg)
    wanted = {
        f"model.image_size={cfg.image_size} must be square": height != width,
        f"model.patch_size={cfg.patch_size} must be square": len({*cfg.patch}) > 1,
        f"model.ffn_width={cfg.ffn_width} must be 4 * width": cfg.ffn_width
        != 4 * cfg.width,
        "model.labels=0 must be positive": not cfg.labels,
    }
    problems += [problem for problem, asked in wanted.items() if asked]
    fields.refuse(problems, "diffusers' DiTTransformer2DModel")
    return _FIXED | {
        "norm_eps": 1e-6,
        "num_attention_heads": cfg.heads,
        "attention_head_dim": cfg.head_key_size,
        "in_channels": cfg.channels,
        "out_channels": cfg.channels * dit.OUTPUTS[cfg.variance],
        "num_layers": cfg.depth,
        "sample_size": height,
        "patch_size": cfg.patch[0],
        "num_embeds_ada_norm": cfg.labels,
    }


def _read_config(values):
    values = {**_FIXED, **_DEFAULTS, **values}
    if values["out_channels"] is None:
        values["out_channels"] = values["in_channels"]
    problems = fields.fixed(values, _FIXED)
    sizes = {name: integers(values, name, problems)[0] for name in _DEFAULTS}
    fields.refuse(problems)
    heads, channels = sizes["num_attention_heads"], sizes["in_channels"]
    width = heads * sizes["attention_head_dim"]
    ours = _VALUES | dict(
        width=width,
        heads=heads,
        ffn_width=4 * width,
        depth=sizes["num_layers"],
        image_size=(sizes["sample_size"],),
        patch_size=(sizes["patch_size"],),
        channels=channels,
        labels=sizes["num_embeds_ada_norm"],
        variance="learned" if sizes["out_channels"] == 2 * channels else "fixed",
    )
    cfg = build(dit.Config, fields.complete(dit.Config, ours))
    written = {name: x for name, x in _write_config(cfg).items() if name in _DEFAULTS}
    fields.refuse(fields.fixed(values, written))
    return cfg


_OUTSIDE = {
    "patch": "pos_embed.proj",
    "final_modulation/map": "proj_out_1",
    "final": "proj_out_2",
}
_CONDITION = {  # a copy in each block
    "time/up": "timestep_embedder.linear_1",
    "time/down": "timestep_embedder.linear_2",
    "label": "class_embedder.embedding_table",
}
_LAYER = {
    "self_attention/query": "attn1.to_q",
    "self_attention/key": "attn1.to_k",
    "self_attention/value": "attn1.to_v",
    "self_attention/out": "attn1.to_out.0",
    "ffn/up": "ff.net.0.proj",
    "ffn/down": "ff.net.2",
    "self_attention_residual/modulation/map": "norm1.linear",
    "ffn_residual/modulation/map": "norm1.linear",
}
_PATH = re.compile(r"stack/layer_(\d+)/(.+)/(\w+)")


def _place(cfg: dit.Config, path: str, ours: Any) -> storage.Stored:
    if layer := _PATH.fullmatch(path):
        index, module, leaf = layer.groups()
        modules = [f"transformer_blocks.{index}.{_LAYER[module]}"]
    else:
        module, _, leaf = path.rpartition("/")
        inner, blocks = _CONDITION.get(module), range(cfg.depth)
        copies = [f"transformer_blocks.{i}.norm1.emb.{inner}" for i in blocks]
        modules = copies if inner else [_OUTSIDE[module]]
    names = tuple(f"{name}.{LEAVES[leaf]}" for name in modules)
    stored = storage.stored(names, path, ours)
    if module.startswith("final") and leaf == "kernel":  # no patch, for all its axes
        matrix = ours[0], math.prod(ours[1:])
        stored = storage.Stored(names, matrix[::-1], ours, (1, 0))
    if module.endswith("_residual/modulation/map"):
        rows, *columns = stored.shape
        part = int(module.startswith("ffn")), 2
        stored = stored._replace(shape=(2 * rows, *columns), part=part)
    return stored


def _as_published(model):
    for block in model.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
        block.norm3.eps = _VALUES["norm_eps"]
    return "with the frequencies and the epsilon of Peebles and Xie's code"


DIFFUSERS = (
    DenoiserMap(
        "DiTTransformer2DModel",
        dit.Config,
        dit.Dit,
        _read_config,
        _write_config,
        _place,
        _as_published,
    ),
)
