"""U-Nets that denoise: DDPM's, with ADM's heads and norms, and latent diffusion's.

Source: Ho et al. 2020, arXiv:2006.11239, appendix B, and released code; Dhariwal and
Nichol 2021, arXiv:2105.05233 (``heads``, ``head_size``, ``modulation``); Rombach et al.
2022, arXiv:2112.10752 (``attention_block="transformer"``).
Parameters: CIFAR-10 35,746,307, as Ho et al.
Deviates: maps that start at 1e-10 of their usual scale in Ho et al.'s code start at 0.
    A time becomes waves as in that code; those of ADM and latent diffusion are others
    (``WAVES``: "cos_sin"), so that their released weights fit no model here. Tables of
    labels start as N(0, 1/D), theirs as N(0, 1).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.config import Above, ConfigError, check_numbers, knob
from tfm_jax.data.batch import NoisyBatch
from tfm_jax.layers.arch import REMATS, Arch, Execution
from tfm_jax.layers.images.condition import LabelEmbedding, TimeEmbedding
from tfm_jax.layers.images.feature_maps import (
    INIT,
    MODULATIONS,
    Convolution,
    MapAttention,
    ResidualBlock,
    SpatialTransformer,
    group_norm,
)
from tfm_jax.layers.images.patches import both, check_sizes
from tfm_jax.layers.parts import Context, Memory
from tfm_jax.models.family import Family
from tfm_jax.ops.diffusion import OUTPUTS

# attention over a map -> (module, fields of its Arch)
ATTENTION_BLOCKS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "plain": (MapAttention, dict()),
    "transformer": (
        SpatialTransformer,
        dict(norm="pre", norm_eps=1e-5, biases="not_qkv", activation="geglu"),
    ),
}
CONDITIONINGS = ("time", "cross_attention")


@dataclasses.dataclass(frozen=True)
class Config(Execution, choices={"layout": ("unrolled",)}):
    """Defaults are DDPM's for CIFAR-10."""

    image_size: tuple[int, ...] = knob((32,), "pixels: HEIGHT,WIDTH, or both in one")
    channels: int = knob(3, "of a pixel", low=1, high=1024)
    width: int = knob(128, "channels of the first level", low=4, high=2**20)
    multipliers: tuple[int, ...] = knob(
        (1, 2, 2, 2), "channels of each level, in widths; a level halves the map"
    )
    depth: int = knob(2, "residual blocks of a level", low=1, high=1000)
    attention_at: tuple[int, ...] = knob(
        (16,), "heights of maps with attention behind each block; the smallest has one"
    )
    attention_block: str = knob(
        "plain", "attention over a map", choices=ATTENTION_BLOCKS
    )
    transformer_depth: int = knob(1, "layers of a Transformer", low=1, high=1000)
    heads: int = knob(1, "attention heads", low=1, high=2**20)
    head_size: int = knob(
        0, "channels of a head, instead of their number; 0: heads", low=0, high=2**20
    )
    modulation: str = knob(
        "shift", "of residual blocks by the time", choices=MODULATIONS
    )
    groups: int = knob(32, "of the group norms", low=1, high=2**20)
    norm_eps: float = knob(1e-6, "epsilon of the norms", low=0.0, high=1.0)
    dropout: float = knob(0.1, "in residual blocks", role="training", low=0, below=1)
    labels: int = knob(0, "classes to be conditioned on; 0: none", low=0, high=2**24)
    conditioning: str = knob(
        "time", "how a label acts: added to the time, or read", choices=CONDITIONINGS
    )
    label_dropout: float = knob(
        0.1, "of whole labels, for guidance", role="training", low=0, below=1
    )
    variance: str = knob(
        "fixed", "of a step back; learned: as many channels more", choices=OUTPUTS
    )

    READ_WITH = {
        ("attention_block", ("transformer",)): ("transformer_depth",),
        ("head_size", (0,)): ("heads",),
        ("labels", Above(0)): ("conditioning", "label_dropout"),
    }

    def __post_init__(self):
        check_numbers(self, "model")
        check_sizes(self, "image_size")
        if not self.multipliers or min(self.multipliers) < 1:
            raise ValueError(
                f"model.multipliers={self.multipliers} must be positive integers"
            )
        if any(size % self.shrinks for size in self.image_size):
            raise ValueError(
                f"model.image_size={self.image_size} must be a multiple of "
                f"{self.shrinks} with {len(self.multipliers)} model.multipliers"
            )
        if self.width % 2:
            raise ValueError(f"model.width={self.width} must be even")
        widths = [self.width, *(self.width * m for m in self.multipliers)]
        for knob_name in ("groups", "heads", "head_size"):
            by = getattr(self, knob_name)
            if by and any(width % by for width in widths):
                raise ValueError(
                    f"model.{knob_name}={by} must divide the channels of each level, "
                    f"{widths[1:]}"
                )
        if self.conditioning == "cross_attention" and (
            self.attention_block != "transformer"
        ):
            raise ValueError(
                "model.conditioning='cross_attention' needs "
                "model.attention_block=transformer"
            )

    @property
    def image(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return both(self.image_size)

    @property
    def shrinks(self) -> int:
        """How many pixels a side one of the smallest map stands for."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def heights(self) -> tuple[int, ...]:
        """Of the maps of each level, in pixels."""
        return tuple(self.image[0] // 2**i for i in range(len(self.multipliers)))

    def attends(self, level: int) -> bool:
        """Whether each block of a level has attention behind it."""
        return self.heights[level] in self.attention_at

    def arch(self, width: int) -> Arch:
        """Of attention over maps of ``width`` channels."""
        return Arch(
            width=width,
            heads=width // self.head_size if self.head_size else self.heads,
            ffn_width=4 * width,
            positions="none",
            dropout=0.0,
            init=INIT,
            dtype=self.dtype,
            remat=self.remat,
            attention=self.attention,
            **ATTENTION_BLOCKS[self.attention_block][1],
        )


SIZES: dict[str, dict[str, Any]] = {
    "cifar10": dict(),  # Ho et al. 2020, appendix B
    "lsun": dict(  # the same, 256 x 256
        image_size=(256,), multipliers=(1, 1, 2, 2, 4, 4), dropout=0.0
    ),
    "tiny": dict(
        image_size=(8,),
        width=32,
        multipliers=(1, 2),
        depth=1,
        attention_at=(4,),
        groups=8,
    ),
}


class UNet(nn.Module):
    """Prediction of noise, image or velocity from an image with noise.

    Args (call): batch: ``NoisyBatch``; images whose sides the smallest map divides.
    Returns: [B, H, W, C] float32, 2 C channels with a learned variance.
    Raises: ValueError for images of another size or with other channels.
    """

    cfg: Config

    @nn.compact
    def __call__(self, batch: NoisyBatch, *, train: bool) -> jax.Array:
        cfg, dtype = self.cfg, jnp.dtype(self.cfg.dtype)
        if self.is_initializing():  # no parameter's shape is a batch's
            images = jnp.zeros((1, *cfg.image, cfg.channels))
            batch = NoisyBatch(images, jnp.zeros(1), jnp.zeros(1, jnp.int32))
        images, times, labels = batch
        self._check(images.shape)
        condition = TimeEmbedding(
            "sin_cos", cfg.width, 4 * cfg.width, INIT, dtype, name="time"
        )(times)
        context = Context()
        if cfg.labels:
            embed = LabelEmbedding(
                cfg.labels, 4 * cfg.width, cfg.label_dropout, INIT, dtype, name="label"
            )
            label = embed(labels, train=train)
            if cfg.conditioning == "time":
                condition += label
            else:
                context = Context(memories={"condition": Memory(label[:, None])})

        def block(name, x, width, attends):
            def run(model, x, condition, context):
                return model.block(name, x, width, attends, condition, context, train)

            if policy := REMATS[cfg.remat]:
                run = nn.remat(run, policy=policy)
            return run(self, x, condition, context)

        x = Convolution(cfg.width, dtype, name="first")(images.astype(dtype))
        maps, last = [x], len(cfg.multipliers) - 1
        for level, multiplier in enumerate(cfg.multipliers):
            width, name = cfg.width * multiplier, f"down_{level}"
            for i in range(cfg.depth):
                x = block(f"{name}_{i}", x, width, cfg.attends(level))
                maps.append(x)
            if level < last:
                x = Convolution(width, dtype, 2, name=f"{name}_halve")(x)
                maps.append(x)
        x = block("middle_0", x, width, True)
        x = block("middle_1", x, width, False)
        for level in reversed(range(last + 1)):
            width, name = cfg.width * cfg.multipliers[level], f"up_{level}"
            for i in range(cfg.depth + 1):
                x = jnp.concatenate([x, maps.pop()], axis=-1)
                x = block(f"{name}_{i}", x, width, cfg.attends(level))
            if level:
                x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
                x = Convolution(width, dtype, name=f"{name}_double")(x)
        x = nn.silu(group_norm(cfg.groups, cfg.norm_eps, dtype, "final_norm")(x))
        outputs = cfg.channels * OUTPUTS[cfg.variance]
        x = Convolution(outputs, scale=0.0, name="final")(x)
        return x.astype(jnp.float32)

    def block(
        self,
        name: str,
        x: jax.Array,
        width: int,
        attends: bool,
        condition: jax.Array,
        context: Context,
        train: bool,
    ) -> jax.Array:
        """A residual block to ``width`` channels, with attention behind it or not."""
        cfg = self.cfg
        common = cfg.groups, cfg.norm_eps
        x = ResidualBlock(
            width,
            *common,
            cfg.dropout,
            cfg.modulation,
            jnp.dtype(cfg.dtype),
            name=f"{name}_residual",
        )(x, condition, train=train)
        if not attends:
            return x
        make, _ = ATTENTION_BLOCKS[cfg.attention_block]
        attention = make(
            cfg.arch(width), cfg.transformer_depth, *common, name=f"{name}_attention"
        )
        return attention(x, context, train=train)

    def _check(self, shape):
        cfg, (*size, channels) = self.cfg, shape[1:]
        if channels != cfg.channels:
            raise ValueError(
                f"images have {channels} channels, model.channels={cfg.channels}"
            )
        if any(side % cfg.shrinks for side in size):
            raise ValueError(
                f"images have {size[0]}x{size[1]} pixels, not multiples of "
                f"{cfg.shrinks}, with {len(cfg.multipliers)} model.multipliers"
            )


Model = UNet


def _check_new(cfg):
    """Runs of before have attention in the middle alone where it is at no map."""
    if not {*cfg.attention_at} <= {*cfg.heights}:
        raise ConfigError(
            f"model.attention_at={cfg.attention_at} must be heights of the maps, which "
            f"are {cfg.heights}, or () for attention in the middle alone"
        )


FAMILY = Family(
    "unet", Config, UNet, SIZES, learns={"denoise": ()}, check_new=_check_new
)
