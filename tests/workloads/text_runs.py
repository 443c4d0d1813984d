"""Tiny runs of every task on text, on files about animals and their sounds."""

import itertools
import json

from ml_collections import ConfigDict

from tfm_jax import mesh
from tfm_jax.config import section
from tfm_jax.data.tokenizers import vocabularies
from tfm_jax.models import MODELS
from tfm_jax.optim import optimizers
from tfm_jax.runs.storage import checkpoint
from tfm_jax.settings.sections import EvalConfig, TrainConfig
from tfm_jax.workloads import WORKLOADS

ANIMALS = ("cat", "dog", "cow", "hen")
SOUNDS = ("meow", "woof", "moo", "cluck")
OFF = dict(dropout=0.0, attention_dropout=0.0)
TINY = dict(width=32, heads=2, ffn_width=64, depth=1, max_length=48, **OFF)
EXTRA = {
    "bert": {},
    "albert": dict(embedding_width=16),
    "electra": dict(
        embedding_width=32, generator_width=16, generator_heads=2,
        generator_ffn_width=32, generator_depth=1,
    ),
    "gpt": dict(embedding_dropout=0.0, head_dropout=0.0),
}  # fmt: skip
SPECIAL = ("_start_", "_delimiter_", "_classify_")


def sentences(count):
    """Each animal makes its sound: a masked word can be known."""
    animals = itertools.islice(itertools.cycle(range(4)), count)
    return [f"the {ANIMALS[n]} says {SOUNDS[n]}." for n in animals]


def write_files(folder):
    """A file for each kind of data."""
    text = "\n\n".join("\n".join(sentences(8)) for _ in range(40))
    (folder / "text.txt").write_text(text)
    says = sentences(160)
    days = zip(says[::2], says[1::2], strict=True)
    text = "\n\n".join(f"at dawn {first}\nat night {then}" for first, then in days)
    (folder / "days.txt").write_text(text)
    rows = [f"{line}\t{n % 4}" for n, line in enumerate(sentences(64))]
    (folder / "classes.tsv").write_text("\n".join(rows))
    words = [
        "\n".join(f"{w} {'A' if w in ANIMALS else 'O'}" for w in line[:-1].split())
        for line in sentences(64)
    ]
    (folder / "tags.txt").write_text("\n\n".join(words))
    questions = [
        {
            "id": str(n),
            "question": "who",
            "answers": [{"text": ANIMALS[n % 4], "answer_start": 4}],
        }
        for n in range(32)
    ]
    paragraphs = [
        {"context": line, "qas": [question]}
        for line, question in zip(sentences(32), questions, strict=True)
    ]
    squad = {"data": [{"paragraphs": paragraphs}]}
    (folder / "spans.json").write_text(json.dumps(squad))


def data_of(task, files, **changes):
    """The data section of a task; ``train_files`` are names in the folder ``files``."""
    if "train_files" in changes:
        paths = tuple(str(files / name) for name in changes["train_files"])
        changes["train_files"] = paths
    running = dict(source="files", train_files=(str(files / "text.txt"),))

    def both(name):
        return dict.fromkeys(("train_files", "valid_files"), (str(files / name),))

    given = {
        "causal_lm": dict(running, length=24),
        "masked_lm": dict(
            running, length=24, document="blank_line", sentences="line",
            masking=dict(most=5), pairs=dict(kind="none"),
        ),
        "classify": dict(both("classes.tsv"), length=12),
        "tag": dict(both("tags.txt"), length=12),
        "span": dict(both("spans.json"), length=24, question_length=4, stride=8),
    }  # fmt: skip
    joint = ("replaced_tokens", "replace_mlm", "all_tokens_mlm")
    given |= dict.fromkeys(joint, given["masked_lm"])
    return section(WORKLOADS[task].data.Config, **given[task] | changes)


def get_config(
    task, model, head, files, *, data=None, train=None, optimizer=None, init_from="",
    freeze="", **sizes,
):  # fmt: skip
    c = ConfigDict(dict(seed=0, model_name=model, task=task))
    c.init_from, c.freeze = init_from, freeze
    sizes = TINY | EXTRA[model] | dict(head=head) | sizes
    c.model = section(MODELS[model].config, **sizes)
    c.data = data_of(task, files, **(data or {}))
    special = SPECIAL if (data or {}).get("frame") == "gpt1" else ()
    c.tokenizer = section(
        vocabularies.Config, kind="wordpiece", vocab=90, special=special
    )
    c.optim = section(
        optimizers.Config, **dict(peak_lr=1e-2, warmup_steps=10) | (optimizer or {})
    )
    c.train = section(
        TrainConfig,
        **dict(total_steps=80, batch_tokens=384, label_smoothing=0.0) | (train or {}),
    )
    c.eval = section(EvalConfig, every_steps=1_000, batch_tokens=384, pictures=False)
    c.checkpoint = section(checkpoint.Config, every_steps=1_000, metric="nll")
    c.mesh = section(mesh.Config, data=1, cpu_devices=1)
    return c
