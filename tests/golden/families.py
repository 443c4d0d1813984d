"""Golden checkpoints: a model of every family and head, and its logits.

    python -m tests.golden.families            are the logits the same, bit by bit?
    python -m tests.golden.families VERSION    writes those of a release, with its code

The first is for the machine that wrote them; others round differently.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from tests.reliability import tiny
from tests.workloads import text_runs
from tfm_jax.notebook import load_run
from tfm_jax.train import loop

GOLDEN = Path(__file__).parent
FOLDERS = sorted(path.parent for path in GOLDEN.glob("*/families/*/logits.npz"))
STEPS = 4
SCANNED = dict(layout="scanned", depth=2)
WINDOWS = dict(length=16, question_length=4, stride=4)
TEXT = {  # name -> (task, model, head, other settings)
    "gpt_lm": ("causal_lm", "gpt", "lm", SCANNED | dict(head_dropout=0.1)),
    "gpt_classify": ("classify", "gpt", "classify", dict(data=dict(frame="gpt1"))),
    "bert_pretraining": (
        *("masked_lm", "bert", "pretraining"),
        dict(data=dict(train_files=("days.txt",), pairs=dict(kind="nsp"))),
    ),
    "bert_classify": ("classify", "bert", "classify", {}),
    "bert_tag": ("tag", "bert", "tag", {}),
    "bert_span": ("span", "bert", "span", dict(data=WINDOWS)),
    "albert_pretraining": (
        *("masked_lm", "albert", "pretraining"),
        dict(
            data=dict(train_files=("days.txt",), pairs=dict(kind="sop")),
            **dict(depth=2, embedding_width=4),
        ),
    ),
    "albert_classify": ("classify", "albert", "classify", dict(embedding_width=4)),
    "electra_pretraining": ("replaced_tokens", "electra", "pretraining", {}),
    "electra_replace_mlm": ("replace_mlm", "electra", "replace_mlm", {}),
    "electra_all_tokens_mlm": ("all_tokens_mlm", "electra", "all_tokens_mlm", {}),
    "electra_classify": ("classify", "electra", "classify", {}),
}
NARROW = dict(width=8, heads=2, ffn_width=12, max_length=24)
GENERATOR = dict(generator_width=4, generator_heads=1, generator_ffn_width=8)
TRANSLATION = dict(
    model__width=8,
    model__biases="all",
    model__ffn_width=12,
    model__encoder_depth=2,
    model__decoder_depth=2,
    model__layout="scanned",
    model__norm="pre",
    model__tie="two_way",
    tokenizer__shared=False,
    train__accumulate_steps=1,
    train__ema_decay=0.0,
    eval__max_length_offset=10,
)
SHORT = dict(  # one moment of the optimizer, weights that move far
    train__total_steps=STEPS,
    optim__optimizer="sgd",
    optim__warmup_steps=1,
    optim__peak_lr=0.1,
    optim__schedule="constant",
)


def logits(folder: Path, inputs) -> list[np.ndarray]:
    """What a run returns, in the order of its fields, whose names may change."""
    return jax.tree.leaves(load_run(folder).logits(**inputs))


def stored(folder: Path) -> tuple[dict, list]:
    """(arguments, logits) of a golden checkpoint."""
    with np.load(folder / "logits.npz") as file:
        inputs = {name: x for name, x in file.items() if not name.isdigit()}
        return inputs, [file[str(n)] for n in range(len(file) - len(inputs))]


def write(version: str) -> None:
    """Writes ``tests/golden/VERSION/families``."""
    root = Path(tempfile.gettempdir(), "golden", version)  # it is recorded
    shutil.rmtree(root, ignore_errors=True)
    (root / "texts").mkdir(parents=True)
    text_runs.write_files(root / "texts")
    configs = {"transformer": tiny.get_config(**TRANSLATION | SHORT)}
    for name, (task, model, head, settings) in TEXT.items():
        sizes = NARROW | (GENERATOR if model == "electra" else {})
        if head in ("classify", "tag"):
            sizes |= dict(labels=2 if head == "tag" else 4)
        if model == "electra":
            sizes |= dict(embedding_width=8)
        configs[name] = text_runs.get_config(
            task, model, head, root / "texts", **sizes | settings
        )
        for knob, value in SHORT.items():
            section, _, knob = knob.partition("__")
            configs[name][section][knob] = value
    for name, config in configs.items():
        workdir, kept = root / name, GOLDEN / version / "families" / name
        loop.train(config, workdir)
        shutil.copytree(workdir / "checkpoints", kept / "checkpoints")
        shutil.copy(workdir / "config.json", kept)
        inputs = _inputs(load_run(kept).config.model)
        outputs = {str(n): x for n, x in enumerate(logits(kept, inputs))}
        np.savez_compressed(kept / "logits.npz", **inputs, **outputs)


def _inputs(model):
    rng = np.random.default_rng(0)
    if hasattr(model, "source_vocab"):
        source = rng.integers(4, model.source_vocab, (2, 7))
        source[1, 5:] = 0
        return dict(source=source, target=rng.integers(4, model.target_vocab, (2, 6)))
    tokens = rng.integers(1, model.vocab, (2, 12))
    inputs = dict(tokens=tokens, lengths=np.array([12, 8]))
    if getattr(model, "types", 0) > 1:
        inputs |= dict(types=np.tile(np.arange(12) > 4, (2, 1)).astype(np.int32))
    return inputs


def compare() -> bool:
    """Prints the largest difference of each checkpoint; whether there is none."""
    gaps = {}
    for folder in FOLDERS:
        inputs, wanted = stored(folder)
        found = map(np.asarray, logits(folder, inputs))
        gaps[folder.name] = max(
            np.abs(x - 1.0 * old).max() for x, old in zip(found, wanted, strict=True)
        )
        print(f"{folder.name:24} {gaps[folder.name]:g}", flush=True)
    return not any(gaps.values())


if __name__ == "__main__":
    sys.exit(write(*sys.argv[1:]) if sys.argv[1:] else not compare())
