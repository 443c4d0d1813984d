"""Resampler: the states of an image or video as few tokens, for cross-attention."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.config import check_numbers, knob
from tfm_jax.layers.arch import Arch
from tfm_jax.layers.linear import parameter
from tfm_jax.layers.parts import ENCODER, FFN, Context, Memory, Part
from tfm_jax.layers.stack import Stack
from tfm_jax.ops.masks import Mask

LATENT = Part("latent_attention", "latent_attention", memory="image")


class Kind(NamedTuple):
    """Parts of a layer, () for no layers; whether latents go through them."""

    parts: tuple[Part, ...]
    latents: bool = False


# Alayrac et al. 2022, arXiv:2204.14198, section 3.3, table 3 (vi)
RESAMPLERS = {
    "perceiver": Kind((LATENT, FFN), latents=True),
    "transformer": Kind(ENCODER),  # of the states themselves, as many as they are
    "mlp": Kind((FFN,)),
    "none": Kind(()),
}
_WITH_LAYERS = tuple(name for name, row in RESAMPLERS.items() if row.parts)
_WITH_ATTENTION = tuple(n for n, row in RESAMPLERS.items() if len(row.parts) > 1)
_WITH_LATENTS = tuple(name for name, row in RESAMPLERS.items() if row.latents)


@dataclasses.dataclass(frozen=True)
class ResamplerConfig:
    """Defaults are those of all published Flamingo models."""

    kind: str = knob(
        "perceiver", "how states of an image become its tokens", choices=RESAMPLERS
    )
    depth: int = knob(6, "layers", low=1, high=10_000)
    latents: int = knob(64, "tokens of an image or of a video", low=1, high=2**16)
    heads: int = knob(16, "attention heads", low=1, high=2**20)
    key_size: int = knob(
        0, "of keys and values, per head; 0: width / heads", low=0, high=2**20
    )
    ffn_width: int = knob(0, "d_ff; 0: 4 times the width", low=0, high=2**20)
    frames: int = knob(
        8,
        "of a video, each with a learned embedding; an image is one",
        low=1,
        high=2**16,
    )

    READ_WITH = {
        ("kind", _WITH_LAYERS): ("depth", "ffn_width"),
        ("kind", _WITH_ATTENTION): ("heads", "key_size"),
        ("kind", _WITH_LATENTS): ("latents",),
    }

    def __post_init__(self):
        check_numbers(self, "model.resampler")

    def arch(self, width: int, **rest: Any) -> Arch:
        """Of its layers, for states of ``width``.

        Raises: ValueError if the heads do not divide it.
        """
        if self.kind in _WITH_ATTENTION and not self.key_size and width % self.heads:
            raise ValueError(
                f"model.resampler.heads={self.heads} must divide {width}, the width of "
                "the image's states, or set model.resampler.key_size"
            )
        size = self.key_size or max(width // self.heads, 1)
        return Arch(
            width=width,
            heads=self.heads,
            key_size=size,
            value_size=size,
            ffn_width=self.ffn_width or 4 * width,
            norm="pre",
            norm_eps=1e-5,
            positions="none",
            biases="none",
            dropout=0.0,
            **rest,
        )


class Resampler(nn.Module):
    """Latent queries, or the states themselves, through some layers.

    The embedding of its frame is added to each state; spatial positions are not, which
    the encoder has added. For more frames than embeddings these are interpolated.

    Source: Alayrac et al. 2022, arXiv:2204.14198, section 2.1, figure 5 and appendix
    A.1.1. Deviates: no.
    Args (call): x: [B, frames, P, D], states of the patches of each frame.
    Returns: [B, latents, D], or without latents [B, frames P, D].
    """

    cfg: ResamplerConfig
    arch: Arch  # see ``ResamplerConfig.arch``

    def setup(self):
        cfg, row, width = self.cfg, RESAMPLERS[self.cfg.kind], self.arch.width

        def table(name, rows, deviation):
            init = nn.initializers.normal(deviation)
            return parameter(self, name, init, (rows, width), (None, "embed"))

        self.frame = table("frame", cfg.frames, 0.02)
        if row.latents:
            self.latents = table("latents", cfg.latents, 1.0)
        if row.parts:
            pattern = (row.parts,)
            self.stack = Stack(self.arch, cfg.depth, causal=False, pattern=pattern)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        batch, frames, _, width = x.shape
        row, vectors = RESAMPLERS[self.cfg.kind], self.frame[:frames]
        if frames > self.cfg.frames:
            vectors = jax.image.resize(self.frame, (frames, width), "linear")
        # for all rows before it is rounded, so that gradients sum in float32
        vectors = jnp.broadcast_to(vectors[:, None], x.shape)
        states = (x + vectors.astype(x.dtype)).reshape(batch, -1, width)
        if not row.parts:
            return states
        y = states
        if row.latents:
            y = jnp.repeat(self.latents[None], batch, axis=0).astype(x.dtype)
        context = Context(Mask(), memories={"image": Memory(states)})
        return self.stack(y, jnp.arange(y.shape[1])[None], context, train=train)
