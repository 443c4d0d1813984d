"""Vision Transformer (ViT): patches of an image as tokens of a bidirectional encoder.

Source: Dosovitskiy et al. 2021, arXiv:2010.11929, initial values as in the released
code (google-research/vision_transformer); sizes Ti and S: Touvron et al. 2021,
arXiv:2012.12877; ``pool="mean"`` with ``positions="sincos2d"``: Beyer et al. 2022,
arXiv:2205.01580; ``pool="map"``: Zhai et al. 2022, arXiv:2106.04560.
Parameters with [CLS], 224 pixels and 1,000 classes: Ti/16 5.72 M, S/16 22.05, B/16
86.57, B/32 88.22, L/16 304.33, H/14 632.05.
Deviates: biases of the feed-forward blocks start at 0, in the released code at
    N(0, 1e-6).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.config import knob
from tfm_jax.layers.heads import Labels
from tfm_jax.layers.images.patches import ImageArch, ImageEncoder, resized
from tfm_jax.layers.linear import Linear, parameter
from tfm_jax.layers.norms import NORM_KINDS
from tfm_jax.layers.parts import PARTS
from tfm_jax.models.family import Family


class AttentionPool(nn.Module):
    """A learned query attends to all patches; a feed-forward block follows.

    Source: Zhai et al. 2022, arXiv:2106.04560, section 3.2, and the released code
    (big_vision). Deviates: no.
    Args (call): x: [B, P, D]. Returns: [B, D].
    """

    cfg: "Config"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        cfg = self.cfg
        init, shape = nn.initializers.glorot_uniform(), (1, cfg.width)
        probe = parameter(self, "probe", init, shape, (None, "embed"))
        # for all rows before it is rounded, so that gradients sum in float32
        probe = jnp.repeat(probe[None], len(x), axis=0).astype(x.dtype)
        y = PARTS["cross_attention"].build(cfg, 1.0, "attention")(probe, x, train=train)
        make, dtype = NORM_KINDS[cfg.norm_kind], jnp.dtype(cfg.dtype)
        z = make(epsilon=cfg.norm_eps, dtype=dtype, name="norm")(y)
        return (y + PARTS["feed_forward"].build(cfg, 1.0, "ffn")(z, train=train))[:, 0]


def _patches(head, x):
    return x[:, head.beside :]


# (head, x [B, T, D], train) -> [B, D]
POOLS: dict[str, Callable] = {
    "cls": lambda head, x, train: x[:, 0],  # Dosovitskiy et al. 2021, equation 4
    # of the patches' states, without [CLS]; Beyer et al. 2022, arXiv:2205.01580
    "mean": lambda head, x, train: jnp.mean(_patches(head, x), axis=1),
    "map": lambda head, x, train: head.attention_pool(_patches(head, x), train=train),
}


def _features(head, x, train):
    x = POOLS[head.cfg.pool](head, x, train)
    return jnp.tanh(head.representation(x)) if head.cfg.representation_width else x


# (head, x [B, T, D], train) -> float32
HEADS: dict[str, Callable] = {
    # [B, labels]
    "classify": lambda head, x, train: head.classify(
        _features(head, x, train), train=train
    ),
    # [B, D], what the classes are read from
    "features": lambda head, x, train: _features(head, x, train).astype(jnp.float32),
    # [B, T, D], of all tokens
    "states": lambda head, x, train: x.astype(jnp.float32),
}


@dataclasses.dataclass(frozen=True)
class Config(ImageArch):
    """Defaults are ViT-B/16."""

    pool: str = knob(
        "cls",
        "what stands for the image: [CLS], which only then there is, the mean of the "
        "patches, or a query that attends to them",
        choices=POOLS,
    )
    representation_width: int = knob(
        0,
        'tanh layer between the pooled state and the classes ("pre-logits"); 0: none',
        low=0,
        high=2**20,
    )
    head: str = knob("classify", "output head", choices=HEADS)
    labels: int = knob(1000, 'classes of the head "classify"', low=1, high=2**20)

    READ_WITH = {
        ("head", ("classify",)): ("labels",),
        ("head", ("classify", "features")): ("representation_width",),
    }


# Dosovitskiy et al. 2021, table 1; Touvron et al. 2021, table 1; and all patch sizes
_SIZES = {  # (depth, width, heads)
    "ti": (12, 192, 3),
    "s": (12, 384, 6),
    "b": (12, 768, 12),
    "l": (24, 1024, 16),
    "h": (32, 1280, 16),
}


def _size(depth, width, heads, patch, **rest):
    return dict(
        depth=depth,
        width=width,
        heads=heads,
        ffn_width=4 * width,
        patch_size=(patch,),
        **rest,
    )


SIZES = {"tiny": _size(2, 32, 4, 2, image_size=(8,))} | {
    f"{name}{patch}": _size(*size, patch)
    for name, size in _SIZES.items()
    for patch in (8, 14, 16, 32)
}


class ImageHead(nn.Module):
    """One of HEADS on the states of an encoder of images.

    The map to the classes is 0 at the start, as in the released code.

    Args (call): x: [B, T, D]. Returns: see HEADS.
    """

    cfg: Config
    beside: int  # tokens before the patches

    def setup(self):  # what is not called has no parameters
        cfg = self.cfg
        self.attention_pool = AttentionPool(cfg)
        self.representation = Linear(
            (cfg.representation_width,),
            ("embed", None),
            cfg.init,
            dtype=jnp.dtype(cfg.dtype),
        )
        self.classify = Labels(cfg, cfg.labels, 0.0, scale=0.0)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return HEADS[self.cfg.head](self, x, train)


class Vit(nn.Module):
    """Vision Transformer with the head ``cfg.head``.

    Args (call): batch: its ``images`` count, see ``ImageEncoder``.
    Returns: float32, see HEADS.
    """

    cfg: Config

    def setup(self):
        self.encoder = ImageEncoder(self.cfg, cls=self.cfg.pool == "cls")
        self.head = ImageHead(self.cfg, self.encoder.beside)

    def __call__(self, batch: Any, *, train: bool) -> jax.Array:
        return self.head(self.encode(batch, train=train), train=train)

    def encode(self, batch: Any, *, train: bool) -> jax.Array:
        """States of all tokens [B, T, D]."""
        return self.encoder(batch.images, train=train)


def for_size(params: Mapping, before: Config, now: Config) -> dict:
    """Parameters of images of another size; paths are keys."""
    path = "encoder/embedding/position/table"
    if path not in params or before.grid == now.grid:
        return dict(params)
    return {**params, path: resized(params[path], before, now)}


Model = Vit

FAMILY = Family(
    "vit",
    Config,
    Vit,
    SIZES,
    learns={"classify_images": ("classify",)},
    task_parameters=("head",),
    task_fields=frozenset({"head", "labels", "representation_width"}),
    below=("encoder/embedding", "encoder/stack/position_bias"),
    above=("encoder/stack/final_norm", "head"),
    fitted=frozenset({"image_size"}),
    fit=for_size,
)
