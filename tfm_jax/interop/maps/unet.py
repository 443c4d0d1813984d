"""DDPM's U-Net in diffusers, ``UNet2DModel``, with ADM's heads and norms or without.

Deviates from the reference: the last of its classes is that of no class here. Waves of
the time are DDPM's alone (``freq_shift=1``): ADM's, and so its weights, are refused.
"""

import re
from typing import Any

from tfm_jax.config import build
from tfm_jax.interop.maps.denoisers import LEAVES, DenoiserMap, integers
from tfm_jax.interop.tensors import fields, storage
from tfm_jax.models import unet

_FIXED: dict[str, Any] = dict(
    center_input_sample=False,
    time_embedding_type="positional",
    freq_shift=1,
    flip_sin_to_cos=False,
    mid_block_scale_factor=1,
    mid_block_type="UNetMidBlock2D",
    downsample_padding=0,
    downsample_type="conv",
    upsample_type="conv",
    dropout=0.0,
    act_fn="silu",
    class_embed_type=None,
    add_attention=True,
)
_DEFAULTS: dict[str, Any] = _FIXED | dict(  # of theirs, for what a file leaves out
    freq_shift=0,
    flip_sin_to_cos=True,
    downsample_padding=1,
    sample_size=None,
    block_out_channels=[224, 448, 672, 896],
    down_block_types=["DownBlock2D"] + ["AttnDownBlock2D"] * 3,
    up_block_types=["AttnUpBlock2D"] * 3 + ["UpBlock2D"],
    out_channels=3,
    in_channels=3,
    layers_per_block=2,
    attention_head_dim=8,
    norm_num_groups=32,
    norm_eps=1e-5,
    resnet_time_scale_shift="default",
    attn_norm_num_groups=None,
    num_class_embeds=None,
)
_FIELDS = {
    "channels": "in_channels",
    "depth": "layers_per_block",
    "groups": "norm_num_groups",
    "norm_eps": "norm_eps",
}
_MODULATIONS = {"shift": "default", "scale_shift": "scale_shift"}
_BLOCKS = {True: ("AttnDownBlock2D", "AttnUpBlock2D")}
_BLOCKS |= {False: ("DownBlock2D", "UpBlock2D")}


def _write_config(cfg):
    problems = [
        f"model.{name}={value!r} must be {wanted!r}"
        for name, value, wanted in (
            ("attention_block", cfg.attention_block, "plain"),
            ("heads", cfg.heads, 1),
        )
        if value != wanted and not (name == "heads" and cfg.head_size)
    ]
    fields.refuse(problems, "diffusers' UNet2DModel")
    levels = range(len(cfg.multipliers))
    kinds = [_BLOCKS[cfg.attends(level)] for level in levels]
    size = cfg.image_size[0] if len(set(cfg.image_size)) == 1 else [*cfg.image_size]
    return {
        **_FIXED,
        **{theirs: getattr(cfg, ours) for ours, theirs in _FIELDS.items()},
        "sample_size": size,
        "out_channels": cfg.channels * unet.OUTPUTS[cfg.variance],
        "block_out_channels": [cfg.width * m for m in cfg.multipliers],
        "down_block_types": [down for down, _ in kinds],
        "up_block_types": [up for _, up in reversed(kinds)],
        "attention_head_dim": cfg.head_size or None,
        "resnet_time_scale_shift": _MODULATIONS[cfg.modulation],
        # of the attention in the middle, which otherwise has none with "scale_shift"
        "attn_norm_num_groups": cfg.groups if cfg.modulation != "shift" else None,
        "num_class_embeds": cfg.labels + 1 if cfg.labels else None,
    }


def _read_config(values):
    values = {**_DEFAULTS, **values}
    problems = fields.fixed(values, {k: x for k, x in _FIXED.items() if k != "dropout"})
    fields.check(values, unet.Config, {o: (name,) for o, name in _FIELDS.items()})
    modulations = {theirs: ours for ours, theirs in _MODULATIONS.items()}
    modulation = fields.chosen(values, "resnet_time_scale_shift", modulations, problems)
    size, widths, (outputs,) = (
        integers(values, name, problems)
        for name in ("sample_size", "block_out_channels", "out_channels")
    )
    head, classes = (
        0 if values[name] is None else integers(values, name, problems)[0]
        for name in ("attention_head_dim", "num_class_embeds")
    )
    kinds = values["down_block_types"]
    kinds = kinds if isinstance(kinds, list) else []
    fields.refuse(problems)
    ours = {ours: values[name] for ours, name in _FIELDS.items()}
    ours |= dict(
        image_size=size,
        width=widths[0],
        multipliers=tuple(width // widths[0] for width in widths),
        attention_at=tuple(
            size[0] // 2**i for i, kind in enumerate(kinds) if kind == _BLOCKS[True][0]
        ),
        head_size=head,
        modulation=modulation,
        dropout=0.0,
        labels=max(classes - 1, 0),
        variance="learned" if outputs == 2 * values["in_channels"] else "fixed",
    )
    cfg = build(unet.Config, fields.complete(unet.Config, ours))
    written = _write_config(cfg) | {"dropout": values["dropout"]}
    fields.refuse(fields.fixed(values, written))
    return cfg


_OUTSIDE = {
    "first": "conv_in",
    "time/up": "time_embedding.linear_1",
    "time/down": "time_embedding.linear_2",
    "label": "class_embedding",
    "final_norm": "conv_norm_out",
    "final": "conv_out",
}
_IN_BLOCKS = {
    "residual/first_norm": "resnets.{}.norm1",
    "residual/first": "resnets.{}.conv1",
    "residual/condition": "resnets.{}.time_emb_proj",
    "residual/second_norm": "resnets.{}.norm2",
    "residual/second": "resnets.{}.conv2",
    "residual/shortcut": "resnets.{}.conv_shortcut",
    "attention/norm": "attentions.{}.group_norm",
    "attention/attention/query": "attentions.{}.to_q",
    "attention/attention/key": "attentions.{}.to_k",
    "attention/attention/value": "attentions.{}.to_v",
    "attention/attention/out": "attentions.{}.to_out.0",
}
_BLOCK = re.compile(r"(?:(down|up)_(\d+)|middle)_(\d+)_(.+)/(\w+)")
_RESIZE = re.compile(r"(down|up)_(\d+)_(?:halve|double)/(\w+)")


def _place(cfg: unet.Config, path: str, ours: Any) -> storage.Stored:
    def level(side, number):
        if side is None:
            return "mid_block"
        last = len(cfg.multipliers) - 1
        return f"{side}_blocks.{number if side == 'down' else last - int(number)}"

    if block := _BLOCK.fullmatch(path):
        side, number, index, module, leaf = block.groups()
        name = f"{level(side, number)}.{_IN_BLOCKS[module].format(index)}"
    elif resize := _RESIZE.fullmatch(path):
        side, number, leaf = resize.groups()
        name = f"{level(side, number)}.{side}samplers.0.conv"
    else:
        module, _, leaf = path.rpartition("/")
        name = _OUTSIDE[module]
    stored = storage.stored((f"{name}.{LEAVES[leaf]}",), path, ours)
    if path.endswith("shortcut/kernel"):  # 1 x 1 there, a matrix here
        stored = stored._replace(shape=(*stored.shape, 1, 1), order=(2, 3, 1, 0))
    return stored


DIFFUSERS = (
    DenoiserMap(
        "UNet2DModel", unet.Config, unet.UNet, _read_config, _write_config, _place
    ),
)
