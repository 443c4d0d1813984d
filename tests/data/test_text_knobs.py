"""Every knob of a data section on text changes the rows, or says where it is tested."""

import ast
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from tests.workloads.text_runs import data_of, write_files
from tfm_jax.config import build
from tfm_jax.data.batches import eval_batches, train_batches
from tfm_jax.data.prepared import digest_of, prepare
from tfm_jax.data.sources import scenes
from tfm_jax.data.sources.mechanisms import counting
from tfm_jax.data.sources.mechanisms import examples as mechanisms
from tfm_jax.data.tokenizers import vocabularies
from tfm_jax.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = vocabularies.Config(kind="wordpiece", vocab=90)
_DOCUMENTS = "tests/data/sources/test_documents.py::"
_LABELLED = "tests/data/rows/test_labelled.py::"
_TFDS = "tests/data/sources/test_tfds.py::"
_SCENES = "tests/data/sources/test_scenes.py::"
_COUNTING = "tests/data/sources/test_counting.py::"
_MECHANISMS = "tests/data/sources/test_mechanisms.py::"

# knob -> another value, or its value with companions that bring it to life
RUNNING = {
    "shuffle": False,
    "valid_share": 0.3,
    "test_share": 0.2,
    "document": dict(document="line", source="folder"),
    "split_seed": dict(split_seed=1, source="folder"),
    "pattern": dict(pattern="*.tsv", source="folder"),
    "length": 17,
    "source": "recall",
    "recall_examples": dict(recall_examples=3, source="recall"),
    "recall_keys": dict(recall_keys=3, source="recall"),
    "recall_train": dict(recall_train=100, source="recall"),
    "recall_heldout": dict(recall_heldout=100, source="recall"),
}
PAIRED = dict(pairs={"kind": "nsp"}, source="folder", document="line")
KNOBS = {
    "causal_lm": RUNNING
    | {
        "layout": "packed",
        "document": dict(document="line", source="folder", layout="single"),
        "separator": "[SEP]",
        "asked": dict(asked="last", layout="packed"),
    },
    "masked_lm": RUNNING
    | {
        "sentences": "punctuation",
        "row_seed": dict(row_seed=1, masking={"draw": "static"}),
        "pairs.kind": dict(pairs={"kind": "sop"}),
        "pairs.short_share": dict(pairs={"kind": "sop", "short_share": 1.0}),
        "pairs.other_share": dict(pairs={"kind": "sop", "other_share": 1.0}),
        "masking.mask_rate": dict(masking={"mask_rate": 0.5}),
        "masking.most": dict(masking={"most": 1}),
        "masking.mask": dict(masking={"mask": 0.1}),
        "masking.random": dict(masking={"random": 0.2}),
        "masking.whole_words": dict(masking={"whole_words": True}),
        "masking.ngrams": dict(masking={"ngrams": 3}),
        "masking.draw": dict(masking={"draw": "static"}),
        "masking.copies": dict(masking={"draw": "static", "copies": 2}),
    },
    "classify": {
        "shuffle": False,
        "length": 11,
        "second_column": "1",
        "first_column": dict(first_column="1", second_column="0"),
        "labels": ("3", "2", "1", "0"),
        "scores": True,
    },
    "tag": {
        "shuffle": False,
        "word_column": dict(word_column=1, tag_column=0),
        "tag_column": 0,
        "labels": ("A", "O"),
        "length": 11,
    },
    "span": {"shuffle": False, "length": 23},
}
SAME = {  # what these do cannot be seen in rows of good files
    "train_files": _DOCUMENTS,
    "valid_files": _DOCUMENTS,
    "header": _LABELLED,
    "overlong": "tests/data/rows/test_tagged.py",
    "question_length": "tests/data/rows/test_spans.py",
    "stride": "tests/data/rows/test_spans.py",
    "source": _LABELLED,
    "folder": _DOCUMENTS,
    "empty": _DOCUMENTS,
    "invalid_utf8": _DOCUMENTS,
    "frame": "tests/workloads/test_text_tasks.py",
    "malformed": _LABELLED,
    "misplaced": "tests/data/rows/test_spans.py",
    "timeout_seconds": "tests/data/test_watchdog.py",
    "table": _LABELLED,
    "label_column": _LABELLED,
    **dict.fromkeys(("tfds_name", "tfds_data_dir", "tfds_train", "tfds_test"), _TFDS),
    "tfds_feature": _DOCUMENTS,
    "tfds_valid": "tests/train/test_run_knobs.py",
    **dict.fromkeys(scenes.KNOBS, _SCENES),
    **dict.fromkeys(mechanisms.KNOBS, _MECHANISMS),
    **dict.fromkeys(counting.KNOBS, _COUNTING),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_files(folder)
    return folder


@pytest.fixture(scope="module")
def base():
    """What reaches the model without a knob, by its task and the knob's company."""
    return {}


def names(cls, prefix=""):
    """Every knob of a section, those of sections in it included."""
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(field.type):
            yield from names(field.type, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def content(task, files, changes):
    """Digests of the first batch and of the held-out rows."""
    kind = WORKLOADS[task].data
    section = data_of(task, files).to_dict() | dict(folder=str(files))
    if task not in ("causal_lm", "masked_lm"):
        del section["folder"]
    if "pattern" in section:
        section["pattern"] = "*.txt"
    for knob, value in changes.items():
        inner = section.get(knob)
        section[knob] = inner | value if isinstance(value, dict) else value
    cfg = build(kind.Config, section, "data")
    data = prepare(kind, cfg, TOKENIZER)
    batches = train_batches(cfg, data, batch_tokens=96, total_batches=2, seed=0)
    held_out = list(eval_batches(data, "valid", batch_tokens=96))[:2]
    sizes = [len(rows.tokens) for split in data[1:4] for rows in split]
    return digest_of([*batches, *held_out]), *sizes


@pytest.mark.parametrize(
    "task, knob", [(task, knob) for task, table in KNOBS.items() for knob in table]
)
def test_a_knob_changes_what_reaches_the_model(task, knob, files, base):
    changes = KNOBS[task][knob]
    first, _, last = knob.partition(".")
    if not isinstance(changes, dict):
        changes = {knob: changes}
    without = {k: v for k, v in changes.items() if k != first}
    if last:
        rest = {k: v for k, v in changes[first].items() if k != last}
        without |= {first: rest} if rest else {}
    key = (task, repr(without))
    if key not in base:
        base[key] = content(task, files, without)
    assert content(task, files, changes) != base[key]


@pytest.mark.parametrize("task", KNOBS)
def test_every_knob_is_listed(task):
    cls = WORKLOADS[task].data.Config
    listed = {*KNOBS[task], *SAME, "prefetch", "test_files"}
    assert set(names(cls)) - listed == set(), "say here what these knobs change"


def test_batches_made_ahead_and_a_test_split_are_the_same_rows(files):
    """``prefetch`` changes no batch; ``test_files`` is a split like the others."""
    plain = content("classify", files, dict(prefetch=0))
    assert plain == content("classify", files, dict(prefetch=3))
    both = content("classify", files, dict(test_files=(str(files / "classes.tsv"),)))
    assert both[:3] == plain[:3] and both[3:] == plain[1:2]


@pytest.mark.parametrize("knob", SAME)
def test_what_is_tested_elsewhere_is_named_there(knob):
    text = (ROOT / SAME[knob].partition("::")[0]).read_text()
    assert any(isinstance(n, ast.FunctionDef) for n in ast.parse(text).body)
    assert re.search(rf"\b{knob}\b", text)


def test_rows_are_the_same_on_every_run(files):
    again = [content("masked_lm", files, {}) for _ in range(2)]
    assert again[0] == again[1]
    assert np.size(again[0]) > 1
