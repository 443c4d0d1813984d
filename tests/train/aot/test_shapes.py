"""Shapes of batches, known from the configuration, are those of the data."""

import jax
import numpy as np
import pytest

from tests.reliability import tiny
from tests.workloads.text_runs import get_config, write_files
from tfm_jax.config import ConfigError
from tfm_jax.data.batches import eval_batches
from tfm_jax.mesh import make_mesh, row_multiple
from tfm_jax.settings.configure import configure
from tfm_jax.settings.experiment import resolve
from tfm_jax.train.aot import shapes
from tfm_jax.train.assemble import batches_from

PARTS = dict(depth=1, width=16, heads=2, ffn_width=16)
VISION = PARTS | dict(patch_size=(8,), image_size=(32,))
SCENES = dict(train=32, valid=8, test=0)


def text(task, model="bert", head="lm", **changes):
    return lambda folder: get_config(task, model, head, folder, **changes)


def digits(**data):
    model = PARTS | dict(patch_size=(4,), image_size=(8,), channels=1, labels=10)
    sections = dict(train=dict(batch_tokens=32), eval=dict(batch_tokens=48))
    mesh = dict(data=1, cpu_devices=1)
    return configure(
        "vit", "classify_images", model=model, data=data, mesh=mesh, **sections
    )


RUNS = {
    "pairs, packed": lambda _: tiny.get_config(data__batching="pack"),
    "pairs": lambda _: tiny.get_config(),
    "causal": text("causal_lm", "gpt"),
    "causal, packed": text("causal_lm", "gpt", data=dict(layout="packed")),
    "causal, single": text("causal_lm", "gpt", data=dict(layout="single")),
    "masked": text("masked_lm", head="masked_lm"),
    "masked pairs": text(
        "masked_lm",
        *("bert", "pretraining"),
        data=dict(pairs=dict(kind="nsp"), train_files=("days.txt",)),
    ),
    "replaced": text("replaced_tokens", "electra", "pretraining"),
    "classes": text("classify", head="classify", labels=4),
    "tags": text("tag", head="tag", labels=2),
    "spans": text("span", head="span"),
    "images": lambda _: digits(),
    "mixed images": lambda _: digits(augment=dict(mixup=0.2)),
    "scenes": lambda _: configure(
        *("flamingo", "visual_lm"),
        mesh=dict(data=1, cpu_devices=1),
        model=dict(vision=VISION, lm=PARTS, resampler=dict(depth=1, heads=2)),
        data=dict(length=40, shots=1, scenes=SCENES),
        tokenizer=dict(kind="wordpiece", vocab=200, special=("<image>", "<end>")),
        train=dict(batch_tokens=320),
        eval=dict(batch_tokens=160),
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_files(folder)
    return folder


def leaves(batch):
    return {
        k: (tuple(x.shape), np.dtype(x.dtype))
        for k, x in batch._asdict().items()
        if x is not None
    }


@pytest.mark.parametrize("name", RUNS)
def test_a_batch_has_the_shape_that_its_configuration_says(name, folder):
    experiment = resolve(RUNS[name](folder))
    data = experiment.workload.prepare(experiment)
    experiment = experiment.complete(data.tokenizer)
    mesh = make_mesh(experiment.mesh, jax.devices()[:1])
    count = experiment.train.accumulate_steps
    said = shapes.train_batch(experiment, mesh)
    assert all(x.shape[0] == count for x in jax.tree.leaves(said))
    flat = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((count * x.shape[1], *x.shape[2:]), x.dtype),
        said,
    )
    assert leaves(flat) == leaves(next(batches_from(experiment, data, mesh, 0)))
    size = dict(
        batch_tokens=experiment.eval.batch_tokens, row_multiple=row_multiple(mesh)
    )
    held_out = next(eval_batches(data, "valid" if data.valid else "train", **size))
    assert leaves(shapes.eval_batch(experiment, mesh)) == leaves(held_out)


def test_a_vocabulary_is_the_most_that_its_tokenizer_may_have():
    config = tiny.get_config(tokenizer__vocab=300)
    experiment, said = shapes.completed(resolve(config))
    assert experiment.model.source_vocab == experiment.model.target_vocab == 300
    assert len(said) == 2 and "tokenizer.vocab" in said[0]
    experiment, said = shapes.completed(experiment)
    assert said == [], "it is known now"
    config.tokenizer.kind = "byte"
    experiment, said = shapes.completed(resolve(config))
    assert experiment.model.target_vocab == 4 + 256 and said == []


def test_a_vocabulary_that_nothing_tells_is_asked_for(folder):
    config = get_config("causal_lm", "gpt", "lm", folder)
    config.tokenizer.update(kind="published", file="tokenizer.json")
    with pytest.raises(ConfigError, match=r"set --config\.model\.vocab"):
        shapes.completed(resolve(config))
