"""Q-Former: learned queries that attend to an image and to a text; BLIP-2, stage one.

Source: Li et al. 2023, arXiv:2301.12597, sections 3.1 and 3.2, masks and initial values
as released (LAVIS). Queries and text are one row of a bidirectional encoder whose
self-attention they share; the queries alone cross-attend to the image, in every second
layer, and have feed-forward blocks of their own.
Parameters without the image encoder, with all heads and 30,522 words: base, for ViT-g,
186.7 M (the paper prints 188); of the queries alone, as stage two keeps them, 105.2.
Deviates: queries are drawn as the embedding tables are; what a generated text begins
    with, see `layers.text.query_heads`. The final norm of the image encoder is LAVIS's
    ``ln_vision``: it is trained where the rest is frozen. CLIP's ViT-L (vit_l) has one
    more norm, in front of its layers, and another approximation of GELU.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.config import check_numbers, knob, widened
from tfm_jax.data.batch import ImageBatch, TextBatch
from tfm_jax.layers.arch import EXECUTION, Execution
from tfm_jax.layers.text.encoder import EncoderArch
from tfm_jax.layers.text.past import Cache
from tfm_jax.layers.text.queries import QueryingEncoder
from tfm_jax.layers.text.query_heads import POOLS, QueryHeads, Vectors
from tfm_jax.models import vit
from tfm_jax.models.family import Family, Start
from tfm_jax.models.parts import vision
from tfm_jax.models.parts.vision import Vision


class Outputs(NamedTuple):
    """Outputs for pairs of an image and a text.

    Attributes:
        vectors: see ``Vectors``.
        match: [B, 2] logits: not a pair, a pair.
        lm_logits: [B, T, V] of the token after each; None without that head.
    """

    vectors: Vectors
    match: jax.Array
    lm_logits: jax.Array | None


def _pretraining(model, states, text, train):
    lm_logits = model.lm_logits(states, text, train=train)
    return _retrieval(model, states, text, train)._replace(lm_logits=lm_logits)


def _retrieval(model, states, text, train):
    vectors = model.contrast(states, text, train=train)
    return Outputs(vectors, model.match(states, text, train=train), None)


def _states(model, states, text, train):
    x, _ = model.qformer(states, None, "full", train=train)
    return x.astype(jnp.float32)


# (model, states of the image, text, train) -> outputs, float32
HEADS: dict[str, Callable] = {
    "pretraining": _pretraining,  # ``Outputs``
    "retrieval": _retrieval,  # ``Outputs`` without LM logits
    "states": _states,  # [B, Q, D] of the queries, which see no text
}


@dataclasses.dataclass(frozen=True)
class Text(
    EncoderArch,
    choices={"positions": ("learned", "sinusoidal", "sinusoidal_halves", "none")},
    fixed=EXECUTION
    | dict(types=2, labels=1, pool="first", head_dropout=0.0, windows=()),
):
    """The layers that queries and text share; defaults are those of BERT base."""


@dataclasses.dataclass(frozen=True)
class Config(Execution, choices={"attention": ("auto", "xla")}):
    """Defaults are the paper's, with a ViT-B/16 as image encoder; see SIZES."""

    vision: Vision = Vision()
    text: Text = Text()
    queries: int = knob(32, "learned queries", low=1, high=2**16)
    cross_every: int = knob(
        2,
        "of so many layers the first one has the queries attend to the image",
        low=1,
        high=10_000,
    )
    head: str = knob("pretraining", "output heads", choices=HEADS)
    embed_width: int = knob(
        256, "of the vectors by which images and texts are compared", low=1, high=2**20
    )
    pool: str = knob(
        "closest",
        "of the queries' vectors, which one is compared with a text",
        choices=POOLS,
    )
    temperature: float = knob(
        0.07,
        "that similarities are divided by at first",
        role="initial",
        low=1e-6,
        high=1e6,
    )
    generation_mask: str = knob(
        "causal",
        "self-attention of generation; full: tokens see the one to be predicted, too",
        choices=("causal", "full"),
    )

    most_images = 1  # of a row; models without it read any number of them
    READ_WITH = {
        ("head", ("pretraining", "retrieval")): ("embed_width", "pool", "temperature"),
        ("head", ("pretraining",)): ("generation_mask",),
    }

    def __post_init__(self):
        check_numbers(self, "model")

    @property
    def longest(self) -> int:
        """Tokens of a row at most; 0: as many as there is memory for."""
        return self.text.longest

    @property
    def vocab(self) -> int:
        """Size of the vocabulary."""
        return self.text.vocab

    @property
    def image(self) -> tuple[int, int]:
        """(height, width) of an image in pixels."""
        return self.vision.image

    @property
    def channels(self) -> int:
        """Of a pixel."""
        return self.vision.channels

    def encoder(self) -> vit.Config:
        """Of the image encoder as a model of its own."""
        return widened(self.vision, vit.Config, **self.execution)

    @property
    def arch(self) -> EncoderArch:
        """The layers of queries and text, computed as the whole is."""
        return widened(self.text, EncoderArch, **self.execution)


def _vision(depth, width, heads, ffn_width, **rest):
    sizes = dict(depth=depth, width=width, heads=heads, ffn_width=ffn_width)
    fixed = dict(patch_size=(14,), activation="gelu")
    return dict(vision=sizes | fixed | rest)


SIZES: dict[str, dict[str, Any]] = {
    "tiny": dict(
        vision=vision.TINY,
        text=dict(depth=2, width=48, heads=4, ffn_width=192, max_length=64),
        queries=8,
        embed_width=32,
    ),
    # Li et al. 2023, section 3.4: without the last layer of the image encoder
    "vit_l": _vision(23, 1024, 16, 4096, norm_eps=1e-5),
    "vit_g": _vision(39, 1408, 16, 6144),
}


class Retriever(nn.Module):
    """Image encoder and Q-Former with the heads ``cfg.head``.

    Args (call): batch: ``ImageTextBatch`` of one image and one text a row. The first
        token is special: contrast compares its state, generation has a learned
        embedding in its place.
    Returns: see HEADS.
    """

    cfg: Config
    frozen_parts: tuple[str, ...] = ()  # without dropout

    def setup(self):
        cfg = self.cfg
        self.vision = vit.Vit(cfg.encoder())
        self.qformer = QueryingEncoder(cfg.arch, cfg.queries, cfg.cross_every)
        self.head = QueryHeads(cfg.arch, cfg.embed_width, cfg.pool, cfg.temperature)

    def __call__(self, batch: Any, *, train: bool) -> Any:
        if self.is_initializing():  # where an encoder of images reads one
            batch = jax.tree.map(lambda x: x[:1], batch)
        states = self.image_states(batch.images, train=train)
        return HEADS[self.cfg.head](self, states, batch, train)

    def image_states(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Of the one image [B, 1, height, width, C] of each row: [B, P, D']."""
        if images.shape[1] != 1:
            raise ValueError(f"rows have {images.shape[1]} images each, not one")
        batch = ImageBatch(images[:, 0], None, None)
        return self.vision.encode(
            batch, train=train and "vision" not in self.frozen_parts
        )

    def contrast(
        self, states: jax.Array | None, text: TextBatch | None, *, train: bool
    ) -> Vectors:
        """``Vectors`` of images, of texts, or of both, encoded apart."""
        return self.head.contrast(*self.qformer(states, text, "apart", train=train))

    def match(self, states: jax.Array, text: TextBatch, *, train: bool) -> jax.Array:
        """Logits [B, 2] of whether image and text of a row belong together."""
        queries, _ = self.qformer(states, text, "full", train=train)
        return self.head.matched(queries)

    def lm_logits(
        self, states: jax.Array, text: TextBatch, *, train: bool
    ) -> jax.Array:
        """Logits [B, T, V] of the token after each of the text."""
        mask, first = self.cfg.generation_mask, self._begin(text.tokens)
        _, x = self.qformer(states, text, mask, first, train=train)
        return self.head.lm(x, self.qformer.embedding.word.attend)

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
        """Cache of images and of the beginnings of texts.

        Attention is causal whatever ``cfg.generation_mask`` is.

        Args: see ``Gpt.prefill`` and ``image_states``. beside: not read.
        Raises: ValueError for a model without the head that generates.
        """
        if self.cfg.head != "pretraining":
            raise ValueError(
                f"model.head={self.cfg.head!r} writes no text, 'pretraining' does"
            )
        states = self.image_states(images, train=False)
        parts = states, tokens, lengths, self._begin(tokens)
        return self.qformer.prefill(*parts, width=width, max_length=max_length)

    def step(self, tokens: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Tokens [B, W] in the next slot -> (logits [B, W, V], cache)."""
        x, cache = self.qformer.step(tokens, cache, self._begin(tokens))
        return self.head.lm(x, self.qformer.embedding.word.attend), cache

    def _begin(self, tokens):
        # of every token, so that no gradient is summed as it is broadcast
        return self.head.begin(jnp.zeros_like(tokens, jnp.int32))


def _from_vit(params, before, now):
    """The encoder of a Vision Transformer."""
    taken = vision.take(params, before, now.encoder())
    return {f"vision/{path}": x for path, x in taken.items()}


def _from_bert(params, before, now):
    """BERT's layers; the queries' feed-forward blocks are copies of those of the text.

    Source: Li et al. 2023, section 3.1, and the released code, which drops the token
    type embeddings. Deviates: that of sentence A is added to the positions, so that a
    text has the states that BERT gives it.
    """
    del before
    taken = {}
    for path, x in params.items():
        if path.startswith("encoder/"):
            ours = path.replace("encoder/", "qformer/", 1)
            taken[ours] = x
            if "/ffn" in ours:
                taken[ours.replace("/ffn", "/query_ffn")] = x
        elif path.startswith("head/lm/") and now.head == "pretraining":
            taken[path] = x
    table, types = "qformer/embedding/position/table", "qformer/embedding/type/table"
    if types in taken and table in taken:
        taken[table] = taken[table] + taken[types][0]
    taken.pop(types, None)
    return taken


STARTS = {
    # the last norm is not the image encoder's own, see above
    "vision": Start(("vit",), "vision", _from_vit, r"^vision/(?!.*/final_norm/)"),
    "text": Start(
        ("bert",),
        "text",
        _from_bert,
        r"^qformer/(embedding|stack/(layer[^/]*/(self_attention|ffn)|final_norm))",
    ),
}

Model = Retriever

FAMILY = Family(
    "qformer",
    Config,
    Retriever,
    SIZES,
    learns={"retrieval": ("pretraining", "retrieval")},
    task_parameters=("head",),
    task_fields=frozenset({"head", "embed_width", "pool", "generation_mask"}),
    below=(
        "vision/encoder/embedding",
        "vision/encoder/stack/position_bias",
        "qformer/embedding",
        "qformer/queries",
    ),
    above=("vision/encoder/stack/final_norm", "qformer/stack/final_norm", "head"),
    starts=STARTS,
)
