"""Stacks of gated convolutions with multi-step attention.

Source: Gehring et al. 2017, arXiv:1705.03122, as released (fairseq, models/fconv.py),
which halves the variance of queries too.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.config import check_numbers, knob
from tfm_jax.layers.arch import REMATS, Execution
from tfm_jax.layers.linear import PLAIN_INITS, Dropout, Linear, constrain
from tfm_jax.ops.attention import attention
from tfm_jax.ops.convolution import unfold
from tfm_jax.ops.masks import Mask

HALF = 0.5**0.5  # keeps the variance of a sum of two
PROJECTIONS = ("per_layer", "shared")


@dataclasses.dataclass(frozen=True)
class ConvolutionalArch(
    Execution, choices={"layout": ("unrolled",), "attention": ("auto", "xla")}
):
    """Fields of the stacks; defaults are the paper's WMT'14 English to German."""

    embedding_width: int = knob(
        768, "of token vectors, keys and values", low=1, high=2**20
    )
    encoder_widths: tuple[int, ...] = knob(
        (512,) * 10 + (768,) * 3 + (2048,) * 2, "of the states of each layer"
    )
    encoder_kernels: tuple[int, ...] = knob(
        (3,) * 13 + (1,) * 2, "columns that each layer reads; a single one: all layers"
    )
    decoder_widths: tuple[int, ...] = knob(
        (512,) * 10 + (768,) * 3 + (2048,) * 2, "of the states of each layer"
    )
    decoder_kernels: tuple[int, ...] = knob(
        (3,) * 13 + (1,) * 2, "columns that each layer reads; a single one: all layers"
    )
    attention_layers: tuple[int, ...] = knob(
        (), "of the decoder, from 0, or from -1 backwards; (): all"
    )
    attention_projections: str = knob(
        "per_layer", "maps of queries and of what is attended to", choices=PROJECTIONS
    )
    length_scale: bool = knob(True, "what is attended to times sqrt(source tokens)")
    weight_norm: bool = knob(True, "length and direction of weights are learned apart")
    dropout: float = knob(
        0.2,
        "on embedding + position, on every convolution's input and before the logits; "
        "initial kernels of those maps shrink by sqrt(1 - dropout)",
        role="training",
        low=0,
        below=1,
    )
    init: str = knob(
        "normal_fan_in",
        "distribution of kernels, twice as wide in convolutions, and tables",
        role="initial",
        choices=PLAIN_INITS,
    )

    def __post_init__(self):
        check_numbers(self, "model")
        for stack in ("encoder", "decoder"):
            self._check_layers(stack)
        depth = len(self.decoder_widths)
        if not all(-depth <= layer < depth for layer in self.attention_layers):
            raise ValueError(
                f"model.attention_layers={self.attention_layers} must be from {-depth} "
                f"to {depth - 1}, for the layers of model.decoder_widths"
            )
        widths = {self.decoder_widths[layer] for layer in self.attending}
        if self.attention_projections == "shared" and len(widths) > 1:
            raise ValueError(
                "model.attention_projections='shared' needs layers of one width, not "
                f"model.decoder_widths={self.decoder_widths}; choose per_layer"
            )

    def _check_layers(self, stack):
        names = [f"{stack}_widths", f"{stack}_kernels"]
        widths, kernels = (getattr(self, name) for name in names)
        for name, high in zip(names, (2**20, 2**10), strict=True):
            numbers = getattr(self, name)
            if not numbers or not all(1 <= n <= high for n in numbers):
                raise ValueError(
                    f"model.{name}={numbers} must be numbers from 1 to {high:,}"
                )
        if len(kernels) not in (1, len(widths)):
            raise ValueError(
                f"model.{names[1]}={kernels} must be one number, or one for each of "
                f"model.{names[0]}={widths}"
            )

    @property
    def attending(self) -> frozenset[int]:
        """Decoder layers with attention."""
        depth = len(self.decoder_widths)
        return frozenset(n % depth for n in self.attention_layers or range(depth))

    @property
    def kept(self) -> float:
        """Factor on initial kernels of maps of what has gone through dropout."""
        return (1.0 - self.dropout) ** 0.5


class Memory(NamedTuple):
    """What decoders attend to: keys and values [B, S, E]."""

    key: jax.Array
    value: jax.Array


class Context(NamedTuple):
    """What a decoder layer reads besides x.

    Attributes:
        target: [B, T, E] token vectors of the target, which join the queries.
        memory: what is attended to. mask: which of it.
    """

    target: jax.Array
    memory: Memory
    mask: Mask


def affine(
    cfg: ConvolutionalArch,
    features: tuple[int, ...],
    output: str = "mlp",
    *,
    inputs: int = 1,
    scale: float = 1.0,
    **options: Any,
) -> Linear:
    """``Linear``, of unfolded columns, as a convolution is one, if ``inputs`` is 2.

    Args: output: logical name of the output's last axis.
    """
    axes = ("embed", *(None,) * (len(features) - 1), output)
    return Linear(
        features,
        (*(None,) * (inputs - 1), *axes),
        cfg.init,
        inputs,
        dtype=jnp.dtype(cfg.dtype),
        scale=scale,
        weight_norm=cfg.weight_norm,
        **options,
    )


class CrossAttention(nn.Module):
    """One step of the multi-step attention. Source: section 3.3."""

    cfg: ConvolutionalArch
    query: nn.Module
    out: nn.Module

    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        """States [B, T, C] -> [B, T, C]."""
        queries = (self.query(x) + context.target) * HALF
        records = self.is_mutable_collection("intermediates")

        def record(weights):
            self.sow("intermediates", "weights", weights)
            return weights

        y = attention(
            *(states[:, :, None] for states in (queries, *context.memory)),  # one head
            mask=context.mask,
            score="dot",
            transform=record if records else None,
            implementation="xla" if records else self.cfg.attention,
            remat=self.cfg.remat == "attention" and not records,
        )[:, :, 0]
        if self.cfg.length_scale:
            visible = context.mask.visible(x.shape[1], context.memory.key.shape[1])
            assert visible is not None  # it always hides padding
            tokens = jnp.sum(visible, axis=-1)[:, 0, :, None]  # [B, T|1, 1]
            y = y * jnp.sqrt(tokens.astype(y.dtype))
        return (self.out(y) + x) * HALF


class GatedConvolution(nn.Module):
    """Dropout, convolution, gated linear unit, attention if any, residual connection.

    Source: section 3.2; the unit is Dauphin et al. 2017, arXiv:1612.08083.
    """

    cfg: ConvolutionalArch
    inputs: int  # width of x
    width: int
    kernel: int  # columns read: causally those up to x, else as many on each side
    causal: bool
    attends: bool = False
    projections: tuple[nn.Module, nn.Module] | None = None  # those that layers share

    def setup(self):
        cfg = self.cfg
        self.dropout = Dropout(cfg.dropout)
        shape, scale = (2, self.width), 2.0 * cfg.kept
        self.convolution = affine(cfg, shape, inputs=2, scale=scale)
        if self.inputs != self.width:
            self.residual = affine(cfg, (self.width,))
        if self.attends:
            own = _projections(cfg, self.width, parent=None)
            self.cross_attention = CrossAttention(cfg, *(self.projections or own))

    def __call__(
        self,
        x: jax.Array,
        segments: jax.Array | None,
        context: Context | None,
        *,
        train: bool,
    ) -> jax.Array:
        """[B, T, C] -> [B, T, C']."""
        before = self.kernel - 1 if self.causal else (self.kernel - 1) // 2
        dropped = self.dropout(x, train=train)
        columns = unfold(dropped, before, self.kernel - 1 - before, segments)
        return self._advance(x, columns, context)

    def step(
        self, x: jax.Array, past: jax.Array, context: Context
    ) -> tuple[jax.Array, jax.Array]:
        """[B, W, C] after the columns ``past`` [B, W, k - 1, C] -> (x, past)."""
        columns = jnp.concatenate([past, x[:, :, None]], axis=2)
        return self._advance(x, columns, context), columns[:, :, 1:]

    def _advance(self, x, columns, context):
        y = self.convolution(columns)
        y = y[:, :, 0] * jax.nn.sigmoid(y[:, :, 1])
        if self.attends:
            y = self.cross_attention(y, context)
        residual = x if self.inputs == self.width else self.residual(x)
        return constrain((y + residual) * HALF, "batch", "length", "embed")


def _projections(cfg, width, **options):
    """Maps of queries and of what is attended to, for layers of a ``width``."""
    return tuple(
        affine(cfg, (features,), **options) for features in (cfg.embedding_width, width)
    )


class Convolutions(nn.Module):
    """Gated convolutions, between maps from and to the width of the embedding."""

    cfg: ConvolutionalArch
    stack: str  # encoder, decoder
    outputs: int  # width

    def setup(self):
        cfg, causal = self.cfg, self.stack == "decoder"
        widths = getattr(cfg, f"{self.stack}_widths")
        kernels = getattr(cfg, f"{self.stack}_kernels")
        attending = cfg.attending if causal else ()
        self.project_in = affine(cfg, widths[:1], scale=cfg.kept)
        shared = None
        if attending and cfg.attention_projections == "shared":
            shared = self.query, self.out = _projections(cfg, widths[0])
        self.layer = [
            GatedConvolution(
                cfg,
                inputs=widths[max(n - 1, 0)],
                width=width,
                kernel=kernels[n % len(kernels)],
                causal=causal,
                attends=n in attending,
                projections=shared,
                name=f"layer_{n}",
            )
            for n, width in enumerate(widths)
        ]
        self.project_out = affine(cfg, (self.outputs,))

    def __call__(
        self,
        x: jax.Array,
        segments: jax.Array | None,
        context: Context | None = None,
        *,
        train: bool,
    ) -> jax.Array:
        """[B, T, E] -> [B, T, outputs]; columns see those of their own segment."""

        def body(layer, x, context):
            return layer(x, segments, context, train=train)

        if policy := REMATS[self.cfg.remat]:
            body = nn.remat(body, policy=policy)
        x = self.project_in(x)
        for layer in self.layer:
            x = body(layer, x, context)
        return self.project_out(x)

    def init_cache(self, batch: int, hypotheses: int) -> tuple[jax.Array, ...]:
        """Columns before the first one, [B, W, k - 1, C] of each layer."""
        return tuple(
            jnp.zeros(
                (batch, hypotheses, layer.kernel - 1, layer.inputs), self.cfg.dtype
            )
            for layer in self.layer
        )

    def step(
        self, x: jax.Array, columns: tuple[jax.Array, ...], context: Context
    ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """[B, W, E] -> ([B, W, outputs], columns)."""
        x, after = self.project_in(x), []
        for layer, past in zip(self.layer, columns, strict=True):
            x, past = layer.step(x, past, context)
            after.append(past)
        return self.project_out(x), tuple(after)
