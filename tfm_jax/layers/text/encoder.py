"""Bidirectional encoder of text: embedding and stack."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.config import knob
from tfm_jax.layers.arch import TextArch
from tfm_jax.layers.embed import TextEmbedding
from tfm_jax.layers.linear import constrain
from tfm_jax.layers.parts import Context
from tfm_jax.layers.stack import Stack
from tfm_jax.ops.masks import Mask
from tfm_jax.ops.pooling import POOLS


@dataclasses.dataclass(frozen=True)
class EncoderArch(TextArch):
    """Fields of all bidirectional text encoders; defaults are those of BERT base."""

    width: int = 768  # H
    heads: int = 12
    ffn_width: int = 3072
    norm_eps: float = 1e-12
    positions: str = "learned"
    activation: str = "gelu"
    attention_dropout: float = 0.1
    init: str = "truncated_0.02"
    depth: int = knob(12, "layers, L", low=1, high=10_000)
    vocab: int = knob(0, "tokens; 0: the tokenizer's", low=0, high=2**24)
    types: int = knob(2, "token types: sentence A, sentence B", low=1, high=2**16)
    labels: int = knob(
        2, 'classes of the heads "classify" and "tag"', low=1, high=2**20
    )
    pool: str = knob("first", "sequence-level pooling", choices=POOLS)
    head_dropout: float = knob(
        0.1,
        "before the maps of the heads for labelled tasks",
        role="training",
        low=0,
        below=1,
    )

    READ_WITH = {("head", ("classify", "tag")): ("labels",)}


# what describes the output head alone; every encoder has ``head`` for its own HEADS
TASK_FIELDS = frozenset({"head", "labels", "pool"})


class TextEncoder(nn.Module):
    """Embedding of E wide tables, and a bidirectional stack.

    Args (call): batch: ``TextBatch``; its tokens, segments, positions and types count.
        Where positions are None a row holds one document, padded on the right.
    Returns: [B, T, D].
    Raises: ValueError if rows are longer than a learned table of positions.
    """

    cfg: EncoderArch
    width: int  # E, of the embedding tables
    project: bool = False  # a dense map from E to cfg.width
    share: str = "none"  # see ``Stack``
    groups: int = 1

    def setup(self):
        cfg = self.cfg
        self.embedding = TextEmbedding(
            cfg, cfg.vocab, cfg.types, self.width, self.project
        )
        self.stack = Stack(
            cfg, cfg.depth, causal=False, share=self.share, groups=self.groups
        )

    def __call__(self, batch: Any, *, train: bool) -> jax.Array:
        x = self.embed(batch, train=train)
        return self.encode(self.embedding.widen(x), batch, train=train)

    def embed(self, batch: Any, *, train: bool) -> jax.Array:
        """Embeddings [B, T, E], before ``widen``."""
        cfg, length = self.cfg, batch.tokens.shape[1]
        if cfg.longest and length > cfg.longest:
            raise ValueError(
                f"rows of {length} tokens are longer than "
                f"model.max_length={cfg.max_length}"
            )
        return self.embedding.look_up(
            batch.tokens, batch.types, _positions(batch), train=train
        )

    def encode(self, x: jax.Array, batch: Any, *, train: bool) -> jax.Array:
        """The stack alone, on [B, T, D]."""
        if batch.positions is None:
            lengths = jnp.sum(batch.segments > 0, axis=-1, dtype=jnp.int32)
            mask = Mask(kv_lengths=lengths)
        else:
            mask = Mask(q_segments=batch.segments, kv_segments=batch.segments)
        x = constrain(x, "batch", "length", "embed")
        return self.stack(x, _positions(batch), Context(mask), train=train)


def _positions(batch):
    if batch.positions is None:
        return jnp.arange(batch.tokens.shape[1])[None]
    return batch.positions
