"""The language model of a larger model: any GPT, and what it starts from."""

import dataclasses
from typing import Any

from tfm_jax.layers.arch import EXECUTION
from tfm_jax.models import gpt
from tfm_jax.models.family import Start


@dataclasses.dataclass(frozen=True)
class Language(
    gpt.Config,
    fixed=EXECUTION | dict(head="lm", labels=2, head_dropout=0.0, vocab=0),
):
    """The language model."""


TINY = dict(
    depth=2,
    width=128,
    heads=4,
    ffn_width=512,
    positions="rotary",  # of rows of any length
    dropout=0.0,
    attention_dropout=0.0,
    embedding_dropout=0.0,
)


def _take(params: dict, before: gpt.Config, now: Any) -> dict:
    """Parameters of a GPT, without what classifies."""
    del before, now
    rest = {k: x for k, x in params.items() if not k.startswith("classify/")}
    return {f"lm/{path}": x for path, x in rest.items()}


# gated layers between its own are not of it
LM_START = Start(("gpt",), "lm", _take, owns="^lm/(?!.*/gated_)")
