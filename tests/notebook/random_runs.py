"""Runs of text with random weights, of every task."""

from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from tests.layers.weights import randomised
from tests.models.tiny_text import NARROW
from tfm_jax import mesh
from tfm_jax.config import section
from tfm_jax.data.batch import TextBatch
from tfm_jax.data.tokenizers import vocabularies
from tfm_jax.data.tokenizers.vocabularies import train_text_tokenizer
from tfm_jax.layers.layout import init_params
from tfm_jax.models import MODELS
from tfm_jax.notebook import RUNS
from tfm_jax.optim import optimizers
from tfm_jax.runs.storage import checkpoint
from tfm_jax.settings.experiment import resolve
from tfm_jax.settings.sections import EvalConfig, TrainConfig
from tfm_jax.workloads import WORKLOADS

TEXTS = ["the cat sat on the mat", "a dog", "the mat sat"]
SPECIAL = ("<|endoftext|>", "_start_", "_delimiter_", "_classify_")
TINY = dict(width=8, heads=2, ffn_width=12, depth=1, max_length=16)
ALONE = dict(pairs=dict(kind="none"))
WINDOWS = dict(length=16, question_length=3, stride=4)


def made(task, model, head, *, sizes=None, data=None, path=Path("none")):
    """A run with random weights."""
    c = ConfigDict(dict(seed=0, model_name=model, task=task))
    sizes = TINY | NARROW.get(model, {}) | (sizes or {})
    c.model = section(MODELS[model].config, **sizes, head=head)
    short = {} if task == "span" else dict(length=16)
    c.data = section(WORKLOADS[task].data.Config, **short, **(data or {}))
    c.tokenizer = section(vocabularies.Config, kind="wordpiece", vocab=60)
    for name, cls in dict(
        optim=optimizers.Config, train=TrainConfig, eval=EvalConfig,
        checkpoint=checkpoint.Config, mesh=mesh.Config,
    ).items():  # fmt: skip
        c[name] = section(cls)
    tokenizer = train_text_tokenizer("wordpiece", TEXTS, vocab=60)
    tokenizer = tokenizer.with_special(SPECIAL)
    experiment = resolve(c).complete(tokenizer)
    linen = experiment.build_model()
    ones = np.ones((1, 2), np.int32)
    batch = TextBatch(ones, ones, types=ones)
    shapes = jax.eval_shape(lambda: init_params(linen, jax.random.key(0), batch))
    return RUNS[task](path, experiment, linen, randomised(shapes), tokenizer)


def logits_of(run, row, types=None):
    """Logits [T, ..] of one row; it is padded, so that one shape is compiled."""
    pads = 0, 16 - len(row)
    types = None if types is None else np.pad(types, pads)[None]
    found = run.logits(np.pad(row, pads)[None], [len(row)], types)
    return jax.tree.map(lambda x: np.asarray(x)[0, : len(row)], found)
