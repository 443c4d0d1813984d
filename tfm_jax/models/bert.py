"""BERT: a bidirectional encoder for masked LM and next sentence prediction.

Source: Devlin et al. 2019, arXiv:1810.04805; the small sizes are those of Turc et al.
2019, arXiv:1908.08962.
Parameters with 30,522 words, encoder and pooler / with the heads of pre-training: tiny
4.39 / 4.43 M, mini 11.17 / 11.27, small 28.76 / 29.06, medium 41.37 / 41.67, base
109.48 / 110.11 (the paper prints 110), large 335.14 / 336.23 (340).
Deviates: GELU is exact, as in the first release; the released code now uses tanh, which
is ``activation="gelu_tanh"``.
"""

import dataclasses
from typing import Any

import jax
from flax import linen as nn

from tfm_jax.config import knob
from tfm_jax.data.batch import TextBatch
from tfm_jax.layers.heads import HEADS, Head
from tfm_jax.layers.text.encoder import TASK_FIELDS, EncoderArch, TextEncoder
from tfm_jax.models.family import Family


@dataclasses.dataclass(frozen=True)
class Config(EncoderArch):
    """Defaults are the paper's base model."""

    head: str = knob("pretraining", "output head", choices=HEADS)

    READ_WITH = {
        ("head", ("classify", "tag")): ("head_dropout",),
        ("head", ("pretraining", "pair", "classify")): ("pool",),
    }


def _size(depth, width):
    return dict(depth=depth, width=width, heads=width // 64, ffn_width=4 * width)


SIZES = {
    "tiny": _size(2, 128),  # Turc et al. 2019, as released
    "mini": _size(4, 256),
    "small": _size(4, 512),
    "medium": _size(8, 512),
    "base": dict(),  # Devlin et al. 2019, section 3
    "large": _size(24, 1024),
}


class Bert(nn.Module):
    """BERT with the head ``cfg.head``.

    Args (call): batch: ``TextBatch`` of [B, T] integers; segments keep packed
        documents apart. Heads that pool take the first token of each row.
    Returns: float32 logits, see ``layers.heads.HEADS``.
    """

    cfg: Config

    def setup(self):
        self.encoder = TextEncoder(self.cfg, self.cfg.width)
        self.head = Head(self.cfg, self.cfg.head, self.cfg.width)

    def __call__(self, batch: TextBatch, *, train: bool) -> Any:
        x = self.encode(batch, train=train)
        return self.head(x, batch, self.encoder.embedding.word.attend, train=train)

    def encode(self, batch: TextBatch, *, train: bool) -> jax.Array:
        """States of all tokens [B, T, D]."""
        return self.encoder(batch, train=train)


Model = Bert

FAMILY = Family(
    "bert",
    Config,
    Bert,
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
    pairs={"pretraining": "nsp"},
)
