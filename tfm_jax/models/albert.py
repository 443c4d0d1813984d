"""ALBERT: BERT with factorised token embeddings and cross-layer parameter sharing.

Source: Lan et al. 2020, arXiv:1909.11942.
Parameters of encoder and pooler with 30,000 words: base 11.68 M (the paper prints 12),
large 17.68 (18), xlarge 58.72 (60), xxlarge 222.60 (235); base by what is shared, all,
attention, ffn, none: 11.7, 63.6, 37.7, 89.7 (table 4: 12, 64, 38, 89).
Deviates: the map from the tables' width to the layers' is there also where both are
equal, as in transformers; ``embedding_map="where_needed"`` is the authors' code.
"""

import dataclasses
from typing import Any

import jax
from flax import linen as nn

from tfm_jax.config import knob
from tfm_jax.data.batch import TextBatch
from tfm_jax.layers.heads import HEADS, Head
from tfm_jax.layers.positions import POSITIONS
from tfm_jax.layers.sharing import SHARES
from tfm_jax.layers.text.encoder import TASK_FIELDS, EncoderArch, TextEncoder
from tfm_jax.models.family import Family

EMBEDDING_MAPS = ("always", "where_needed")


@dataclasses.dataclass(frozen=True)
class Config(EncoderArch):
    """Defaults are the paper's base model."""

    activation: str = "gelu_tanh"
    embedding_width: int = knob(
        128, "E, of the tables of words, positions and types", low=1, high=2**20
    )
    embedding_map: str = knob(
        "always", "a dense map from the tables to the layers", choices=EMBEDDING_MAPS
    )
    share: str = knob(
        "all", "what the layers of a group have in common", choices=SHARES
    )
    groups: int = knob(1, "of layers that share parameters", low=1, high=10_000)
    head: str = knob("pretraining", "output head", choices=HEADS)

    READ_WITH = {
        ("head", ("pretraining", "pair", "classify", "tag")): ("head_dropout",),
        ("head", ("pretraining", "pair", "classify")): ("pool",),
        ("share", tuple(name for name in SHARES if name != "none")): ("groups",),
    }

    def __post_init__(self):
        super().__post_init__()
        if POSITIONS[self.positions].vectors and self.embedding_width % 2:
            raise ValueError(
                f"model.embedding_width={self.embedding_width} must be even with "
                f"model.positions={self.positions!r}"
            )
        if self.groups > self.depth:
            raise ValueError(
                f"model.groups={self.groups} must be in 1 .. model.depth={self.depth}"
            )
        if self.layout == "scanned" and self.share != "none":
            raise ValueError(
                f"model.layout='scanned' holds every layer, model.share={self.share!r} "
                "does not; set model.layout=unrolled"
            )

    @property
    def maps(self) -> bool:
        """Whether a dense map leads from the tables to the layers."""
        return self.embedding_map == "always" or self.embedding_width != self.width


SIZES: dict[str, dict[str, Any]] = {  # table 1
    "base": dict(),
    "large": dict(width=1024, heads=16, ffn_width=4096, depth=24),
    "xlarge": dict(width=2048, heads=16, ffn_width=8192, depth=24),
    # without dropout, section 4.8
    "xxlarge": dict(
        **dict(width=4096, heads=64, ffn_width=16384),
        **dict(dropout=0.0, attention_dropout=0.0),
    ),
}


class Albert(nn.Module):
    """ALBERT with the head ``cfg.head``; pairs are in order (0) or swapped (1).

    Args (call): batch: ``TextBatch`` of [B, T] integers; segments keep packed
        documents apart. Heads that pool take the first token of each row.
    Returns: float32 logits, see ``layers.heads.HEADS``.
    """

    cfg: Config

    def setup(self):
        cfg = self.cfg
        self.encoder = TextEncoder(
            cfg, cfg.embedding_width, cfg.maps, cfg.share, cfg.groups
        )
        self.head = Head(cfg, cfg.head, cfg.embedding_width, cfg.head_dropout)

    def __call__(self, batch: TextBatch, *, train: bool) -> Any:
        x = self.encode(batch, train=train)
        return self.head(x, batch, self.encoder.embedding.word.attend, train=train)

    def encode(self, batch: TextBatch, *, train: bool) -> jax.Array:
        """States of all tokens [B, T, D]."""
        return self.encoder(batch, train=train)


Model = Albert

FAMILY = Family(
    "albert",
    Config,
    Albert,
    SIZES,
    learns={
        "masked_lm": ("masked_lm", "pretraining"),
        "classify": ("classify",),
        "tag": ("tag",),
        "span": ("span",),
    },
    task_parameters=("head",),
    task_fields=TASK_FIELDS,
    below=("encoder/embedding", "encoder/stack/position_bias"),
    above=("encoder/stack/final_norm", "head"),
    pairs={"pretraining": "sop"},
)
