"""A family of somebody else's: the mean of the words so far, and no attention."""

import dataclasses

import jax.numpy as jnp
from flax import linen as nn

from tests.workloads import text_runs
from tfm_jax.config import knob, section
from tfm_jax.layers.arch import Execution
from tfm_jax.models.family import Family


@dataclasses.dataclass(frozen=True)
class Config(Execution):
    """All that the section ``model`` has, besides how it is computed."""

    width: int = knob(8, "of the states", low=1, high=1024)
    depth: int = knob(1, "layers", low=1, high=8)
    vocab: int = knob(0, "0: the tokenizer's", low=0, high=2**24)
    bias: bool = knob(False, "on the logits")


class Mean(nn.Module):
    """[B, T] tokens -> [B, T, V] logits of the token that follows each."""

    cfg: Config

    @nn.compact
    def __call__(self, batch, *, train: bool):
        cfg, length = self.cfg, batch.tokens.shape[1]
        x = nn.Embed(cfg.vocab, cfg.width, name="embedding")(batch.tokens)
        same = batch.segments[:, :, None] == batch.segments[:, None]
        seen = (same & jnp.tri(length, dtype=bool)).astype(x.dtype)
        x = jnp.einsum("bts,bsd->btd", seen, x) / seen.sum(-1, keepdims=True)
        for layer in range(cfg.depth):
            x += nn.tanh(nn.Dense(cfg.width, name=f"layer_{layer}")(x))
        return nn.Dense(cfg.vocab, use_bias=cfg.bias, name="output")(x)


FAMILY = Family(
    "mean",
    Config,
    Mean,
    sizes={"tiny": dict(width=4)},
    learns={"causal_lm": ()},
    task_parameters=("output",),
    task_fields=frozenset({"bias"}),
    below=("embedding",),
    above=("output",),
    causal=True,
)


def get_config(files, *, train=None, init_from="", **sizes):
    """A run on the ``files`` of ``text_runs``."""
    steps = dict(total_steps=6, log_every_steps=2) | (train or {})
    c = text_runs.get_config(
        *("causal_lm", "gpt", "lm", files),
        **dict(train=steps, init_from=init_from, optimizer=dict(layer_decay=0.5)),
    )
    c.model_name, c.model = FAMILY.name, section(Config, **sizes)
    c.eval.samples = 0  # it has no cached step
    return c
