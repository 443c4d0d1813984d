"""Output heads: LM logits, sentence pairs, sequence and token labels, spans."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tfm_jax.config import knob
from tfm_jax.layers.arch import Arch
from tfm_jax.layers.linear import Dropout, Linear, constrain, parameter
from tfm_jax.layers.norms import NORM_KINDS
from tfm_jax.layers.text.encoder import EncoderArch
from tfm_jax.ops.activations import ACTIVATIONS
from tfm_jax.ops.losses import FactoredLogits, default_chunk, token_logits
from tfm_jax.ops.pooling import POOLS


@dataclasses.dataclass(frozen=True)
class VocabularyLoss:
    """Field for a ``Config``, whose bases name it before the class of the others."""

    loss_chunk: int = knob(
        0,
        "positions of a row whose logits a training step holds at a time; 0: as many "
        "as suit the device",
        role="execution",
        low=0,
    )


def vocabulary_logits(
    cfg: Any,
    x: jax.Array,
    output: Any,
    bias: jax.Array | None = None,
    *,
    train: bool,
) -> jax.Array | FactoredLogits:
    """Logits [B, T, V] float32, left factored where training takes them in chunks.

    Args:
        cfg: has ``VocabularyLoss``. x: [B, T, D].
        output: a table [V, D], or a ``Linear`` without bias. bias: [V].
    """
    dtype, untied = jnp.dtype(cfg.dtype), isinstance(output, Linear)
    vocab = output.features[0] if untied else len(output)
    chunk = cfg.loss_chunk or default_chunk(vocab, _rows_of_a_device(x))
    if train and x.shape[1] > chunk:
        table = output.variables["params"]["kernel"].T if untied else output
        table = constrain(table, "vocab", None)  # gathered once, not for each chunk
        return FactoredLogits(x, table, bias, dtype, chunk)
    if untied:
        logits = output(x).astype(jnp.float32)
        logits = logits if bias is None else logits + bias
    else:
        # it may lie divided by its width: logits of many tokens are larger than it is
        tokens = _rows_of_a_device(x) * math.prod(x.shape[1:-1])
        table = constrain(output, "vocab", None) if tokens > x.shape[-1] else output
        logits = token_logits(x, table, dtype, bias)
    return constrain(logits, "batch", "length", "vocab")


def _rows_of_a_device(x):
    """Of [B, ...] that a mesh may divide."""
    sizes = jax.sharding.get_abstract_mesh().shape
    axes = nn.logical_to_mesh_axes(("batch",))[0] or ()
    axes = (axes,) if isinstance(axes, str) else axes
    return max(len(x) // math.prod(sizes.get(axis, 1) for axis in axes), 1)


class LMHead(nn.Module):
    """LM logits: dense map to E, activation, norm, tied token table, bias.

    Source: Devlin et al. 2019, released code. Deviates: no.
    Args (call): x: [..., D]. attend: [..., E] -> [..., V] float32, by the table.
    Returns: [..., V] float32.
    """

    cfg: EncoderArch
    width: int  # E

    @nn.compact
    def __call__(
        self, x: jax.Array, attend: Callable[[jax.Array], jax.Array]
    ) -> jax.Array:
        cfg, dtype = self.cfg, jnp.dtype(self.cfg.dtype)
        x = _dense(cfg, self.width, "dense")(x)
        x = ACTIVATIONS[cfg.activation].function(x)
        make = NORM_KINDS[cfg.norm_kind]
        x = make(epsilon=cfg.norm_eps, dtype=dtype, name="norm")(x)
        zeros = nn.initializers.zeros
        bias = parameter(self, "bias", zeros, (cfg.vocab,), ("vocab",))
        return constrain(attend(x) + bias, "batch", "length", "vocab")


class Pooler(nn.Module):
    """A dense map and tanh of the pooled state: [B, D] -> [B, D].

    Source: Devlin et al. 2019, released code. Deviates: no.
    """

    cfg: EncoderArch

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.tanh(_dense(self.cfg, self.cfg.width, "dense")(x))


class ReplacedHead(nn.Module):
    """Whether a token was replaced: [B, T, D] -> logits [B, T] float32.

    Source: Clark et al. 2020, arXiv:2003.10555, section 2, dense map and activation
    before it as released. Deviates: no.
    """

    cfg: EncoderArch

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = _dense(self.cfg, self.cfg.width, "dense")(x)
        x = ACTIVATIONS[self.cfg.activation].function(x)
        return _logits(self.cfg, 1, "out")(x)[..., 0]


class Labels(nn.Module):
    """Dropout and a dense map to ``labels`` logits: [..., D] -> [..., labels]."""

    cfg: Arch
    labels: int
    dropout: float
    scale: float = 1.0  # on the initial kernel

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        return _logits(self.cfg, self.labels, "out", self.scale)(x)


class PretrainingLogits(NamedTuple):
    """``lm_logits`` [B, T, V], or [B, M, V] at targets; ``pair`` [B, 2]."""

    lm_logits: jax.Array
    pair: jax.Array


class LabelledLogits(NamedTuple):
    """``lm_logits`` [B, T, V], and ``labels`` [B, labels] of the sequence."""

    lm_logits: jax.Array
    labels: jax.Array


class Head(nn.Module):
    """One of HEADS on the states of an encoder.

    Args (call): x: [B, T, D]. batch: ``TextBatch``; its targets count. attend: see
        ``LMHead``. Returns: float32 logits, see HEADS.
    """

    cfg: EncoderArch
    kind: str  # a key of HEADS
    width: int  # E
    pair_dropout: float = 0.0
    pools: bool = True  # False: sequence labels need no pooler

    def setup(self):  # what is not called has no parameters
        cfg = self.cfg
        self.lm = LMHead(cfg, self.width)
        self.pooler = Pooler(cfg)
        self.pair = Labels(cfg, 2, self.pair_dropout)
        self.classify = Labels(cfg, cfg.labels, cfg.head_dropout)
        self.tag = Labels(cfg, cfg.labels, cfg.head_dropout)
        self.span = Labels(cfg, 2, 0.0)

    def __call__(
        self,
        x: jax.Array,
        batch: Any,
        attend: Callable[[jax.Array], jax.Array] | None,
        *,
        train: bool,
    ) -> Any:
        return HEADS[self.kind](self, x, batch, attend, train)


def _lm_logits(head, x, batch, attend, train):
    return head.lm(at_targets(x, batch), attend)


def _state(head, x, batch):
    """Sequence-level pooling: [B, T, D] -> [B, D]."""
    return POOLS[head.cfg.pool](x, batch.segments > 0)


def _pair(head, x, batch, attend, train):
    return head.pair(head.pooler(_state(head, x, batch)), train=train)


def _pretraining(head, x, batch, attend, train):
    pair = _pair(head, x, batch, attend, train)
    return PretrainingLogits(_lm_logits(head, x, batch, attend, train), pair)


def _classify(head, x, batch, attend, train):
    state = _state(head, x, batch)
    return head.classify(head.pooler(state) if head.pools else state, train=train)


def _tag(head, x, batch, attend, train):
    return head.tag(x, train=train)


def _span(head, x, batch, attend, train):
    return jnp.moveaxis(head.span(x, train=train), -1, -2)


def _states(head, x, batch, attend, train):
    return x.astype(jnp.float32)


# (head, x [B, T, D], batch, attend, train) -> logits; Devlin et al. 2019, figure 4
HEADS: dict[str, Callable] = {
    "pretraining": _pretraining,  # ``PretrainingLogits``
    "masked_lm": _lm_logits,  # [B, T, V], or [B, M, V] at targets
    "pair": _pair,  # [B, 2]
    "classify": _classify,  # [B, labels]
    "tag": _tag,  # [B, T, labels]
    "span": _span,  # [B, 2, T], start and end of the answer
    "states": _states,  # [B, T, D], no head
}


def at_targets(x: jax.Array, batch: Any) -> jax.Array:
    """[B, T, D] at the batch's target positions [B, M] -> [B, M, D]; all without."""
    targets = getattr(batch, "target_positions", None)
    if targets is None:
        return x
    return jnp.take_along_axis(x, targets[..., None], axis=1, mode="clip")


def _dense(cfg, width, name):
    dtype = jnp.dtype(cfg.dtype)
    return Linear((width,), ("embed", None), cfg.init, dtype=dtype, name=name)


def _logits(cfg, labels, name, scale=1.0):
    """A dense map in float32."""
    return Linear((labels,), ("embed", None), cfg.init, scale=scale, name=name)
