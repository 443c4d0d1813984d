"""The convolutional sequence-to-sequence model.

Source: Gehring et al. 2017, arXiv:1705.03122, as released (fairseq, models/fconv.py).
Deviates: positions count from 0; a padding token has a vector like any other, which
nothing reads.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from tfm_jax.config import knob
from tfm_jax.data.batch import PairBatch
from tfm_jax.layers.convolutions import (
    HALF,
    Context,
    ConvolutionalArch,
    Convolutions,
    Memory,
    affine,
)
from tfm_jax.layers.embed import PositionEmbedding, TokenEmbedding
from tfm_jax.layers.linear import Dropout, constrain, parameter
from tfm_jax.models.family import Family
from tfm_jax.models.parts.encoder_decoder import EncoderDecoder, Vocabularies
from tfm_jax.ops.masks import Mask

POSITIONS = {  # -> the sides whose tokens know where they stand
    "both": ("source", "target"),
    "source": ("source",),
    "target": ("target",),
    "none": (),
}
ENCODER_GRADIENTS = {  # number of attention layers -> factor
    "half_mean": lambda layers: 0.5 / layers,  # the released code
    "mean": lambda layers: 1.0 / layers,  # section 3.4
    "sum": lambda layers: 1.0,
}


@dataclasses.dataclass(frozen=True)
class Config(Vocabularies, ConvolutionalArch):
    """Defaults are the paper's WMT'14 English to German."""

    output_width: int = knob(512, "of what logits are made of", low=1, high=2**20)
    positions: str = knob("both", "sides with learned positions", choices=POSITIONS)
    max_length: int = knob(
        1024, "rows of a learned position table; nothing else", low=1, high=2**24
    )
    encoder_gradient: str = knob(
        "half_mean",
        "over n attention layers: sum / (2 n), sum / n, or the sum itself",
        role="training",
        choices=ENCODER_GRADIENTS,
    )

    READ_WITH = {
        ("positions", tuple(n for n, sides in POSITIONS.items() if sides)): (
            "max_length",
        ),
    }

    def __post_init__(self):
        super().__post_init__()
        if self.tie != "none" and self.output_width != self.embedding_width:
            raise ValueError(
                f"model.tie={self.tie!r} needs model.output_width={self.output_width} "
                f"to be model.embedding_width={self.embedding_width}"
            )

    @property
    def longest(self) -> int:
        """Tokens of a row at most; 0: as many as there is memory for."""
        return self.max_length if POSITIONS[self.positions] else 0


_FLAT = dict(encoder_kernels=(3,), decoder_kernels=(3,))
_WMT = (512,) * 9 + (1024,) * 4 + (2048,) * 2
SIZES: dict[str, dict[str, Any]] = {
    "tiny": dict(
        embedding_width=128,
        output_width=128,
        encoder_widths=(128,) * 3,
        decoder_widths=(128,) * 3,
        tie="three_way",
        **_FLAT,
    ),
    # fairseq's fconv_iwslt_de_en
    "iwslt": dict(
        embedding_width=256,
        output_width=256,
        encoder_widths=(256,) * 4,
        decoder_widths=(256,) * 3,
        **_FLAT,
    ),
    "wmt_en_de": dict(),  # Gehring et al. 2017, section 4.2
    # fairseq's fconv_wmt_en_de
    "wmt_en_de_released": dict(encoder_widths=_WMT, decoder_widths=_WMT),
    # notebook 5 of B. Trevett, github.com/bentrevett/pytorch-seq2seq. There, besides,
    # padding is attended to and stands before the target, a residual connection of the
    # decoder starts behind the dropout, and initial values are PyTorch's.
    "bentrevett": dict(
        embedding_width=256,
        output_width=256,
        encoder_widths=(512,) * 10,
        decoder_widths=(512,) * 10,
        **_FLAT,
        attention_projections="shared",
        length_scale=False,
        weight_norm=False,
        encoder_gradient="sum",
        max_length=100,
        dropout=0.25,
    ),
}


class Cache(NamedTuple):
    """State of decoding ``W`` hypotheses a sentence.

    Attributes:
        index: [] int32, tokens so far.
        columns: [B, W, k - 1, C] of each layer, the last ones that were read.
        memory: what is attended to. mask: of the real source tokens.
    """

    index: jax.Array  # type: ignore[assignment]  # hides a tuple's
    columns: tuple[jax.Array, ...]
    memory: Memory
    mask: Mask

    def select(self, parents: jax.Array) -> "Cache":
        """Hypothesis w of the result continues ``parents[:, w]``; parents: [B, W]."""
        columns = tuple(
            jnp.take_along_axis(x, parents[:, :, None, None], axis=1)
            for x in self.columns
        )
        return self._replace(columns=columns)


class ConvSeq2Seq(EncoderDecoder):
    """Convolutional encoder-decoder; ``init_params`` makes its parameters.

    Args (call): batch: ``PairBatch`` of [B, S] and [B, T] integers, see `transformer`.
    Returns: logits [B, T, V] float32.
    Raises: ValueError for rows longer than learned positions reach.
    """

    cfg: Config

    def setup(self):
        cfg, dtype = self.cfg, jnp.dtype(self.cfg.dtype)

        def tokens(vocab):
            return TokenEmbedding(vocab, cfg.embedding_width, cfg.init, False, dtype)

        def positions(side):
            scheme = "learned" if side in POSITIONS[cfg.positions] else "none"
            return PositionEmbedding(scheme, cfg.max_length, cfg.init)

        self.set_tables(tokens)
        self.source_positions = positions("source")
        self.target_positions = positions("target")
        self.dropout = Dropout(cfg.dropout)
        self.encoder = Convolutions(cfg, "encoder", cfg.embedding_width)
        self.decoder = Convolutions(cfg, "decoder", cfg.output_width)
        self.output_dropout = Dropout(cfg.dropout)
        if cfg.tie == "none":
            self.output = affine(cfg, (cfg.target_vocab,), "vocab", scale=cfg.kept)
        else:
            zeros, size = nn.initializers.zeros, (cfg.target_vocab,)
            self.bias = parameter(self, "output_bias", zeros, size)

    def encode(
        self,
        source: jax.Array,
        segments: jax.Array,
        positions: jax.Array | None = None,
        *,
        train: bool,
    ) -> Memory:
        """[B, S] tokens, segments and positions -> keys and values."""
        embedded = self._embed("source", source, positions, train=train)
        key = self.encoder(embedded, segments, train=train)
        factor = ENCODER_GRADIENTS[self.cfg.encoder_gradient](len(self.cfg.attending))
        key = key if factor == 1.0 else optax.scale_gradient(key, factor)
        return Memory(key, (key + embedded) * HALF)

    def decode(self, batch: PairBatch, memory: Memory, *, train: bool) -> jax.Array:
        """Teacher forcing: logits [B, T, V] for every target position at once."""
        positions, segments = batch.target_positions, batch.target_segments
        embedded = self._embed("target", batch.target_inputs, positions, train=train)
        packed = positions is not None
        mask = Mask.between(segments, batch.source_segments, packed=packed)
        context = Context(embedded, memory, mask)
        # what a row holds ends in padding: no token follows it
        x = self.decoder(embedded, segments if packed else None, context, train=train)
        return self._logits(self.output_dropout(x, train=train))

    def init_cache(
        self,
        memory: Memory,
        source_segments: jax.Array,
        *,
        width: int,
        max_length: int,
    ) -> Cache:
        """Cache for ``width`` hypotheses a sentence, of any number of tokens."""
        del max_length
        return Cache(
            index=jnp.zeros((), jnp.int32),
            columns=self.decoder.init_cache(len(source_segments), width),
            memory=memory,
            mask=Mask.between(None, source_segments, packed=False),
        )

    def step(self, tokens: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Tokens [B, W] at ``cache.index`` -> (logits [B, W, V], cache)."""
        positions = jnp.full(tokens.shape, cache.index)
        embedded = self._embed("target", tokens, positions, train=False)
        context = Context(embedded, cache.memory, cache.mask)
        x, columns = self.decoder.step(embedded, cache.columns, context)
        cache = cache._replace(index=cache.index + 1, columns=columns)
        return self._logits(x), cache

    def _embed(self, side, tokens, positions, *, train):
        length, longest = tokens.shape[1], self.cfg.longest
        if longest and length > longest:
            raise ValueError(
                f"rows of {length} tokens are longer than model.max_length={longest}"
            )
        if positions is None:
            positions = jnp.arange(length)[None]
        x = self.table(side)(tokens)
        x = getattr(self, f"{side}_positions")(x, positions)
        return constrain(self.dropout(x, train=train), "batch", "length", "embed")

    def _logits(self, x):
        if self.cfg.tie == "none":
            logits = self.output(x).astype(jnp.float32)
        else:
            logits = self.table("target").attend(x) + self.bias
        return constrain(logits, "batch", "length", "vocab")


Model = ConvSeq2Seq

FAMILY = Family(
    "conv_seq2seq",
    Config,
    ConvSeq2Seq,
    SIZES,
    learns={"translation": ()},
    below=(
        "embedding",
        "source_embedding",
        "target_embedding",
        "source_positions",
        "target_positions",
        "encoder/project_in",
        "decoder/project_in",
    ),
    above=(
        "encoder/project_out",
        "decoder/project_out",
        "decoder/query",  # those that layers share
        "decoder/out",
        "output",
        "output_bias",
    ),
)
