"""The encoder-decoder Transformer.

Source: Vaswani et al. 2017, arXiv:1706.03762.
Parameters with biases everywhere and one shared vocabulary of 37,000: base 63.08 M (the
paper prints 65), big 214.2 M (213). With 9,712 subwords multi30k_tiny has 2.57 M.
Deviates: attention and feed-forward maps have biases, as in the authors' released code.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.config import knob
from tfm_jax.data.batch import PairBatch
from tfm_jax.layers.arch import TextArch
from tfm_jax.layers.embed import PositionEmbedding, TokenEmbedding
from tfm_jax.layers.heads import VocabularyLoss, vocabulary_logits
from tfm_jax.layers.linear import Dropout, Linear, constrain, parameter
from tfm_jax.layers.parts import DECODER, Context, Memory
from tfm_jax.layers.residual import NORM_PLACEMENTS
from tfm_jax.layers.stack import Stack
from tfm_jax.models.family import Family
from tfm_jax.models.parts.encoder_decoder import EncoderDecoder, Vocabularies
from tfm_jax.ops import ancestry
from tfm_jax.ops.masks import Mask


@dataclasses.dataclass(frozen=True)
class Config(VocabularyLoss, Vocabularies, TextArch):
    """Defaults are the paper's base model."""

    encoder_depth: int = knob(6, "layers, N", low=1, high=10_000)
    decoder_depth: int = knob(6, "layers, N", low=1, high=10_000)
    embedding_scale: bool = True
    tie: str = "three_way"
    output_bias: bool = knob(False, "a bias on the logits; the paper has none")

    READ_WITH = {
        ("norm", tuple(n for n in NORM_PLACEMENTS if n != "none")): (
            "norm_kind",
            "norm_eps",
        ),
    }


SIZES: dict[str, dict[str, Any]] = {
    # tensor2tensor's transformer_tiny and transformer_small
    "tiny": dict(width=128, heads=4, ffn_width=512, encoder_depth=2, decoder_depth=2),
    "small": dict(width=256, heads=4, ffn_width=1024, encoder_depth=2, decoder_depth=2),
    # Wu et al. 2021, arXiv:2105.14462, "Transformer-Tiny" for Multi30k
    "multi30k_tiny": dict(
        width=128, heads=4, ffn_width=256, encoder_depth=4, decoder_depth=4, dropout=0.3
    ),
    "base": dict(),  # Vaswani et al. 2017, table 3
    "big": dict(width=1024, heads=16, ffn_width=4096, dropout=0.3),
}


class Cache(NamedTuple):
    """State of decoding ``W`` hypotheses a sentence.

    The W hypotheses of a sentence share one past, of which each attends to its own
    ancestry: re-ordering them moves no keys or values.

    Attributes:
        index: [] int32, tokens so far.
        layers: see ``Stack.init_cache``.
        mask: of the real source tokens.
        ancestry: [B, W, T] int32, see ``ops.ancestry``.
    """

    index: jax.Array  # type: ignore[assignment]  # hides a tuple's
    layers: tuple
    mask: Mask
    ancestry: jax.Array

    def select(self, parents: jax.Array) -> "Cache":
        """Hypothesis w of the result continues ``parents[:, w]``; parents: [B, W]."""
        return self._replace(ancestry=ancestry.follow(self.ancestry, parents))


class Transformer(EncoderDecoder):
    """Encoder-decoder Transformer; ``init_params`` makes its parameters.

    Args (call): batch: ``PairBatch`` of [B, S] and [B, T] integers. Segments keep
        packed sentences apart; where positions are None every row holds one sentence.
    Returns: logits [B, T, V] float32.
    Raises: ValueError for rows longer than learned positions reach.
    """

    cfg: Config

    def setup(self):
        cfg, dtype = self.cfg, jnp.dtype(self.cfg.dtype)

        def tokens(vocab):
            return TokenEmbedding(
                vocab, cfg.width, cfg.init, cfg.embedding_scale, dtype
            )

        def positions():
            return PositionEmbedding(cfg.positions, cfg.max_length, cfg.init)

        self.set_tables(tokens)
        if cfg.tie == "none":
            self.output = Linear(
                (cfg.target_vocab,),
                ("embed", "vocab"),
                cfg.init,
                bias=False,
                dtype=dtype,
            )
        if cfg.output_bias:
            zeros, size = nn.initializers.zeros, (cfg.target_vocab,)
            self.bias = parameter(self, "output_bias", zeros, size)
        self.source_positions = positions()
        self.target_positions = positions()
        self.embedding_dropout = Dropout(cfg.dropout)
        self.encoder = Stack(cfg, cfg.encoder_depth, causal=False)
        self.decoder = Stack(cfg, cfg.decoder_depth, causal=True, pattern=(DECODER,))

    def encode(
        self,
        source: jax.Array,
        segments: jax.Array,
        positions: jax.Array | None = None,
        *,
        train: bool,
    ) -> jax.Array:
        """[B, S] tokens, segments and positions -> memory [B, S, D]."""
        table = self.table("source")
        x, positions = self._embed(
            table, self.source_positions, source, positions, train=train
        )
        mask = Mask.between(segments, segments, packed=positions is not None)
        return self.encoder(x, _or_count(positions, x), Context(mask), train=train)

    def decode(self, batch: PairBatch, memory: jax.Array, *, train: bool) -> Any:
        """Teacher forcing: logits [B, T, V] for every target position at once."""
        x, positions = self._embed(
            self.table("target"),
            self.target_positions,
            batch.target_inputs,
            batch.target_positions,
            train=train,
        )
        packed = positions is not None
        q, kv = batch.target_segments, batch.source_segments
        context = Context(
            mask=dataclasses.replace(Mask.between(q, q, packed=packed), causal=True),
            memories={"encoder": Memory(memory, Mask.between(q, kv, packed=packed))},
        )
        x = self.decoder(x, _or_count(positions, x), context, train=train)
        return self._logits(x, train=train)

    def init_cache(
        self,
        memory: jax.Array,
        source_segments: jax.Array,
        *,
        width: int,
        max_length: int,
    ) -> Cache:
        """Cache for ``width`` hypotheses a sentence of up to ``max_length`` tokens."""
        return Cache(
            index=jnp.zeros((), jnp.int32),
            layers=self.decoder.init_cache(
                len(memory), width, max_length, {"encoder": Memory(memory)}
            ),
            mask=Mask.between(None, source_segments, packed=False),
            ancestry=jnp.zeros((memory.shape[0], width, max_length), jnp.int32),
        )

    def step(self, tokens: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Tokens [B, W] at ``cache.index`` -> (logits [B, W, V], cache)."""
        table = self.table("target")
        positions = jnp.full(tokens.shape, cache.index)
        x = self.target_positions(table(tokens), positions)
        written, visible = ancestry.write(cache.ancestry, cache.index)
        x, layers = self.decoder.step(
            x,
            cache.layers,
            cache.index,
            Context(memories={"encoder": Memory(None, cache.mask)}),
            visible=visible,
        )
        cache = cache._replace(index=cache.index + 1, layers=layers, ancestry=written)
        return self._logits(x), cache

    def _embed(self, table, add_positions, tokens, positions, *, train):
        length, longest = tokens.shape[1], self.cfg.longest
        if longest and length > longest:
            raise ValueError(
                f"rows of {length} tokens are longer than model.max_length={longest}"
            )
        x = add_positions(table(tokens), _or_count(positions, tokens))
        x = self.embedding_dropout(x, train=train)
        return constrain(x, "batch", "length", "embed"), positions

    def _logits(self, x, *, train=False):
        untied = self.cfg.tie == "none"
        output = self.output if untied else self.table("target").table
        bias = self.bias if self.cfg.output_bias else None
        return vocabulary_logits(self.cfg, x, output, bias, train=train)


Model = Transformer


def _or_count(positions, x):
    """``positions`` [B, T], or 0, 1, 2, ... where rows hold one sentence each."""
    return jnp.arange(x.shape[1])[None] if positions is None else positions


_SIDES = ("source_", "target_")
_STACKS = ("encoder", "decoder")
FAMILY = Family(
    "transformer",
    Config,
    Transformer,
    SIZES,
    learns={"translation": ()},
    below=(
        "embedding",
        *(f"{side}{table}" for side in _SIDES for table in ("embedding", "positions")),
        *(f"{stack}/position_bias" for stack in _STACKS),
    ),
    above=(*(f"{stack}/final_norm" for stack in _STACKS), "output", "output_bias"),
)
