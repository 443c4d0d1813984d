"""Decoder-only language models: GPT-1, GPT-2, GPT-3 and GPT-Neo.

Source: Radford et al. 2018 ("Improving Language Understanding by Generative
Pre-Training"), Radford et al. 2019 ("Language Models are Unsupervised Multitask
Learners"), Brown et al. 2020, arXiv:2005.14165, Black et al. 2021 (GPT-Neo).
Parameters with the published vocabularies (40,478; 50,257): see SIZES.
Deviates:
    - position vectors start like token vectors, N(0, 0.02), in GPT-2's released code
      they start at 0.01;
    - GPT-3's table 2.1 gives XL 24 heads of 128, which are wider than its 2,048 and
      make 1.5 billion parameters, not 1.3: here they are 16; it gives 13B a width of
      5,140, which 40 heads of 128 do not divide: here it is 5,120;
    - the width of GPT-3's local bands was never published: here it is GPT-Neo's.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.config import Above, knob
from tfm_jax.data.batch import TextBatch
from tfm_jax.layers.arch import TextArch
from tfm_jax.layers.embed import PositionEmbedding, TokenEmbedding
from tfm_jax.layers.heads import (
    LabelledLogits,
    Labels,
    VocabularyLoss,
    vocabulary_logits,
)
from tfm_jax.layers.linear import Dropout, Linear, constrain
from tfm_jax.layers.parts import ENCODER, Context, Memory, Part
from tfm_jax.layers.residual import NORM_PLACEMENTS
from tfm_jax.layers.stack import Stack
from tfm_jax.layers.text.past import Cache
from tfm_jax.models.family import Family
from tfm_jax.ops import ancestry, pooling
from tfm_jax.ops.masks import Mask

NONE: Mapping[str, Memory] = MappingProxyType({})
# the sum of token and position vectors; or, as GPT-1's released code, both tables, so
# that the logits are taken against the same dropped vectors
DROPPED = ("vectors", "tables")


def _lm(model, x, table, batch, train):
    return model.lm_logits(x, table, train=train)


def _classify(model, x, table, batch, train):
    labels = model.classify(pooling.last(x, batch.segments > 0), train=train)
    return LabelledLogits(model.lm_logits(x, table, train=train), labels)


# (model, x [B, T, D], token table, batch, train) -> float32 logits
HEADS: dict[str, Callable] = {
    "lm": _lm,  # [B, T, V], at t for token t + 1
    "classify": _classify,  # ``LabelledLogits``; Radford et al. 2018, section 3.2
}


@dataclasses.dataclass(frozen=True)
class Config(VocabularyLoss, TextArch):
    """Defaults are GPT-2's smallest model."""

    width: int = 768
    heads: int = 12
    ffn_width: int = 3072
    norm: str = "pre"
    norm_eps: float = 1e-5
    positions: str = "learned"
    max_length: int = 1024
    activation: str = "gelu_tanh"
    dropout: float = knob(
        0.1, "on every sub-layer's output", role="training", low=0, below=1
    )
    attention_dropout: float = 0.1
    init: str = "normal_0.02"
    residual_init: str = "scaled"
    depth: int = knob(12, "layers", low=1, high=10_000)
    vocab: int = knob(0, "tokens; 0: the tokenizer's", low=0, high=2**24)
    tie_embeddings: bool = knob(True, "one table for input and output")
    embedding_dropout: float = knob(
        0.1, "on word and position vectors", role="training", low=0, below=1
    )
    embedding_dropout_on: str = knob(
        "vectors",
        "their sum, or, as GPT-1, the tables of both: the logits see it too",
        role="training",
        choices=DROPPED,
    )
    head: str = knob("lm", "output head", choices=HEADS)
    labels: int = knob(2, 'classes of the head "classify"', low=1, high=2**20)
    head_dropout: float = knob(
        0.1,
        'before the map of the head "classify"; Radford et al. 2018, section 4.1',
        role="training",
        low=0,
        below=1,
    )

    READ_WITH = {
        ("norm", tuple(n for n in NORM_PLACEMENTS if n != "none")): (
            "norm_kind",
            "norm_eps",
        ),
        ("head", ("classify",)): ("labels", "head_dropout"),
        ("embedding_dropout", Above(0)): ("embedding_dropout_on",),
    }


def _size(depth, width, heads, **rest):
    return dict(depth=depth, width=width, heads=heads, ffn_width=4 * width, **rest)


_GPT1 = dict(
    norm="post",
    max_length=512,
    residual_init="plain",
    embedding_dropout_on="tables",
)
_GPT3 = dict(max_length=2048, windows=(0, 256))
_NEO = dict(
    _GPT3,
    score="dot",
    biases="not_qkv",
    residual_init="plain",
    dropout=0.0,
    attention_dropout=0.0,
    embedding_dropout=0.0,
)

SIZES = {  # parameters in millions
    # Karpathy's nanoGPT, characters of Shakespeare on a CPU
    "shakespeare": _size(
        4,
        128,
        4,
        max_length=64,
        dropout=0.0,
        attention_dropout=0.0,
        embedding_dropout=0.0,
        biases="none",
        norm_kind="layernorm_no_bias",
    ),
    "gpt1": _size(12, 768, 12, **_GPT1),  # 116.53
    "gpt2": dict(),  # 124.44; the paper prints 117
    "gpt2_medium": _size(24, 1024, 16),  # 354.82 (345)
    "gpt2_large": _size(36, 1280, 20),  # 774.03 (762)
    "gpt2_xl": _size(48, 1600, 25),  # 1557.61 (1542)
    # Brown et al. 2020, table 2.1
    "gpt3_small": _size(12, 768, 12, **_GPT3),  # 125.2
    "gpt3_medium": _size(24, 1024, 16, **_GPT3),  # 355.9
    "gpt3_large": _size(24, 1536, 16, **_GPT3),  # 760.3
    "gpt3_xl": _size(24, 2048, 16, **_GPT3),  # 1315.7
    "gpt3_2.7b": _size(32, 2560, 32, **_GPT3),  # 2651.6
    "gpt3_6.7b": _size(32, 4096, 32, **_GPT3),  # 6658.4
    "gpt3_13b": _size(40, 5120, 40, **_GPT3),  # 12,850
    "gpt3_175b": _size(96, 12288, 96, **_GPT3),  # 174,600
    # EleutherAI's released models
    "neo_125m": _size(12, 768, 12, **_NEO),  # 125.2
    "neo_1.3b": _size(24, 2048, 16, **_NEO),  # 1315.6
    "neo_2.7b": _size(32, 2560, 20, **_NEO),  # 2651.3
}


class Gpt(nn.Module):
    """Decoder-only Transformer with the head ``cfg.head``.

    Args (call): batch: ``TextBatch``; its tokens, segments and positions count.
        Segments keep packed documents apart; where positions are None every row holds
        one document, padded on the right.
        memories: name -> what parts of ``pattern`` cross-attend to; masks are of all
            vectors of a row. prompt: [B, P, D], vectors in front of the tokens of rows
            of one document each: positions count from the first of them. frozen: its
            states have no dropout; what is in front of it learns.
    Returns: float32 logits of the tokens, see ``HEADS``.
    Raises: ValueError if rows are longer than a learned table of positions, and for a
        prompt in front of packed rows.
    """

    cfg: Config
    pattern: tuple[tuple[Part, ...], ...] = (ENCODER,)  # of its layers

    def setup(self):
        cfg, dtype = self.cfg, jnp.dtype(self.cfg.dtype)
        self.embedding = TokenEmbedding(
            cfg.vocab, cfg.width, cfg.init, cfg.embedding_scale, dtype
        )
        self.position = PositionEmbedding(cfg.positions, cfg.max_length, cfg.init)
        self.embedding_dropout = Dropout(cfg.embedding_dropout)
        self.stack = Stack(cfg, cfg.depth, causal=True, pattern=self.pattern)
        if not cfg.tie_embeddings:
            axes = ("embed", "vocab")
            self.output = Linear((cfg.vocab,), axes, cfg.init, bias=False, dtype=dtype)
        # without parameters where it is not called
        self.classify = Labels(cfg, cfg.labels, cfg.head_dropout)

    def __call__(
        self,
        batch: TextBatch,
        memories: Mapping[str, Memory] = NONE,
        prompt: jax.Array | None = None,
        *,
        train: bool,
        frozen: bool = False,
    ) -> Any:
        drops = train and not frozen
        x, table = self._states(batch, memories, prompt, train=drops)
        return HEADS[self.cfg.head](self, x, table, batch, train)

    def encode(self, batch: TextBatch, *, train: bool) -> jax.Array:
        """Final states of all tokens [B, T, D]."""
        return self._states(batch, NONE, None, train=train)[0]

    def init_cache(
        self,
        batch: int,
        *,
        width: int,
        max_length: int,
        memories: Mapping[str, Memory] = NONE,
    ) -> Cache:
        """Empty cache for ``width`` continuations of ``max_length`` tokens each."""
        self._check(max_length)
        return Cache(
            index=jnp.zeros((), jnp.int32),
            layers=self.stack.init_cache(batch, width, max_length, memories),
            starts=jnp.zeros((batch,), jnp.int32),
            ancestry=jnp.zeros((batch, width, max_length), jnp.int32),
        )

    def prefill(
        self,
        tokens: jax.Array,
        lengths: jax.Array | None = None,
        *,
        width: int,
        max_length: int,
        memories: Mapping[str, Memory] = NONE,
        prompt: jax.Array | None = None,
    ) -> Cache:
        """Cache of a row's beginning, which is processed in one pass.

        Args:
            tokens: [B, T], padded on the right. lengths: [B], how many are real, 0 or
                more; None means all.
            width: W, continuations of each row.
            max_length: slots of the cache, those of tokens and ``prompt`` included.
            memories, prompt: see the class.
        """
        x = _behind(prompt, self.embedding(tokens))
        batch, size = x.shape[:2]
        shape = dict(width=width, max_length=max_length)
        cache = self.init_cache(batch, **shape, memories=memories)
        if not size:
            return cache
        slots = jnp.arange(size)[None]
        if lengths is None:
            positions, mask = slots, Mask(causal=True)
        else:  # moved to the right, so that all rows end in the same slot
            starts = tokens.shape[1] - jnp.asarray(lengths, jnp.int32)
            cache = cache._replace(starts=starts)
            positions = slots - starts[:, None]
            x = jnp.take_along_axis(x, (positions % size)[..., None], axis=1)
            real = (positions >= 0).astype(jnp.int32)
            mask = Mask(causal=True, q_segments=real, kv_segments=real)
            memories = {k: _moved(m, positions) for k, m in memories.items()}
        x = self.position(x, jnp.maximum(positions, 0))
        context = Context(mask, memories=dict(memories))
        _, layers = self.stack.prefill(x, cache.layers, width, slots, context)
        return cache._replace(index=jnp.int32(size), layers=layers)

    def step(
        self,
        tokens: jax.Array,
        cache: Cache,
        memories: Mapping[str, Memory] = NONE,
    ) -> tuple[jax.Array, Cache]:
        """Tokens [B, W] in slot ``cache.index`` -> (logits [B, W, V], cache).

        Args: memories: without states; their masks are of these tokens.
        """
        positions = (cache.index - cache.starts)[:, None]
        x = self.position(self.embedding(tokens), positions)
        written, visible = ancestry.write(cache.ancestry, cache.index)
        width, length = written.shape[1:]
        slots = jnp.repeat(jnp.arange(length), width)
        x, layers = self.stack.step(
            x,
            cache.layers,
            cache.index,
            Context(memories=dict(memories)),
            visible=visible & (slots >= cache.starts[:, None, None]),
        )
        cache = cache._replace(index=cache.index + 1, layers=layers, ancestry=written)
        return self.lm_logits(x, self.embedding.table), cache

    def lm_logits(self, x: jax.Array, table: jax.Array, *, train: bool = False) -> Any:
        """States [..., D] -> logits [..., V] float32, tied to a ``table`` [V, D].

        Args: train: [B, T, V] may stay factored, see ``layers.heads``.
        """
        output = table if self.cfg.tie_embeddings else self.output
        return vocabulary_logits(self.cfg, x, output, train=train)

    def _states(self, batch, memories, prompt, *, train):
        """([B, T, D], the token table of this call)."""
        cfg, count = self.cfg, 0 if prompt is None else prompt.shape[1]
        length = count + batch.tokens.shape[1]
        self._check(length)
        tables = cfg.embedding_dropout_on == "tables"
        drop = functools.partial(
            self.embedding_dropout, train=train, of_rows=not tables
        )
        table = drop(self.embedding.table) if tables else self.embedding.table
        if batch.positions is None:
            positions = jnp.arange(length)[None]
            real = jnp.sum(batch.segments > 0, axis=-1, dtype=jnp.int32)
            mask = Mask(causal=True, kv_lengths=count + real)
        elif count:
            raise ValueError("a prompt stands in front of one document, not of several")
        else:
            positions, segments = batch.positions, batch.segments
            mask = Mask(causal=True, q_segments=segments, kv_segments=segments)
        x = _behind(prompt, self.embedding(batch.tokens, table))
        x = self.position(x, positions, drop if tables else None)
        x = constrain(x if tables else drop(x), "batch", "length", "embed")
        context = Context(mask, memories=dict(memories))
        x = self.stack(x, positions, context, train=train)
        return x[:, count:], table

    def _check(self, length):
        cfg = self.cfg
        if cfg.longest and length > cfg.longest:
            raise ValueError(
                f"rows of {length} tokens are longer than "
                f"model.max_length={cfg.max_length}"
            )


def _behind(prompt, x):
    """``x`` [B, T, D] with what stands in front of it, if there is something."""
    if prompt is None:
        return x
    return jnp.concatenate([prompt.astype(x.dtype), x], axis=1)


def _moved(memory, positions):
    """``memory`` of a row whose columns are moved so that they have ``positions``."""
    if memory.mask is None or memory.mask.q_segments is None:
        return memory
    columns = positions % positions.shape[1]
    there = jnp.take_along_axis(memory.mask.q_segments, columns, axis=1)
    there = jnp.where(positions >= 0, there, 0)
    return memory._replace(mask=dataclasses.replace(memory.mask, q_segments=there))


Model = Gpt

FAMILY = Family(
    "gpt",
    Config,
    Gpt,
    SIZES,
    learns={"causal_lm": ("lm",), "classify": ("classify",)},
    task_parameters=("classify",),
    task_fields=frozenset({"head", "labels"}),
    below=("embedding", "position", "stack/position_bias"),
    above=("stack/final_norm", "output", "classify"),
    frame="gpt1",
    causal=True,
)
