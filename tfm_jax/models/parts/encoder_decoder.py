"""What all models that encode a source and decode a target have."""

import dataclasses
from collections.abc import Callable
from typing import Any

from flax import linen as nn

from tfm_jax.config import knob
from tfm_jax.data.batch import PairBatch
from tfm_jax.layers.embed import TokenEmbedding

TIES = ("three_way", "two_way", "none")


@dataclasses.dataclass(frozen=True)
class Vocabularies:
    """Fields for a ``Config``, whose bases name it before the class of the others."""

    tie: str = knob(
        "none",
        "one table for source, target and output; one for target and output; none "
        "shared",
        choices=TIES,
    )
    source_vocab: int = knob(0, "tokens; 0: the tokenizer's", low=0, high=2**24)
    target_vocab: int = knob(0, "tokens; 0: the tokenizer's", low=0, high=2**24)

    def __post_init__(self):
        super().__post_init__()
        if self.tie == "three_way" and self.source_vocab != self.target_vocab:
            raise ValueError(
                "model.tie='three_way' needs one vocabulary, not "
                f"model.source_vocab={self.source_vocab} and "
                f"model.target_vocab={self.target_vocab}; set tokenizer.shared=true "
                "or choose from (two_way, none)"
            )


class EncoderDecoder(nn.Module):
    """Base of models whose ``cfg`` has ``Vocabularies``.

    A subclass has ``encode`` of a source, and ``decode`` of a batch and what that made.
    """

    cfg: Any

    def __call__(self, batch: PairBatch, *, train: bool) -> Any:
        memory = self.encode(
            batch.source, batch.source_segments, batch.source_positions, train=train
        )
        return self.decode(batch, memory, train=train)

    def set_tables(self, make: Callable[[int], TokenEmbedding]) -> None:
        """For ``setup``; ``make`` of the number of tokens."""
        if self.cfg.tie == "three_way":
            self.embedding = make(self.cfg.source_vocab)
        else:
            self.source_embedding = make(self.cfg.source_vocab)
            self.target_embedding = make(self.cfg.target_vocab)

    def table(self, side: str) -> TokenEmbedding:
        """That of the "source" or the "target"."""
        return getattr(
            self, "embedding" if self.cfg.tie == "three_way" else f"{side}_embedding"
        )
