"""Q-Former: learned queries read an image on behalf of a text; stage one of BLIP-2.

Source: Li et al. 2023, arXiv:2301.12597, sections 3.1 and 3.2, masks and initial values
as released (LAVIS). Queries and text are one row of a bidirectional encoder whose
self-attention they share; the queries alone attend to the image, in every second layer,
and have feed-forward blocks of their own.
Parameters without the image encoder, with all heads and 30,522 words: base, for ViT-g,
186.7 M (the paper prints 188); of the queries alone, as stage two keeps them, 105.1.
Deviates: queries are drawn as the tables are. What begins a text that is generated is
    a vector beside the table of words, not a word of it ([DEC]). The last norm of the
    image encoder is the one that LAVIS has beside it: it is trained where the rest is
    frozen.
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
from tfm_jax.layers.embed import TokenEmbedding
from tfm_jax.layers.heads import LMHead
from tfm_jax.layers.linear import Linear
from tfm_jax.layers.text.encoder import EncoderArch
from tfm_jax.layers.text.past import Cache
from tfm_jax.layers.text.queries import QueryingEncoder
from tfm_jax.models import vit
from tfm_jax.models.family import Family, Start


class Vectors(NamedTuple):
    """What images and texts are compared by, float32.

    Attributes:
        images: [B, Q, E] of length 1, of which the one that is closest to a text
            counts; [B, 1, E], their mean. None without images.
        texts: [B, E] of length 1; None without text.
        temperature: [], which similarities are divided by.
    """

    images: jax.Array | None
    texts: jax.Array | None
    temperature: jax.Array


class Outputs(NamedTuple):
    """All that is read off pairs of an image and a text.

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

# [B, Q, E] -> vectors of an image
POOLS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "closest": lambda x: x,  # Li et al. 2023, section 3.2
    "mean": lambda x: jnp.mean(x, axis=1, keepdims=True),
}


@dataclasses.dataclass(frozen=True)
class Vision(
    vit.Config,
    fixed={**EXECUTION, "head": "states", "labels": 1, "representation_width": 0},
):
    """The encoder of images; defaults are those of ViT-B/16."""


@dataclasses.dataclass(frozen=True)
class Text(
    EncoderArch,
    choices={"positions": ("learned", "sinusoidal", "sinusoidal_halves", "none")},
    fixed={
        **EXECUTION,
        **dict(types=2, labels=1, pool="first", head_dropout=0.0, windows=()),
    },
):
    """The layers that queries and text share; defaults are those of BERT base."""


@dataclasses.dataclass(frozen=True)
class Config(Execution, choices={"attention": ("auto", "xla")}):
    """Defaults are those of the paper, but for its image encoders."""

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
        "who sees whom where text is generated; full: a token sees the next one",
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
        """Tokens that there are."""
        return self.text.vocab

    @property
    def image(self) -> tuple[int, int]:
        """(height, width) of an image in pixels."""
        return self.vision.image

    @property
    def channels(self) -> int:
        """Of a pixel."""
        return self.vision.channels

    @property
    def tower(self) -> vit.Config:
        """The encoder of images, computed as the whole is."""
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
    "tiny": _vision(
        2, 48, 4, 192, patch_size=(4,), image_size=(32,), activation="gelu_tanh"
    )
    | dict(
        text=dict(depth=2, width=48, heads=4, ffn_width=192, max_length=64),
        queries=8,
        embed_width=32,
    ),
    # Li et al. 2023, section 3.3: without the last layer of the image encoder
    "vit_l": _vision(23, 1024, 16, 4096, norm_eps=1e-5),
    "vit_g": _vision(39, 1408, 16, 6144),
}


class Heads(nn.Module):
    """What is read off the states of queries and text; maps are in float32.

    And ``begin``, the vector that a text begins with that is generated.
    """

    cfg: Config

    def setup(self):  # what is not called has no parameters
        cfg, arch = self.cfg, self.cfg.arch

        def make(features):
            return Linear((features,), ("embed", None), arch.init)

        self.image, self.text = make(cfg.embed_width), make(cfg.embed_width)
        self.match = make(2)
        self.lm = LMHead(arch, arch.width)
        dtype = jnp.dtype(cfg.dtype)
        self.begin = TokenEmbedding(1, arch.width, arch.init, False, dtype)
        first = nn.initializers.constant(cfg.temperature)
        self.temperature = self.param("temperature", first, (), jnp.float32)

    def contrast(self, queries: jax.Array | None, text: jax.Array | None) -> Vectors:
        """``Vectors`` of the queries [B, Q, D] and of the first token of [B, T, D]."""
        images = texts = None
        if queries is not None:
            images = POOLS[self.cfg.pool](_unit(self.image(_exact(queries))))
        if text is not None:
            texts = _unit(self.text(_exact(text[:, 0])))
        return Vectors(images, texts, self.temperature)

    def matched(self, queries: jax.Array) -> jax.Array:
        """Logits [B, 2], the mean of those of all queries."""
        return jnp.mean(self.match(_exact(queries)), axis=1)


class Retriever(nn.Module):
    """Image encoder and Q-Former with the heads ``cfg.head``.

    Args (call): batch: ``ImageTextBatch`` of one image and one text a row, whose first
        token belongs to no word: it stands for the text where that is compared, and
        another one of our own is in its place where the text is generated.
    Returns: see HEADS.
    """

    cfg: Config
    still: tuple[str, ...] = ()  # parts without dropout

    def setup(self):
        cfg = self.cfg
        self.vision = vit.Vit(cfg.tower)
        self.qformer = QueryingEncoder(cfg.arch, cfg.queries, cfg.cross_every)
        self.head = Heads(cfg)

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
        return self.vision.encode(batch, train=train and "vision" not in self.still)

    def contrast(
        self, states: jax.Array | None, text: TextBatch | None, *, train: bool
    ) -> Vectors:
        """``Vectors`` of images, of texts, or of both, which do not see each other."""
        return self.head.contrast(*self.qformer(states, text, "apart", train=train))

    def match(self, states: jax.Array, text: TextBatch, *, train: bool) -> jax.Array:
        """Logits [B, 2] of whether image and text of a row belong together."""
        queries, _ = self.qformer(states, text, "full", train=train)
        return self.head.matched(queries)

    def lm_logits(
        self, states: jax.Array, text: TextBatch, *, train: bool
    ) -> jax.Array:
        """Logits [B, T, V] of the token after each of the text."""
        mask, first = self.cfg.generation_mask, self._begin(len(states))
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
        """Cache of images and of the text in front of one that is generated.

        Whatever ``cfg.generation_mask`` is, a token sees none behind it.

        Args: see ``Gpt.prefill`` and ``image_states``. beside: not read.
        Raises: ValueError for a model without the head that generates.
        """
        if self.cfg.head != "pretraining":
            raise ValueError(
                f"model.head={self.cfg.head!r} writes no text, 'pretraining' does"
            )
        states = self.image_states(images, train=False)
        parts = states, tokens, lengths, self._begin(len(states))
        return self.qformer.prefill(*parts, width=width, max_length=max_length)

    def step(self, tokens: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Tokens [B, W] in the next slot -> (logits [B, W, V], cache)."""
        x, cache = self.qformer.step(tokens, cache, self._begin(len(tokens)))
        return self.head.lm(x, self.qformer.embedding.word.attend), cache

    def _begin(self, batch):
        return self.head.begin(jnp.zeros((batch, 1), jnp.int32))


def _exact(x):
    return x.astype(jnp.float32)


def _unit(x):
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, 1e-24))


def _from_vit(params, before, now):
    """The encoder of a Vision Transformer, for images of the size that there are."""
    params = vit.for_size(params, before, now.tower)
    encoder = {k: x for k, x in params.items() if k.startswith("encoder/")}
    return {f"vision/{path}": x for path, x in encoder.items()}


def _from_bert(params, before, now):
    """BERT's layers, whose feed-forward blocks the queries have a copy of.

    Source: Li et al. 2023, section 3.1, and the released code, which drops the types of
    tokens. Deviates: a text is in sentence A, whose vector the positions have in them,
    so that it has the states that BERT gives it.
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
