"""A thing to learn that is no text: small pictures of digits, and a model of them."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from tfm_jax.config import knob
from tfm_jax.data.batches import Order
from tfm_jax.data.prepared import Filled, Kind
from tfm_jax.layers.arch import Execution
from tfm_jax.models.family import Family
from tfm_jax.settings.configure import configure
from tfm_jax.workloads.workload import Workload


class Images(NamedTuple):
    """Grey pictures with a class each."""

    pixels: Any  # [B, H, W] float32
    labels: Any  # [B] int32
    weights: Any  # [B] float32

    @property
    def shape(self):
        """(B, 1): a row is one item."""
        return len(self.labels), 1


@dataclasses.dataclass(frozen=True)
class Data(Order):
    """Bars at a place that says which digit it is, with noise."""

    noise: float = knob(0.1, "standard deviation", role="training", low=0)

    def longest(self):
        """Rows of a picture, as a model reads them."""
        return 8


def load(cfg, split, names):
    """(examples, report)."""
    del names
    count, seed = {"train": (64, 0), "valid": (16, 1), "test": (8, 2)}[split]
    random = np.random.default_rng(seed)
    labels = random.integers(0, 8, count).astype(np.int32)
    pixels = np.eye(8, dtype=np.float32)[labels][:, None].repeat(8, axis=1)
    pixels = pixels + cfg.noise * random.standard_normal(pixels.shape, np.float32)
    report = {"read": count, "kept": count, "labels": [str(n) for n in range(8)]}
    return (pixels, labels), report


def rows(cfg, tokenizer, examples, split):
    """One picture a row."""
    del cfg, split
    assert tokenizer is None
    pixels, labels = examples
    return Filled([Images(pixels, labels, np.ones(len(labels), np.float32))], {})


def example():
    """The smallest batch, for shapes only."""
    return Images(np.zeros((1, 8, 8), np.float32), np.ones(1, int), np.ones(1))


def loss_sum(apply, params, batch, *, rng=None, smoothing=0.0, train):
    """(loss sum in nats, pictures)."""
    del smoothing
    logits = apply(params, batch, rng=rng, train=train)
    nll = -jnp.take_along_axis(nn.log_softmax(logits), batch.labels[:, None], 1)[:, 0]
    return jnp.sum(nll * batch.weights), jnp.sum(batch.weights)


def eval_sums(apply: Callable, params: Any, batch: Images) -> dict[str, jax.Array]:
    """``nll``, ``correct`` and ``count`` over the pictures."""
    logits = apply(params, batch, rng=None, train=False)
    nll, count = loss_sum(lambda *_, **__: logits, params, batch, train=False)
    correct = jnp.sum((jnp.argmax(logits, -1) == batch.labels) * batch.weights)
    return {"nll": nll, "correct": correct, "count": count}


def scores(totals, report):
    """``nll`` and ``accuracy``."""
    del report
    count = float(totals["count"])
    found = {"nll": totals["nll"], "accuracy": totals["correct"]}
    return {name: float(value) / count for name, value in found.items()}


class Objective(NamedTuple):
    """The functions above, which a module of its own would hold."""

    example: Callable = staticmethod(example)
    loss_sum: Callable = staticmethod(loss_sum)
    eval_sums: Callable = staticmethod(eval_sums)
    scores: Callable = staticmethod(scores)


WORKLOAD = Workload(
    name="digits",
    objective=Objective(),
    data=Kind(Data, Images, load, None, rows, size=lambda x: len(x[1]), tokenizer=None),
    scores={"nll": min, "accuracy": max},
    vocabularies={},
    labels="labels",
    longest=Data.longest,
    tokens=lambda batch: int((batch.weights > 0).sum()),
    size=lambda data: f"{sum(len(rows.labels) for rows in data.train)} pictures",
)


@dataclasses.dataclass(frozen=True)
class Config(Execution):
    """Two layers."""

    width: int = knob(16, "of the hidden layer", low=1)
    labels: int = knob(8, "classes", low=1)


class Perceptron(nn.Module):
    """[B, H, W] pixels -> [B, classes] logits."""

    cfg: Config

    @nn.compact
    def __call__(self, batch, *, train: bool):
        x = batch.pixels.reshape(len(batch.pixels), -1)
        x = nn.relu(nn.Dense(self.cfg.width, name="hidden")(x))
        return nn.Dense(self.cfg.labels, name="output")(x)


FAMILY = Family("perceptron", Config, Perceptron, {}, learns={"digits": ()})


def get_config(**train):
    """A run of a few steps."""
    return configure(
        FAMILY.name,
        WORKLOAD.name,
        optim=dict(peak_lr=1e-2, warmup_steps=1),
        train=dict(
            total_steps=6, batch_tokens=16, log_every_steps=2, row_multiple=1, **train
        ),
        eval=dict(every_steps=3, batch_tokens=16),
        checkpoint=dict(every_steps=2),
        mesh=dict(data=1, cpu_devices=8),
    )
