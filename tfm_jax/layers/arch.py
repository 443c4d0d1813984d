"""Arch: the fields that every architecture built from the shared blocks has."""

import dataclasses

from tfm_jax.config import bounded, check_numbers, choice
from tfm_jax.layers.linear import BIASES, INITS, RESIDUAL_INITS
from tfm_jax.layers.positions import POSITIONS
from tfm_jax.layers.residual import NORM_KINDS, NORM_PLACEMENTS
from tfm_jax.ops.activations import ACTIVATIONS
from tfm_jax.ops.attention import IMPLEMENTATIONS, SCORES
from tfm_jax.ops.masks import MASK_STYLES

LAYOUTS = ("unrolled", "scanned")
REMATS = ("none", "full", "dots")


@dataclasses.dataclass(frozen=True)
class Arch:
    """Shared fields; defaults are Vaswani et al. 2017, table 3, row "base"."""

    width: int = bounded(512, 1, 2**20)  # d_model
    heads: int = bounded(8, 1, 2**20)
    key_size: int = bounded(0, 0, 2**20)  # d_k, per head; 0: width / heads
    value_size: int = bounded(0, 0, 2**20)  # d_v, per head; 0: width / heads
    ffn_width: int = bounded(2048, 1, 2**20)  # d_ff
    norm: str = choice(NORM_PLACEMENTS, "post")
    norm_kind: str = choice(NORM_KINDS, "layernorm")
    norm_eps: float = bounded(1e-6, 0.0, 1.0)
    residual: bool = True
    positions: str = choice(POSITIONS, "sinusoidal")
    # rows of a learned position table; nothing else
    max_length: int = bounded(512, 1, 2**24)
    score: str = choice(SCORES, "scaled_dot")
    mask_style: str = choice(MASK_STYLES, "before")
    attention: str = choice(IMPLEMENTATIONS, "auto")
    # layer l sees windows[l % len] keys on either side, itself included; 0: all; (): 0
    windows: tuple[int, ...] = ()
    biases: str = choice(BIASES, "all")  # which affine maps have one
    activation: str = choice(ACTIVATIONS, "relu")
    dropout: float = 0.1  # on every sub-layer's output and on embedding + position
    attention_dropout: float = 0.0  # on the attention weights
    activation_dropout: float = 0.0  # inside the feed-forward block
    init: str = choice(INITS, "glorot")
    residual_init: str = choice(RESIDUAL_INITS, "plain")  # of maps that end sub-layers
    dtype: str = choice(("float32", "bfloat16"), "float32")  # of activations
    layout: str = choice(LAYOUTS, "unrolled")  # one compiled body a layer, or one scan
    remat: str = choice(REMATS, "none")  # what the backward pass computes again

    READ_WITH = {
        ("positions", tuple(n for n, row in POSITIONS.items() if row.learned)): (
            "max_length",
        ),
        ("norm_kind", tuple(n for n in NORM_KINDS if n != "none")): ("norm_eps",),
    }

    def __post_init__(self):
        check_numbers(self, "model")
        if (not self.key_size or not self.value_size) and self.width % self.heads:
            raise ValueError(
                f"model.heads={self.heads} must divide model.width={self.width}, "
                "or set model.key_size and model.value_size"
            )
        if POSITIONS[self.positions].rotates and self.head_key_size % 2:
            raise ValueError(
                f"model.key_size={self.head_key_size} must be even with "
                f"model.positions={self.positions!r}"
            )
        if POSITIONS[self.positions].vectors and self.width % 2:
            raise ValueError(
                f"model.width={self.width} must be even with "
                f"model.positions={self.positions!r}"
            )
        for name in ("dropout", "attention_dropout", "activation_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(
                    f"model.{name}={getattr(self, name)} must be in [0, 1)"
                )
        if min(self.windows, default=0) < 0:
            raise ValueError(f"model.windows={self.windows} must not be negative")

    def window(self, layer: int) -> int:
        """How many keys layer ``layer`` sees on either side; 0 is all."""
        return self.windows[layer % len(self.windows)] if self.windows else 0

    @property
    def longest(self) -> int:
        """Tokens of a row at most; 0: as many as there is memory for."""
        return self.max_length if POSITIONS[self.positions].learned else 0

    @property
    def head_key_size(self) -> int:
        return self.key_size or self.width // self.heads

    @property
    def head_value_size(self) -> int:
        return self.value_size or self.width // self.heads
