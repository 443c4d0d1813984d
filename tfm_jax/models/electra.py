"""ELECTRA: a small generator proposes tokens, a discriminator detects them.

Source: Clark et al. 2020, arXiv:2003.10555.
Parameters with 30,522 words, of the discriminator: small 13.55 M (the paper prints 14),
base 109.48 (110), large 335.14 (335); what only the generator has: small 0.65 M.
Deviates: ``share="tokens"`` ties the token, position and type tables and their norm, as
the released code does; the paper names token and position tables only. The tables of
both models have one width even where nothing is shared.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.config import knob
from tfm_jax.data.batch import MaskedBatch, TextBatch
from tfm_jax.layers.heads import Head, LMHead, ReplacedHead, at_targets
from tfm_jax.layers.text.encoder import TASK_FIELDS, EncoderArch, TextEncoder
from tfm_jax.models.family import Family
from tfm_jax.ops.dropout import row_keys


class Sampled(NamedTuple):
    """Outputs of joint training with replaced token detection.

    Attributes:
        lm_logits: [B, T, V], or [B, M, V] at target positions, of the generator.
        scores: [B, T] logits of the discriminator, high for a replaced token.
        replaced: [B, T] bool, their labels; False where the sample is the original.
        tokens: [B, T] int, the inputs of the discriminator.
    """

    lm_logits: jax.Array
    scores: jax.Array
    replaced: jax.Array
    tokens: jax.Array


class Restored(NamedTuple):
    """Outputs of joint training if the discriminator predicts the original token.

    Attributes:
        lm_logits: as in ``Sampled``.
        restored: [B, M, V] at target positions, or [B, T, V], of the discriminator.
        original: [B, M] or [B, T] int, their labels.
        copy: [B, T] logits of the copy mechanism, high where the input is to be kept;
            None: there is none.
        same: [B, T] bool, its labels.
    """

    lm_logits: jax.Array
    restored: jax.Array
    original: jax.Array
    copy: jax.Array | None = None
    same: jax.Array | None = None


def _joint(model, batch, train):
    lm_logits = model.generate(batch, train=train)
    tokens, replaced = fill(batch, lm_logits, model.noise_key())
    filled = batch._replace(tokens=tokens)
    scores = model.discriminate(filled, train=train)
    return Sampled(lm_logits, scores, replaced, tokens)


def _replace_mlm(model, batch, train):
    lm_logits = model.generate(batch, train=train)
    filled, _ = fill(batch, lm_logits, model.noise_key())
    x = model.encode(batch._replace(tokens=filled), train=train)
    restored = model.restore_lm_logits(at_targets(x, batch))
    return Restored(lm_logits, restored, labels_of(batch))


def _all_tokens_mlm(model, batch, train):
    lm_logits = model.generate(batch, train=train)
    filled, replaced = fill(batch, lm_logits, model.noise_key())
    x = model.encode(batch._replace(tokens=filled), train=train)
    labels = labels_of(batch)
    original = batch.tokens if labels is None else put(batch, labels)
    restored, copy = model.restore_lm_logits(x), model.replaced(x)
    return Restored(lm_logits, restored, original, copy, ~replaced)


def _task(model, batch, train):
    return model.head(model.encode(batch, train=train), batch, None, train=train)


# (model, batch, train) -> float32 logits
HEADS: dict[str, Callable] = {
    "pretraining": _joint,  # ``Sampled``
    # ``Restored``, section 3.4; all tokens with the paper's copy mechanism
    "replace_mlm": _replace_mlm,
    "all_tokens_mlm": _all_tokens_mlm,
    "masked_lm": lambda m, batch, train: m.generate(batch, train=train),
    "replaced": lambda m, batch, train: m.discriminate(batch, train=train),
    # on the discriminator, see ``layers.heads.HEADS``; none has a pooler
    "classify": _task,
    "tag": _task,
    "span": _task,
    "states": _task,
}
JOINT = ("pretraining", "replace_mlm", "all_tokens_mlm")  # heads with both towers


def _own(m, batch, train):
    return m.generator(batch, train=train)


def _tokens(m, batch, train):
    x = m.discriminator.embed(batch, train=train)
    return m.generator.encode(m.generator.embedding.widen(x), batch, train=train)


def _all(m, batch, train):
    return m.discriminator(batch, train=train)


class Share(NamedTuple):
    """``states`` of the generator, and the ``tower`` whose token table it uses."""

    states: Callable
    tower: str


SHARES = {  # what generator and discriminator have in common, section 3.2
    "none": Share(_own, "generator"),
    "tokens": Share(_tokens, "discriminator"),
    "all": Share(_all, "discriminator"),
}


@dataclasses.dataclass(frozen=True)
class Config(EncoderArch):
    """Defaults are the paper's base model; without prefix: of the discriminator."""

    embedding_width: int = knob(768, "E, of all tables", low=1, high=2**20)
    generator_width: int = knob(256, "the generator's width", low=1, high=2**20)
    generator_heads: int = knob(4, "the generator's heads", low=1, high=2**20)
    generator_ffn_width: int = knob(1024, "the generator's d_ff", low=1, high=2**20)
    generator_depth: int = knob(12, "the generator's layers", low=1, high=10_000)
    share: str = knob(
        "tokens", "what generator and discriminator have in common", choices=SHARES
    )
    head: str = knob("pretraining", "output head", choices=HEADS)

    READ_WITH = {  # a fine-tuned model keeps the generator's sizes for its origin
        ("head", ("classify", "tag")): ("head_dropout",),
        ("head", ("classify",)): ("pool",),
    }

    def __post_init__(self):
        super().__post_init__()
        if not self.key_size and self.generator_width % self.generator_heads:
            raise ValueError(
                f"model.generator_heads={self.generator_heads} must divide "
                f"model.generator_width={self.generator_width}"
            )
        if self.share == "all":
            for name in ("width", "heads", "ffn_width", "depth"):
                ours, other = getattr(self, name), getattr(self, f"generator_{name}")
                if ours != other:
                    raise ValueError(
                        f"model.share='all' needs model.generator_{name}={other} to "
                        f"be model.{name}={ours}"
                    )

    @property
    def generator(self) -> "Config":
        """The generator's sizes in the place of the discriminator's."""
        return dataclasses.replace(
            self,
            width=self.generator_width,
            heads=self.generator_heads,
            ffn_width=self.generator_ffn_width,
            depth=self.generator_depth,
        )


def _generator(depth, width):
    return dict(
        generator_depth=depth,
        generator_width=width,
        generator_heads=max(1, width // 64),
        generator_ffn_width=4 * width,
    )


SIZES = {  # table 6
    "small": dict(
        **dict(embedding_width=128, width=256, heads=4, ffn_width=1024),
        **_generator(12, 64),
    ),
    "base": dict(),
    "large": dict(
        **dict(embedding_width=1024, width=1024, heads=16, ffn_width=4096, depth=24),
        **_generator(24, 256),
    ),
}


class Electra(nn.Module):
    """Generator and discriminator, or the part of them that ``cfg.head`` needs.

    Args (call): batch: ``TextBatch`` of [B, T] integers. In joint training its tokens
        are masked, and labels and weights hold the original tokens.
    Returns: see ``HEADS``. Samples follow the "dropout" key; without one, as in
        evaluation, the noise is the same for every batch.
    """

    cfg: Config

    def setup(self):  # what is not called has no parameters
        cfg, small, width = self.cfg, self.cfg.generator, self.cfg.embedding_width
        self.discriminator = TextEncoder(cfg, width, width != cfg.width)
        self.generator = TextEncoder(small, width, width != small.width)
        self.lm = LMHead(small, width)
        self.restore = LMHead(cfg, width)
        self.replaced = ReplacedHead(cfg)
        self.head = Head(cfg, cfg.head, width, pools=False)

    def __call__(self, batch: TextBatch, *, train: bool) -> Any:
        return HEADS[self.cfg.head](self, batch, train)

    def encode(self, batch: TextBatch, *, train: bool) -> jax.Array:
        """States of the discriminator [B, T, D], or of a generator on its own."""
        if self.cfg.head == "masked_lm":
            return SHARES[self.cfg.share].states(self, batch, train)
        return self.discriminator(batch, train=train)

    def generate(self, batch: TextBatch, *, train: bool) -> jax.Array:
        """LM logits of the generator, [B, T, V] or [B, M, V] at target positions."""
        share = SHARES[self.cfg.share]
        x = at_targets(share.states(self, batch, train), batch)
        return self.lm(x, getattr(self, share.tower).embedding.word.attend)

    def discriminate(self, batch: TextBatch, *, train: bool) -> jax.Array:
        """Logits [B, T], high for replaced tokens."""
        return self.replaced(self.encode(batch, train=train))

    def restore_lm_logits(self, x: jax.Array) -> jax.Array:
        """Logits [..., V] of the original tokens, of the discriminator's states."""
        return self.restore(x, self.discriminator.embedding.word.attend)

    def noise_key(self) -> jax.Array:
        """The key of the samples of this call."""
        return (
            self.make_rng("dropout") if self.has_rng("dropout") else jax.random.key(0)
        )


Model = Electra


def fill(
    batch: MaskedBatch, logits: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Replaces masked tokens by samples of the generator.

    Source: Clark et al. 2020, section 2. Deviates: no.

    Args:
        batch: ``MaskedBatch``; without labels nothing is replaced.
        logits: [B, T, V] or [B, M, V]; no gradient flows into them.
        key: JAX key.
    Returns: (tokens [B, T], whether each differs from the original one [B, T]).
    """
    tokens = batch.tokens
    if labels_of(batch) is None:
        return tokens, jnp.zeros_like(tokens, bool)
    keys = row_keys(key, len(logits))
    noise = jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[1:]))(keys)
    sampled = jnp.argmax(jax.lax.stop_gradient(logits) + noise, axis=-1)
    filled = put(batch, sampled)
    return filled, filled != put(batch, batch.labels)


def labels_of(batch: TextBatch | MaskedBatch) -> Any:
    """The original tokens at the target positions; None for text that is only read."""
    return getattr(batch, "labels", None)


def put(batch: MaskedBatch, new: jax.Array) -> jax.Array:
    """``batch.tokens``, ``new`` [B, T], or [B, M], at the prediction targets."""
    tokens = jnp.asarray(batch.tokens)
    is_target, length = batch.weights > 0, tokens.shape[1]
    columns = batch.target_positions
    if columns is None:
        columns = jnp.arange(length)[None]
    columns = jnp.where(is_target, columns, length)  # beyond the row: dropped
    rows = jnp.arange(len(tokens))[:, None]
    new = jnp.asarray(new, tokens.dtype)
    return tokens.at[rows, columns].set(new, mode="drop")


def part(cfg: Config, params: Mapping[str, Any], head: str) -> tuple[Config, dict]:
    """One tower of a jointly trained model, see JOINT, as a model of its own.

    Args:
        cfg: with a head of JOINT. params: nested dict of its parameters.
        head: "masked_lm" for the generator, "replaced" for the discriminator.
    Returns: (config, parameters); the generator's shares nothing.
    Raises: ValueError for a discriminator that was trained on another objective.
    """
    if head == "replaced":
        if cfg.head != "pretraining":
            raise ValueError(
                f"a discriminator with model.head={cfg.head!r} does not tell replaced "
                f"tokens from others; its generator predicts masked tokens"
            )
        kept = {name: params[name] for name in ("discriminator", "replaced")}
        return dataclasses.replace(cfg, head=head), kept
    alone = dataclasses.replace(cfg.generator, head=head, share="none")
    owner = SHARES[cfg.share].tower
    tower = params[owner] if cfg.share == "all" else params["generator"]
    embedding = params[owner]["embedding"] | tower.get("embedding", {})
    if alone.embedding_width == alone.width:
        embedding = {k: x for k, x in embedding.items() if k != "map"}
    return alone, {"generator": tower | {"embedding": embedding}, "lm": params["lm"]}


_TOWERS = ("discriminator", "generator")
FAMILY = Family(
    "electra",
    Config,
    Electra,
    SIZES,
    learns={
        "masked_lm": ("masked_lm",),
        "replaced_tokens": ("pretraining",),
        "replaced_asked_tokens": ("pretraining",),
        "replace_mlm": ("replace_mlm",),
        "all_tokens_mlm": ("all_tokens_mlm",),
        "classify": ("classify",),
        "tag": ("tag",),
        "span": ("span",),
    },
    # the discriminator is what is kept
    task_parameters=("head", "lm", "replaced", "restore", "generator"),
    task_fields=TASK_FIELDS | {"share", *_generator(0, 0)},
    below=(
        *(f"{tower}/embedding" for tower in _TOWERS),
        *(f"{tower}/stack/position_bias" for tower in _TOWERS),
    ),
    above=(
        *(f"{tower}/stack/final_norm" for tower in _TOWERS),
        *("head", "lm", "replaced", "restore"),
    ),
    joint=JOINT,
    towers={
        "discriminator": functools.partial(part, head="replaced"),
        "generator": functools.partial(part, head="masked_lm"),
    },
)
