"""Bidirectional encoder of images: pixels, patches, their embedding and a stack."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.config import knob
from tfm_jax.layers.arch import Arch
from tfm_jax.layers.embed import PositionEmbedding
from tfm_jax.layers.linear import INITS, Dropout, Linear, constrain, parameter
from tfm_jax.layers.parts import Context
from tfm_jax.layers.positions import POSITIONS
from tfm_jax.layers.stack import Stack
from tfm_jax.ops.interpolation import INTERPOLATIONS, interpolate
from tfm_jax.ops.masks import Mask

LARGEST = 2**14  # pixels of a side of an image


@dataclasses.dataclass(frozen=True)
class PatchArch(Arch):
    """Fields of all models whose tokens are patches; defaults are those of ViT-B/16."""

    width: int = 768
    heads: int = 12
    ffn_width: int = 3072
    norm: str = "pre"
    positions: str = "learned"
    activation: str = "gelu_tanh"
    dropout: float = 0.0
    depth: int = knob(12, "layers", low=1, high=10_000)
    image_size: tuple[int, ...] = knob((224,), "pixels: HEIGHT,WIDTH, or both in one")
    patch_size: tuple[int, ...] = knob((16,), "pixels: HEIGHT,WIDTH, or both in one")
    channels: int = knob(3, "of a pixel", low=1, high=1024)

    def __post_init__(self):
        super().__post_init__()
        check_sizes(self, "image_size", "patch_size")
        if any(n % p for n, p in zip(self.image, self.patch, strict=True)):
            raise ValueError(
                f"model.patch_size={self.patch_size} must divide "
                f"model.image_size={self.image_size}"
            )

    @property
    def image(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return both(self.image_size)

    @property
    def patch(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return both(self.patch_size)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return grid_of(self.image, self.patch)

    def check(self, images: tuple[int, ...]) -> None:
        """Raises: ValueError for a batch of that shape that the model cannot read."""
        *size, channels = images[1:]
        if channels != self.channels:
            raise ValueError(
                f"images have {channels} channels, model.channels={self.channels}"
            )
        learned = POSITIONS[self.positions].learned
        fits = all(n % p == 0 for n, p in zip(size, self.patch, strict=True))
        if not fits or (learned and tuple(size) != self.image):
            must = f"model.image_size={self.image_size}"
            if not learned:
                must = f"multiples of model.patch_size={self.patch_size}"
            raise ValueError(f"images have {size[0]}x{size[1]} pixels, not {must}")


@dataclasses.dataclass(frozen=True)
class ImageArch(PatchArch):
    """Fields of all encoders of images."""

    init: str = "vit"
    pixel_mean: tuple[float, ...] = knob(
        (0.5,), "taken off pixels in [0, 1]: one for each channel, or for all"
    )
    pixel_std: tuple[float, ...] = knob(
        (0.5,), "and what they are divided by then: one for each channel, or for all"
    )
    registers: int = knob(
        0,
        "learned tokens beside the patches that no head reads",
        low=0,
        high=2**16,
    )
    position_resize: str = knob(
        "bicubic",
        "interpolation of a position table that init_from has for another image_size; "
        "zeros: it is learnt anew",
        role="initial",
        choices=INTERPOLATIONS,
    )

    READ_WITH = {
        ("positions", tuple(n for n, row in POSITIONS.items() if row.learned)): (
            "position_resize",
        ),
    }

    def __post_init__(self):
        super().__post_init__()
        for name in ("pixel_mean", "pixel_std"):
            value = getattr(self, name)
            if len(value) not in (1, self.channels):
                raise ValueError(
                    f"model.{name}={value} must be one number or one for each of "
                    f"model.channels={self.channels}"
                )
        if min(self.pixel_std) <= 0:
            raise ValueError(f"model.pixel_std={self.pixel_std} must be positive")


def check_sizes(cfg: Any, *names: str) -> None:
    """Raises: ValueError for a field that is no size of an image, or of a patch."""
    for name in names:
        value = getattr(cfg, name)
        if len(value) not in (1, 2) or not 1 <= min(value) <= max(value) <= LARGEST:
            raise ValueError(
                f"model.{name}={value} must be one or two integers from 1 to "
                f"{LARGEST:,}"
            )


def both(size: Sequence[int]) -> tuple[int, int]:
    """(height, width) of a knob that has both or one for both."""
    return size[0], size[-1]


def grid_of(image: Sequence[int], patch: Sequence[int]) -> tuple[int, int]:
    """(rows, columns) of patches of an image, both (height, width)."""
    return image[0] // patch[0], image[1] // patch[1]


def patches(images: jax.Array, patch: tuple[int, int]) -> jax.Array:
    """[B, height, width, C] -> [B, P, h, w, C], the patches row by row."""
    batch, *size, channels = images.shape
    (h, w), (rows, columns) = patch, grid_of(size, patch)
    x = images.reshape(batch, rows, h, columns, w, channels)
    return x.swapaxes(2, 3).reshape(batch, rows * columns, h, w, channels)


def from_patches(x: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """The inverse of ``patches``; [B, P, h, w, C], ``grid`` (rows, columns) of them."""
    batch, _, h, w, channels = x.shape
    rows, columns = grid
    x = x.reshape(batch, rows, columns, h, w, channels).swapaxes(2, 3)
    return x.reshape(batch, rows * h, columns * w, channels)


def grid_positions(grid: tuple[int, int]) -> jax.Array:
    """[1, P, 2] int: column x and row y of each patch, row by row."""
    rows, columns = jnp.divmod(jnp.arange(math.prod(grid)), grid[1])
    return jnp.stack([columns, rows], axis=-1)[None]


def resized(table: jax.Array, before: ImageArch, now: ImageArch) -> jax.Array:
    """A learned position table [T, D] for images of another size; [CLS] keeps its row.

    Source: Dosovitskiy et al. 2021, arXiv:2010.11929, section 3.2. Deviates: corners
    are not aligned, as they are in the released code.
    """
    patches = math.prod(before.grid)
    first, grid = table[:-patches], table[-patches:].reshape(*before.grid, -1)
    grid = interpolate(grid, now.grid, now.position_resize)
    return jnp.concatenate([first, grid.reshape(-1, table.shape[-1])])


class ImageEmbedding(nn.Module):
    """[CLS], registers and patches, with their positions.

    Source: Dosovitskiy et al. 2021, arXiv:2010.11929, equation 1; registers: Darcet et
    al. 2024, arXiv:2309.16588, behind [CLS] and without a position. Deviates: no; on a
    grid [CLS] has no position, as in the released code of Beyer et al. 2022.
    Args (call): images: [B, height, width, C] float. Returns: [B, T, D].
    """

    cfg: ImageArch
    cls: bool

    def setup(self):
        cfg, init = self.cfg, INITS[self.cfg.init]
        axes, dtype = (None, None, None, "embed"), jnp.dtype(cfg.dtype)
        pixels = init.patches or cfg.init
        self.patch = Linear((cfg.width,), axes, pixels, inputs=3, dtype=dtype)
        count = math.prod(cfg.grid) + self.cls
        self.position = PositionEmbedding(cfg.positions, count, cfg.init)
        if self.cls:
            zeros = nn.initializers.zeros
            self.first = parameter(self, "cls", zeros, (cfg.width,), ("embed",))
        if cfg.registers:
            drawn, shape = init.embedding(cfg.width), (cfg.registers, cfg.width)
            axes = (None, "embed")
            self.register = parameter(self, "registers", drawn, shape, axes)
        self.dropout = Dropout(cfg.dropout)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        cfg, one = self.cfg, int(self.cls)
        on_grid = POSITIONS[cfg.positions].axes == 2
        x = self.patch(patches(images, cfg.patch))

        def beside(tokens):
            tokens = tokens.reshape(1, -1, cfg.width)
            # for all rows before it is rounded, so that gradients sum in float32
            return jnp.repeat(tokens, len(x), axis=0).astype(x.dtype)

        if on_grid:
            grid = grid_of(images.shape[1:3], cfg.patch)
            x = self.position(x, grid_positions(grid))
        if self.cls:
            x = jnp.concatenate([beside(self.first), x], axis=1)
        if not on_grid:
            x = self.position(x, jnp.arange(x.shape[1])[None])
        if cfg.registers:
            parts = [x[:, :one], beside(self.register), x[:, one:]]
            x = jnp.concatenate(parts, axis=1)
        return self.dropout(x, train=train)


class ImageEncoder(nn.Module):
    """Embedding of patches, and a bidirectional stack.

    Args (call): images: [B, height, width, C]; integers are pixels in 0 .. 255, floats
        have their mean and deviation already.
    Returns: [B, T, D], of [CLS] if there is one, of the registers, of the patches.
    Raises: ValueError for images of another size than a learned table of positions is
        for, that no whole number of patches fills, or with other channels.
    """

    cfg: ImageArch
    cls: bool = True  # a token beside the patches, for the head to read

    def setup(self):
        self.embedding = ImageEmbedding(self.cfg, self.cls)
        self.stack = Stack(self.cfg, self.cfg.depth, causal=False)

    @property
    def beside(self) -> int:
        """How many tokens stand before the patches."""
        return int(self.cls) + self.cfg.registers

    def __call__(self, images: Any, *, train: bool) -> jax.Array:
        cfg = self.cfg
        if self.is_initializing():  # no parameter's shape is a batch's
            images = jnp.zeros((1, *cfg.image, cfg.channels), jnp.asarray(images).dtype)
        cfg.check(images.shape)
        x = self.embedding(self._pixels(images), train=train)
        x = constrain(x, "batch", "length", "embed")
        if POSITIONS[cfg.positions].axes == 2:
            grid = grid_positions(grid_of(images.shape[1:3], cfg.patch))
            positions = jnp.pad(grid, ((0, 0), (self.beside, 0), (0, 0)))
        else:
            positions = jnp.arange(x.shape[1])[None]
        return self.stack(x, positions, Context(Mask()), train=train)

    def _pixels(self, images):
        images = jnp.asarray(images)
        if jnp.issubdtype(images.dtype, jnp.integer):
            mean, std = (
                jnp.asarray(x) for x in (self.cfg.pixel_mean, self.cfg.pixel_std)
            )
            images = (images.astype(jnp.float32) / 255 - mean) / std
        return images.astype(self.cfg.dtype)
