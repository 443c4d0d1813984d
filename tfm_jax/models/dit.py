"""Diffusion Transformer (DiT): patches of an image with noise, conditioned four ways.

Source: Peebles and Xie 2023, arXiv:2212.09748, initial values as in the released code.
Parameters with 32 x 32 latents: S/2 32.9 M, B/2 130.3, L/2 457.8, XL/2 674.8; XL/2 in
context 449, by cross-attention 598, by adaLN 600 (table 4).
Deviates: the released code has no initial values of the arms that are not adaLN-Zero;
    here their norms have their affine map, and all else starts as in that one.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.config import Above, knob
from tfm_jax.data.batch import NoisyBatch
from tfm_jax.layers.embed import PositionEmbedding
from tfm_jax.layers.images.condition import LabelEmbedding, TimeEmbedding
from tfm_jax.layers.images.patches import (
    PatchArch,
    from_patches,
    grid_of,
    grid_positions,
    patches,
)
from tfm_jax.layers.linear import INITS, Linear, constrain
from tfm_jax.layers.parts import CROSS, FFN, SELF, Context, Memory
from tfm_jax.layers.positions import POSITIONS
from tfm_jax.layers.residual import Modulation, modulate
from tfm_jax.layers.stack import Stack
from tfm_jax.models.family import Family
from tfm_jax.ops.diffusion import OUTPUTS
from tfm_jax.ops.masks import Mask

FREQUENCIES = 256  # numbers that a time becomes before its map


class Conditioning(NamedTuple):
    """How time and label act, with the key of ``layers.residual.CONDITIONS``."""

    condition: str = "none"
    tokens: bool = False  # they stand before the patches
    memory: bool = False  # all layers cross-attend to them


# Peebles and Xie 2023, section 3.2 and figure 3
CONDITIONINGS = {
    "adaln_zero": Conditioning("adaln_zero"),
    "adaln": Conditioning("adaln"),
    "cross_attention": Conditioning(memory=True),
    "in_context": Conditioning(tokens=True),
}


@dataclasses.dataclass(frozen=True)
class Config(PatchArch):
    """Defaults are DiT-XL/2 for latents of ImageNet images of 256 x 256 pixels.

    But for the variance, which all of SIZES have learned, "tiny" apart.
    """

    width: int = 1152
    heads: int = 16
    ffn_width: int = 4608
    positions: str = "sincos2d_mae"
    init: str = "dit"
    depth: int = 28
    image_size: tuple[int, ...] = (32,)
    patch_size: tuple[int, ...] = (2,)
    channels: int = 4
    conditioning: str = knob(
        "adaln_zero", "how time and label act on the layers", choices=CONDITIONINGS
    )
    labels: int = knob(1000, "classes to be conditioned on; 0: none", low=0, high=2**24)
    label_dropout: float = knob(
        0.1, "of whole labels, for guidance", role="training", low=0, below=1
    )
    variance: str = knob(
        "fixed", "of a step back; learned: as many channels more", choices=OUTPUTS
    )

    READ_WITH = {("labels", Above(0)): ("label_dropout",)}


# Peebles and Xie 2023, table 1
_SIZES = {  # (depth, width, heads)
    "s": (12, 384, 6),
    "b": (12, 768, 12),
    "l": (24, 1024, 16),
    "xl": (28, 1152, 16),
}


def _size(depth, width, heads, patch, **rest):
    sizes = dict(depth=depth, width=width, heads=heads, ffn_width=4 * width)
    return sizes | dict(patch_size=(patch,)) | rest


SIZES: dict[str, dict[str, Any]] = {
    "tiny": _size(2, 48, 4, 2, image_size=(8,), channels=1),
} | {
    f"{name}{patch}": _size(*size, patch, variance="learned")
    for name, size in _SIZES.items()
    for patch in (2, 4, 8)
}


class Dit(nn.Module):
    """Prediction of noise, image or velocity from an image with noise.

    Args (call): batch: ``NoisyBatch``; images of whole patches.
    Returns: [B, H, W, C] float32, 2 C channels with a learned variance.
    Raises: ValueError for images of another size than a learned table of positions is
        for, that no whole number of patches fills, or with other channels.
    """

    cfg: Config

    def setup(self):
        cfg, dtype = self.cfg, jnp.dtype(self.cfg.dtype)
        row = CONDITIONINGS[cfg.conditioning]
        modulated = row.condition != "none"
        # the affine map of a norm is what is regressed in its place
        kinds = {"layernorm": "layernorm_no_affine"} if modulated else {}
        kind = kinds.get(cfg.norm_kind, cfg.norm_kind)
        axes, pixels = (None, None, None, "embed"), INITS[cfg.init].patches or cfg.init
        self.patch = Linear((cfg.width,), axes, pixels, inputs=3, dtype=dtype)
        count = math.prod(cfg.grid)
        self.position = PositionEmbedding(cfg.positions, count, cfg.init)
        normal = "normal_0.02"
        self.time = TimeEmbedding("cos_sin", FREQUENCIES, cfg.width, normal, dtype)
        if cfg.labels:
            self.label = LabelEmbedding(
                cfg.labels, cfg.width, cfg.label_dropout, normal, dtype
            )
        cross = (CROSS._replace(memory="condition"),) if row.memory else ()
        self.stack = Stack(
            dataclasses.replace(cfg, norm_kind=kind),
            cfg.depth,
            causal=False,
            pattern=((SELF, *cross, FFN),),
            condition=row.condition,
        )
        if modulated:
            self.final_modulation = Modulation(2, cfg.width, dtype)
        pixel = *cfg.patch, cfg.channels * OUTPUTS[cfg.variance]
        self.final = Linear(pixel, ("embed", None, None, None), cfg.init, scale=0.0)

    def __call__(self, batch: NoisyBatch, *, train: bool) -> jax.Array:
        cfg, row = self.cfg, CONDITIONINGS[self.cfg.conditioning]
        if self.is_initializing():  # no parameter's shape is a batch's
            images = jnp.zeros((1, *cfg.image, cfg.channels))
            batch = NoisyBatch(images, jnp.zeros(1), jnp.zeros(1, jnp.int32))
        images, times, labels = batch
        cfg.check(images.shape)
        grid = grid_of(images.shape[1:3], cfg.patch)
        given = [self.time(times)]
        given += [self.label(labels, train=train)] if cfg.labels else []
        condition, states = sum(given), jnp.stack(given, axis=1)

        x = self.patch(patches(images.astype(cfg.dtype), cfg.patch))
        on_grid = POSITIONS[cfg.positions].axes == 2
        positions = grid_positions(grid) if on_grid else jnp.arange(x.shape[1])[None]
        x = self.position(x, positions)
        before = len(given) if row.tokens else 0
        if before:
            x = jnp.concatenate([states, x], axis=1)
            widths = ((0, 0), (before, 0), (0, 0))[: positions.ndim]
            positions = jnp.pad(positions, widths)
        memories = {"condition": Memory(states)} if row.memory else {}
        context = Context(Mask(), memories=memories, condition=condition)
        x = constrain(x, "batch", "length", "embed")
        x = self.stack(x, positions, context, train=train)[:, before:]
        if row.condition != "none":
            x = modulate(x, *self.final_modulation(condition))
        return from_patches(self.final(x.astype(jnp.float32)), grid)


Model = Dit

FAMILY = Family(
    "dit",
    Config,
    Dit,
    SIZES,
    learns={"denoise": ()},
    below=("patch", "position", "time", "label", "stack/position_bias"),
    above=("stack/final_norm", "final_modulation", "final"),
)
