"""BLIP-2, stage two: a language model with the queries of a Q-Former as soft prompt.

Source: Li et al. 2023, arXiv:2301.12597, section 3.3, with a decoder-only language
model. The queries alone attend to the image; a linear projection of them is prepended
to the text. `qformer` is stage one. Image encoder and language model most often are
pretrained and frozen, ``freeze=lm,vision``.
Parameters that are then trained, in millions: 103.6 with ViT-L and OPT-2.7B, 107.1 with
ViT-g, 108.3 with OPT-6.7B (the paper prints 104, 107 and 108).
Deviates: the language model is a GPT, whose positions start at 0 and not, as OPT's, at
    2; the token that a text begins with, ``data.begin``, is given and not learnt behind
    the last query. The last norm of the image encoder is trained where the rest is
    frozen, see `qformer`.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.config import knob, widened
from tfm_jax.data.batch import ImageTextBatch
from tfm_jax.layers.linear import PLAIN_INITS, Linear
from tfm_jax.layers.text.past import Cache
from tfm_jax.models import gpt, qformer
from tfm_jax.models.family import Family, Start
from tfm_jax.models.parts import vision
from tfm_jax.models.parts.language import LM_START, TINY, Language


@dataclasses.dataclass(frozen=True)
class Layers(qformer.Text, fixed=dict(vocab=0, positions="none", max_length=1)):
    """The layers of the queries; in stage one they share them with the text."""


@dataclasses.dataclass(frozen=True)
class Config(
    qformer.Config,
    fixed=dict(
        head="states",
        embed_width=256,
        pool="closest",
        temperature=0.07,
        generation_mask="causal",
    ),
):
    """Defaults are the paper's, with a ViT-B/16 as image encoder; see SIZES."""

    text: Layers = Layers()
    lm: Language = Language()
    vocab: int = knob(0, "tokens; 0: the tokenizer's", low=0, high=2**24)
    init: str = knob(
        "normal_0.02",
        "distribution of the kernel that projects queries to the language model",
        role="initial",
        choices=PLAIN_INITS,
    )

    def __post_init__(self):
        super().__post_init__()
        if 0 < self.lm.longest <= self.queries:
            raise ValueError(
                f"model.lm.max_length={self.lm.max_length} leaves no room for text "
                f"behind model.queries={self.queries}"
            )

    @property
    def longest(self) -> int:
        """See ``Execution``: of text alone, which the queries stand in front of."""
        return max(self.lm.longest - self.queries, 0)

    def language(self) -> gpt.Config:
        """Of the language model as a model of its own."""
        return widened(self.lm, gpt.Config, **self.execution, vocab=self.vocab)


class Blip2(nn.Module):
    """Image encoder, Q-Former and language model.

    Args (call): batch: ``ImageTextBatch`` of one image a row.
    Returns: logits [B, T, V] float32, at t for token t + 1.
    Raises: ValueError for rows longer than learned positions reach, and for images that
        the encoder cannot read.
    """

    cfg: Config
    frozen_parts: tuple[str, ...] = ()  # without dropout

    def setup(self):
        cfg = self.cfg
        self.reader = qformer.Retriever(cfg, self.frozen_parts)
        nn.share_scope(self, self.reader)  # paths are those of stage one
        lm = cfg.language()
        axes, dtype = (None, "embed"), jnp.dtype(cfg.dtype)
        self.projection = Linear((lm.width,), axes, cfg.init, dtype=dtype)
        self.lm = gpt.Gpt(lm)

    def __call__(self, batch: ImageTextBatch, *, train: bool) -> jax.Array:
        if self.is_initializing():  # where an encoder of images reads one
            batch = jax.tree.map(lambda x: x[:1], batch)
        prompt = self.prompt(batch.images, train=train)
        frozen = "lm" in self.frozen_parts
        return self.lm(batch, prompt=prompt, train=train, frozen=frozen)

    def prompt(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Images [B, 1, height, width, C] -> soft prompt [B, Q, D]."""
        states = self.reader.image_states(images, train=train)
        learns = train and "qformer" not in self.frozen_parts
        queries = qformer.HEADS["states"](self.reader, states, None, learns)
        return self.projection(queries)

    def prefill(
        self,
        tokens: jax.Array,
        lengths: jax.Array,
        *,
        width: int,
        max_length: int,
        images: jax.Array,
        **beside: jax.Array,
    ) -> Cache:
        """Cache of an image and the beginning of a text, see ``Gpt.prefill``.

        Args: max_length: tokens, without the queries. beside: not read: there is one
            image, in front of the text.
        """
        return self.lm.prefill(
            tokens,
            lengths,
            width=width,
            max_length=self.cfg.queries + max_length,
            prompt=self.prompt(images, train=False),
        )

    def step(self, tokens: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Tokens [B, W] in the next slot -> (logits [B, W, V], cache)."""
        return self.lm.step(tokens, cache)


Model = Blip2


def _opt(width):
    """Zhang et al. 2022, arXiv:2205.01068, table 1; published ones have 32 layers."""
    sizes = dict(depth=32, width=width, heads=32, ffn_width=4 * width, max_length=2048)
    return dict(lm=sizes | dict(activation="relu"))


SIZES: dict[str, Mapping[str, Any]] = {
    "tiny": dict(
        vision=vision.TINY,
        text=dict(depth=2, width=48, heads=4, ffn_width=192),
        queries=8,
        lm=TINY,
    ),
    # Li et al. 2023, table 2
    "vit_l_opt_2.7b": qformer.SIZES["vit_l"] | _opt(2560),
    "vit_g_opt_2.7b": qformer.SIZES["vit_g"] | _opt(2560),
    "vit_g_opt_6.7b": qformer.SIZES["vit_g"] | _opt(4096),
}
_OF_TEXT = re.compile(r"head/|qformer/embedding/(word|position)/|qformer/stack/.*/ffn")


def _of_qformer(params: dict, before: qformer.Config, now: Config) -> dict:
    """Image encoder and queries of stage one, without what text alone goes through."""
    del before, now
    return {path: x for path, x in params.items() if not _OF_TEXT.match(path)}


FAMILY = Family(
    "blip2",
    Config,
    Blip2,
    SIZES,
    learns={"visual_lm": ()},
    starts={
        "lm": LM_START,  # whose tokenizer counts
        "qformer": Start(
            ("qformer",), "", _of_qformer, owns="^qformer/", brings=("vision",)
        ),
        "vision": qformer.STARTS["vision"],
    },
    below=(
        *qformer.FAMILY.below,
        "lm/embedding",
        "lm/position",
        "lm/stack/position_bias",
    ),
    above=(
        "vision/encoder/stack/final_norm",
        "qformer/stack/final_norm",
        "projection",
        "lm/stack/final_norm",
        "lm/output",
    ),
    causal=True,
)
