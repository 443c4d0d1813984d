"""Execution, Arch, TextArch: fields of all models, of those of our blocks, of text."""

import dataclasses
from typing import Any

import jax

from tfm_jax.config import check_numbers, inherit, knob
from tfm_jax.layers.linear import BIASES, INITS, RESIDUAL_INITS
from tfm_jax.layers.norms import NORM_KINDS
from tfm_jax.layers.positions import POSITIONS
from tfm_jax.layers.residual import NORM_PLACEMENTS
from tfm_jax.ops.activations import ACTIVATIONS
from tfm_jax.ops.attention import IMPLEMENTATIONS, KERNELS, SCORES, beyond_fused
from tfm_jax.ops.masks import MASK_STYLES, Mask

DTYPES = ("float32", "bfloat16")
LAYOUTS = ("unrolled", "scanned")
ALONG_ROWS = tuple(name for name, scheme in POSITIONS.items() if scheme.axes == 1)
REMATS = {  # -> what of a layer is kept; None: all that its parts keep
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    # but for the weights of attention; Korthikanti et al. 2022, arXiv:2205.05198
    "attention": None,
}


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a model is computed, not what: all that is asked of a model of any family.

    A subclass changes a default by ``name: type = value`` alone; help, role and legal
    values stay. One that lacks some of the choices names those that it has:
    ``class Config(Execution, choices={"layout": ("unrolled",)})``. The section of a
    part of a model ``fixes`` what the whole decides, and has no such knobs:
    ``class Vision(vit.Config, fixed=EXECUTION | {"head": "states"})``.
    """

    dtype: str = knob("float32", "of activations", role="execution", choices=DTYPES)
    layout: str = knob(
        "unrolled",
        "one compiled body for each layer, or one scan over all of them",
        role="execution",
        choices=LAYOUTS,
    )
    remat: str = knob(
        "none",
        "what the backward pass computes again instead of keeping it: all but products "
        "with parameters (dots), all (full), weights of attention (attention)",
        role="execution",
        choices=REMATS,
    )
    attention: str = knob(
        "auto",
        "implementation; auto: cudnn on GPUs, splash on TPUs for 128 tokens or more, "
        "where they can do what is asked, else xla",
        role="execution",
        choices=IMPLEMENTATIONS,
    )

    def __init_subclass__(cls, *, choices=None, fixed=None, **options):
        super().__init_subclass__(**options)
        inherit(cls, choices, fixed)

    @property
    def execution(self) -> dict[str, Any]:
        """What the parts of a model have from the whole, see ``config.widened``."""
        return {name: getattr(self, name) for name in EXECUTION}

    @property
    def longest(self) -> int:
        """Tokens of a row at most; 0: as many as there is memory for."""
        return 0

    def unsupported(
        self,
        kernel: str = "",
        *,
        causal: bool = False,
        packed: bool = False,
        train: bool = False,
    ) -> str:
        """What a kernel cannot do of this model, in words; "" if nothing.

        Args:
            kernel: a key of ``KERNELS``; "": ``attention``.
            causal: no layer sees future tokens. packed: rows hold several documents.
            train: in training, too.
        """
        return ""


EXECUTION = {field.name: field.default for field in dataclasses.fields(Execution)}


@dataclasses.dataclass(frozen=True)
class Arch(Execution):
    """Models made of our blocks; Vaswani et al. 2017, table 3, row "base"."""

    width: int = knob(512, "d_model", low=1, high=2**20)
    heads: int = knob(8, "attention heads", low=1, high=2**20)
    key_size: int = knob(0, "d_k, per head; 0: width / heads", low=0, high=2**20)
    value_size: int = knob(0, "d_v, per head; 0: width / heads", low=0, high=2**20)
    ffn_width: int = knob(2048, "d_ff", low=1, high=2**20)
    norm: str = knob("post", "placement of the norms", choices=NORM_PLACEMENTS)
    norm_kind: str = knob("layernorm", "kind of the norms", choices=NORM_KINDS)
    norm_eps: float = knob(1e-6, "epsilon of the norms", low=0.0, high=1.0)
    residual: bool = knob(True, "residual connections")
    positions: str = knob("sinusoidal", "position scheme", choices=POSITIONS)
    score: str = knob("scaled_dot", "logit of a query and a key", choices=SCORES)
    mask_style: str = knob(
        "before",
        "whether keys are hidden before or after the softmax",
        choices=MASK_STYLES,
    )
    windows: tuple[int, ...] = knob(
        (),
        "layer l sees windows[l % len] keys on either side, itself included; 0: all; "
        "(): 0",
    )
    biases: str = knob("all", "which affine maps have a bias", choices=BIASES)
    activation: str = knob("relu", "of the feed-forward block", choices=ACTIVATIONS)
    dropout: float = knob(
        0.1,
        "on every sub-layer's output and on embedding + position",
        role="training",
        low=0,
        below=1,
    )
    attention_dropout: float = knob(
        0.0, "on the attention weights", role="training", low=0, below=1
    )
    activation_dropout: float = knob(
        0.0, "inside the feed-forward block", role="training", low=0, below=1
    )
    init: str = knob(
        "glorot", "distribution of kernels and tables", role="initial", choices=INITS
    )
    residual_init: str = knob(
        "plain", "of maps that end sub-layers", role="initial", choices=RESIDUAL_INITS
    )

    READ_WITH = {
        ("norm_kind", tuple(n for n in NORM_KINDS if n != "none")): ("norm_eps",),
    }

    def __post_init__(self):
        check_numbers(self, "model")
        if (not self.key_size or not self.value_size) and self.width % self.heads:
            raise ValueError(
                f"model.heads={self.heads} must divide model.width={self.width}, "
                "or set model.key_size and model.value_size"
            )
        scheme = POSITIONS[self.positions]
        of, fits = 2 * scheme.axes, {1: "even", 2: "a multiple of 4"}[scheme.axes]
        if scheme.rotates and self.head_key_size % of:
            raise ValueError(
                f"model.key_size={self.head_key_size} must be {fits} with "
                f"model.positions={self.positions!r}"
            )
        if scheme.vectors and self.width % of:
            raise ValueError(
                f"model.width={self.width} must be {fits} with "
                f"model.positions={self.positions!r}"
            )
        if min(self.windows, default=0) < 0:
            raise ValueError(f"model.windows={self.windows} must not be negative")

    def window(self, layer: int) -> int:
        """How many keys layer ``layer`` sees on either side; 0 is all."""
        return self.windows[layer % len(self.windows)] if self.windows else 0

    def unsupported(
        self,
        kernel: str = "",
        *,
        causal: bool = False,
        packed: bool = False,
        train: bool = False,
    ) -> str:
        """See ``Execution``; by the kernel's own rule."""
        kernel = kernel or self.attention
        if kernel not in KERNELS:
            return ""
        q, v = (
            jax.ShapeDtypeStruct((1, 1, self.heads, size), self.dtype)
            for size in (self.head_key_size, self.head_value_size)
        )
        window = max(self.windows, default=0) or None
        segments: Any = packed or None  # of which only matters whether there are any
        mask = Mask(causal=causal, window=window, q_segments=segments)
        bias = POSITIONS[self.positions].bias or None
        asked = (q, v, bias, mask, self.score, self.mask_style, None)
        lacks = [beyond_fused(kernel, *asked)]
        if train and self.attention_dropout:
            lacks.append(f"model.attention_dropout={self.attention_dropout}")
        return ", ".join(filter(None, lacks))

    @property
    def head_key_size(self) -> int:
        return self.key_size or self.width // self.heads

    @property
    def head_value_size(self) -> int:
        return self.value_size or self.width // self.heads


@dataclasses.dataclass(frozen=True)
class TextArch(Arch, choices={"positions": ALONG_ROWS}):
    """Those that read rows of tokens."""

    embedding_scale: bool = knob(
        False,
        "token vectors times sqrt(width), else next to nothing beside sinusoids; "
        "Vaswani et al. 2017, section 3.4",
    )
    max_length: int = knob(
        512, "rows of a learned position table; nothing else", low=1, high=2**24
    )

    READ_WITH = {
        ("positions", tuple(n for n, row in POSITIONS.items() if row.learned)): (
            "max_length",
        ),
    }

    @property
    def longest(self) -> int:
        """Tokens of a row at most; 0: as many as there is memory for."""
        return self.max_length if POSITIONS[self.positions].learned else 0
