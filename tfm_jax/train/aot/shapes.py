"""Shapes of batches, from the configuration alone: no data is read."""

from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from tfm_jax.config import ConfigError
from tfm_jax.data.batch import (
    CausalBatch,
    ImageBatch,
    ImageTextBatch,
    LabelledBatch,
    MaskedBatch,
    PairBatch,
    SpanBatch,
)
from tfm_jax.data.batches import rows_per_batch
from tfm_jax.mesh import batch_sharding, row_multiple
from tfm_jax.settings.experiment import Experiment


def completed(experiment: Experiment) -> tuple[Experiment, list[str]]:
    """The same with all vocabularies, and what was assumed for that, in words.

    One that is as large as the tokenizer's is taken for as large as that may become.

    Raises: ConfigError naming the knob to set where nothing says how large that is.
    """
    tokenizer: Any = experiment.tokenizer
    open_ones = [k for k, (size, _) in experiment.vocabularies().items() if not size]
    if not open_ones:
        return experiment, []
    unread = tokenizer is None or getattr(tokenizer, "kind", "") == "published"
    if unread or experiment.init_from:
        knob = f"model.{open_ones[0]}"
        raise ConfigError(
            f"{knob}=0 is as large as what the run reads says, and nothing is read "
            f"here; set --config.{knob}"
        )
    if tokenizer.kind == "byte":  # which takes no text to be trained on
        kind: Any = experiment.workload.data.tokenizer
        return experiment.complete(kind.make(tokenizer, [])), []
    size = tokenizer.vocab
    sizes = SimpleNamespace(vocab=size, source_vocab=size, target_vocab=size)
    return experiment.complete(sizes), [
        f"model.{knob}={size}, the most that tokenizer.vocab allows"
        for knob in open_ones
    ]


def example(experiment: Experiment, rows: int, *, train: bool) -> Any:
    """A batch of ``rows`` as ``jax.ShapeDtypeStruct``; its rows have full length.

    Fields are those of the objective's example; what a type of batch has besides rows
    and tokens is in ``_OF``.
    """
    like = experiment.objective.example()
    of = _OF.get(type(like), lambda experiment, train: {})(experiment, train)
    longest = experiment.workload.longest(experiment.data)
    tails = {1: (), 2: (longest,)}

    def shaped(name, x):
        tail = of[name] if name in of else None if x is None else tails[np.ndim(x)]
        if tail is None:
            return None
        dtype = np.float32 if name in _FLOATS else np.int32
        if x is not None:
            dtype = x.dtype
        if name == "labels" and getattr(experiment.model, "labels", 2) == 1:
            dtype = np.float32  # a number to predict
        return jax.ShapeDtypeStruct((rows, *tail), dtype)

    return type(like)(**{k: shaped(k, x) for k, x in like._asdict().items()})


def train_batch(experiment: Experiment, mesh: jax.sharding.Mesh) -> Any:
    """What a train step takes, [A, B, ...], with its place on ``mesh``."""
    cfg = experiment.train
    count = cfg.accumulate_steps
    least = int(np.lcm(cfg.row_multiple, row_multiple(mesh))) * count
    rows = _rows(experiment, cfg.batch_tokens, least)
    micro = example(experiment, rows // count, train=True)
    sharding = batch_sharding(mesh, 1)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype, sharding=sharding),
        micro,
    )


def eval_batch(experiment: Experiment, mesh: jax.sharding.Mesh) -> Any:
    """What an evaluation step takes, [B, ...], with its place on ``mesh``."""
    least = row_multiple(mesh)
    rows = _rows(experiment, experiment.eval.batch_tokens, least)
    return placed(example(experiment, rows, train=False), batch_sharding(mesh))


def placed(tree: Any, sharding: NamedSharding) -> Any:
    """Shapes, each with that place."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
    )


def _rows(experiment, batch_tokens, multiple):
    one = example(experiment, 1, train=True)
    of_row = one.target_labels.shape if isinstance(one, PairBatch) else one.shape
    return rows_per_batch(SimpleNamespace(shape=of_row), batch_tokens, multiple)


def _pairs(experiment, train):
    data = experiment.data
    source, target = (data.source_length,), (data.target_length,)
    packed = data.batching == "pack"
    return {
        "source": source,
        "source_segments": source,
        "source_positions": source if packed else None,
        "target_inputs": target,
        "target_labels": target,
        "target_segments": target,
        "target_positions": target if packed else None,
    }


def _causal(experiment, train):
    return {} if experiment.data.layout in ("packed", "cut") else {"positions": None}


def _masked(experiment, train):
    data = experiment.data
    targets = (data.masking.most,)
    of = dict.fromkeys(("labels", "weights", "target_positions"), targets)
    return of | {"pair_labels": None if data.pairs.kind == "none" else ()}


def _image_text(experiment, train):
    vision = experiment.model.vision
    shape = (*vision.image, vision.channels)
    return {"images": (experiment.data.shots + 1, *shape)}


def _images(experiment, train):
    model, augment = experiment.model, experiment.data.augment
    mixed = () if train and (augment.mixup or augment.cutmix) else None
    of = dict.fromkeys(("mixed_labels", "mixed_shares"), mixed)
    return of | {"images": (*model.image, model.channels)}


# type of batch -> (experiment, train) -> field -> its shape without rows, or None
_OF = {
    PairBatch: _pairs,
    CausalBatch: _causal,
    MaskedBatch: _masked,
    SpanBatch: lambda *_: dict.fromkeys(("labels", "weights"), (2,)),
    LabelledBatch: lambda *_: {},
    ImageTextBatch: _image_text,
    ImageBatch: _images,
}
_FLOATS = ("mixed_shares",)
