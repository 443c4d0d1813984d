"""Flamingo: a language model with gated cross-attention to images.

Source: Alayrac et al. 2022, arXiv:2204.14198. Its image encoder is any Vision
Transformer of `models`, its language model any GPT; both most often are pretrained and
frozen, ``freeze=lm,vision``.
Parameters of the rest, with the published widths: gated layers 1.16, 1.80 and 8.36
billion (3B, 9B, 80B), resampler 170 million. The paper prints 1.2, 1.6 and 10 billion
and 194 million, which do not follow from its table 4.
Deviates: the image encoder is a Vision Transformer, not an NFNet-F6, and the language
    model a GPT, not Chinchilla; SIZES have theirs of about the published size.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.config import check_numbers, knob, widened
from tfm_jax.data.batch import ImageTextBatch
from tfm_jax.layers.arch import Execution
from tfm_jax.layers.images.patches import ImageEncoder
from tfm_jax.layers.images.resampler import Resampler, ResamplerConfig
from tfm_jax.layers.linear import PLAIN_INITS
from tfm_jax.layers.parts import CROSS, ENCODER, FFN, Memory, Part
from tfm_jax.layers.residual import GATES
from tfm_jax.layers.text.past import Cache as TextCache
from tfm_jax.models import gpt, qformer, vit
from tfm_jax.models.family import Family, Start
from tfm_jax.models.parts import vision
from tfm_jax.models.parts.language import LM_START, TINY, Language
from tfm_jax.models.parts.vision import Vision
from tfm_jax.ops.activations import ACTIVATIONS
from tfm_jax.ops.masks import Mask

# name -> whether a token attends to earlier images besides the latest one before it
SEEN = {
    "last": False,  # Alayrac et al. 2022, section 2.3
    "all": True,
}


@dataclasses.dataclass(frozen=True)
class Config(Execution, choices={"attention": ("auto", "xla")}):
    """Defaults are those of Flamingo-3B, see SIZES."""

    vision: Vision = Vision()
    lm: Language = Language()
    resampler: ResamplerConfig = ResamplerConfig()
    vocab: int = knob(0, "tokens; 0: the tokenizer's", low=0, high=2**24)
    gated_every: int = knob(
        1,
        "gated layers stand before the first and every so many layers of the language "
        "model",
        low=1,
        high=10_000,
    )
    gate: str = knob("tanh", "on what gated layers add", choices=GATES)
    seen: str = knob("last", "which images before it a token attends to", choices=SEEN)
    activation: str = knob(
        "squared_relu",
        "of the feed-forward blocks of resampler and gated layers",
        choices=ACTIVATIONS,
    )
    init: str = knob(
        "normal_0.02",
        "distribution of their kernels",
        role="initial",
        choices=PLAIN_INITS,
    )

    def __post_init__(self):
        check_numbers(self, "model")
        self.resampler_arch()  # says what does not fit

    @property
    def longest(self) -> int:
        """See ``Execution``: of text alone, images take no place in it."""
        return self.lm.longest

    def language(self) -> gpt.Config:
        """Of the language model as a model of its own."""
        return widened(self.lm, gpt.Config, **self.execution, vocab=self.vocab)

    def encoder(self) -> vit.Config:
        """Of the image encoder as a model of its own."""
        return widened(self.vision, vit.Config, **self.execution)

    def resampler_arch(self) -> Any:
        """Of the layers of the resampler."""
        own = dict(activation=self.activation, init=self.init)
        return self.resampler.arch(self.vision.width, **own, **self.execution)


def layers(cfg: Config) -> tuple[tuple[Part, ...], ...]:
    """Layers of the language model: gated parts before the first of each period.

    Source: Alayrac et al. 2022, section 2.2, figure 4 and appendix B.1.1.
    """
    own = dict(
        norm="pre",
        norm_kind="layernorm",
        norm_eps=1e-5,
        residual=True,
        score="scaled_dot",
        mask_style="before",
        biases="none",
        activation=cfg.activation,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        init=cfg.init,
        residual_init="plain",
    )

    def gated(part, **rest):
        changes = tuple(own.items())
        name = f"gated_{part.name}"
        return part._replace(name=name, gate=cfg.gate, changes=changes, **rest)

    first = (gated(CROSS, memory="image"), gated(FFN), *ENCODER)
    return (first, *[ENCODER] * (cfg.gated_every - 1))


class Cache(NamedTuple):
    """State of decoding continuations of a text with images.

    Attributes:
        text: of the language model.
        seen: of the images, by the tokens to come.
    """

    text: TextCache
    seen: Mask

    def select(self, parents: jax.Array) -> "Cache":
        """Hypothesis w of the result continues ``parents[:, w]``; parents: [B, W]."""
        return self._replace(text=self.text.select(parents))


class Flamingo(nn.Module):
    """Language model with gated cross-attention to images.

    Text before the first image attends to none. Gates start at 0: the logits then are
    those of the language model, to the last bit.

    Args (call): batch: ``ImageTextBatch``; of images [B, images, frames, height, width,
        C] if they are videos.
    Returns: logits [B, T, V] float32, at t for token t + 1.
    Raises: ValueError for rows longer than learned positions reach, and for images that
        the encoder cannot read.
    """

    cfg: Config
    frozen_parts: tuple[str, ...] = ()  # without dropout

    def setup(self):
        cfg = self.cfg
        self.vision = ImageEncoder(cfg.encoder(), cls=cfg.vision.pool == "cls")
        self.resampler = Resampler(cfg.resampler, cfg.resampler_arch())
        self.lm = gpt.Gpt(cfg.language(), pattern=layers(cfg))

    def __call__(self, batch: ImageTextBatch, *, train: bool) -> jax.Array:
        states = self.resample(batch.images, train=train)
        seen = self._seen(states, batch.image_counts, batch.image_index)
        memories = {"image": Memory(self._flat(states), seen)}
        frozen = "lm" in self.frozen_parts
        return self.lm(batch, memories, train=train, frozen=frozen)

    def resample(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Tokens [B, images, latents, D] of images [B, images, height, width, C].

        Videos have frames behind the axis of images. Of the image encoder's states only
        those of the patches are read, not [CLS] and registers.
        """
        images = jnp.asarray(images)
        if self.is_initializing():  # no parameter's shape is a batch's
            shape = *self.cfg.vision.image, self.cfg.vision.channels
            images = jnp.zeros((1, 1, *shape), images.dtype)
        if images.ndim == 5:
            images = images[:, :, None]
        batch, count, frames = images.shape[:3]
        each = images.reshape(-1, *images.shape[3:])
        x = self.vision(each, train=train and "vision" not in self.frozen_parts)
        x = x[:, self.vision.beside :]
        x = self.resampler(x.reshape(batch * count, frames, *x.shape[1:]), train=train)
        return x.reshape(batch, count, *x.shape[1:])

    def prefill(
        self,
        tokens: jax.Array,
        lengths: jax.Array,
        *,
        width: int,
        max_length: int,
        images: jax.Array,
        image_counts: jax.Array,
        image_index: jax.Array,
    ) -> Cache:
        """Cache of a prompt with images, see ``Gpt.prefill`` and ``ImageTextBatch``.

        Args: image_index: [B, P or more]. What continues it comes behind all images.
        """
        states = self.resample(images, train=False)
        index = image_index[:, : tokens.shape[1]]
        seen = self._seen(states, image_counts, index)
        text = self.lm.prefill(
            tokens,
            lengths,
            width=width,
            max_length=max_length,
            memories={"image": Memory(self._flat(states), seen)},
        )
        behind = jnp.repeat(image_counts[:, None], width, axis=1)
        return Cache(text, dataclasses.replace(seen, q_segments=behind))

    def step(self, tokens: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Tokens [B, W] in the next slot -> (logits [B, W, V], cache)."""
        memories = {"image": Memory(None, cache.seen)}
        logits, text = self.lm.step(tokens, cache.text, memories)
        return logits, cache._replace(text=text)

    def _seen(self, states, counts, index):
        """Mask of tokens with ``index`` [B, T] over states [B, images, latents, D]."""
        number = jnp.arange(states.shape[1])
        number = jnp.where(number < counts[:, None], number + 1, 0)
        number = jnp.repeat(number, states.shape[2], axis=1)
        past = SEEN[self.cfg.seen]
        return Mask(q_segments=index, kv_segments=number, past_segments=past)

    def _flat(self, states):
        return states.reshape(len(states), -1, states.shape[-1])


Model = Flamingo


def _size(lm, every, **rest):
    depth, width, heads = lm
    return dict(
        lm=dict(depth=depth, width=width, heads=heads, ffn_width=4 * width),
        gated_every=every,
        **rest,
    )


# of about the size of an NFNet-F6, and of its width
_ENCODER = dict(
    depth=16,
    width=1536,
    heads=16,
    ffn_width=6144,
    image_size=(320,),
    patch_size=(32,),
    pool="mean",
)

# Alayrac et al. 2022, tables 4 and 5: (depth, width, heads), every
SIZES: dict[str, Mapping[str, Any]] = {
    "tiny": dict(
        vision=vision.TINY,
        lm=TINY,
        resampler=dict(depth=1, latents=32, heads=4),
    ),
    "3b": _size((24, 2048, 16), 1, vision=_ENCODER),
    "9b": _size((40, 4096, 32), 4, vision=_ENCODER),
    "80b": _size((80, 8192, 64), 7, vision=_ENCODER),
}


def _of_vision(params: dict, before: vit.Config, now: Config) -> dict:
    taken = vision.take(params, before, now.encoder())
    return {path.replace("encoder", "vision", 1): x for path, x in taken.items()}


def _of_qformer(cfg: qformer.Config, params: dict) -> tuple:
    """The image encoder of a Q-Former, see ``Start.inside``."""
    return "vit", cfg.encoder(), params["vision"]


FAMILY = Family(
    "flamingo",
    Config,
    Flamingo,
    SIZES,
    learns={"visual_lm": ()},
    starts={
        "lm": LM_START,
        "vision": Start(
            ("vit",),
            "vision",
            _of_vision,
            owns="^vision/",
            inside={"qformer": _of_qformer},
        ),
    },
    below=(
        "vision/embedding",
        "vision/stack/position_bias",
        "resampler/frame",
        "resampler/latents",
        "lm/embedding",
        "lm/position",
        "lm/stack/position_bias",
    ),
    above=(
        "vision/stack/final_norm",
        "resampler/stack/final_norm",
        "lm/stack/final_norm",
        "lm/output",
    ),
    causal=True,
)
