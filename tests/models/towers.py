"""A family of two parts, each of which is a model of ``outside`` with a run of its own.

Its logits are a map of the sum of theirs, so that it has parameters beside the parts.
"""

import dataclasses

from flax import linen as nn

from tests.models import outside
from tfm_jax.config import knob, section, widened
from tfm_jax.layers.arch import EXECUTION, Execution
from tfm_jax.models.family import Family, Start

PARTS = ("lm", "other")


@dataclasses.dataclass(frozen=True)
class Part(outside.Config, fixed=EXECUTION | {"vocab": 0}):
    """All that is not the whole's."""


@dataclasses.dataclass(frozen=True)
class Config(Execution):
    """A section for each part, and one vocabulary."""

    vocab: int = knob(0, "0: the tokenizer's", low=0, high=2**24)
    lm: Part = Part()
    other: Part = Part(width=4)


class Towers(nn.Module):
    """[B, T] tokens -> [B, T, V] logits; ``frozen_parts`` have no dropout."""

    cfg: Config
    frozen_parts: tuple[str, ...] = ()

    @nn.compact
    def __call__(self, batch, *, train: bool):
        cfg, total = self.cfg, 0.0
        for part in PARTS:
            whole = dict(vocab=cfg.vocab, **cfg.execution)
            of_part = widened(getattr(cfg, part), outside.Config, **whole)
            logits = outside.Mean(of_part, name=part)(batch, train=train)
            dropped = train and part not in self.frozen_parts
            total += nn.Dropout(0.5)(logits, deterministic=not dropped)
        return nn.Dense(cfg.vocab, name="tail")(total)


def _start(part):
    return Start(
        families=("mean",),
        section=part,
        take=lambda params, before, now: {f"{part}/{k}": x for k, x in params.items()},
        owns=f"^{part}/",
    )


FAMILY = Family(
    "towers",
    Config,
    Towers,
    sizes={},
    learns={"causal_lm": ()},
    causal=True,
    starts={part: _start(part) for part in PARTS},
)


def get_config(files, *, freeze="", **options):
    """A run on the ``files`` of ``text_runs``."""
    c = outside.get_config(files, **options)
    c.model_name, c.model = FAMILY.name, section(Config)
    c.freeze, c.optim.layer_decay = freeze, 1.0
    return c
