"""The whole program learns: from a command line to translations that are right."""

import json

import pytest

from tests.reliability import tiny
from tfm_jax import main
from tfm_jax.runs.log import read_history
from tfm_jax.runs.process import exits


@pytest.mark.slow
def test_a_tiny_model_learns_to_copy_numbers_it_has_not_seen(tmp_path, capsys):
    """English to English, packed rows, word by word.

    Seeds 0 to 6 copied 48 to 50 of the 50. Character by character it depends on
    the seed and on the rounding of the processor: no bound on that has a margin.
    """
    knobs = {
        "tokenizer.kind": "word",
        "data.target_language": "en",
        "data.batching": "pack",
        "data.numerals_max": 999,
        "data.numerals_train": 0,
        "data.numerals_heldout": 50,
        "data.source_length": 32,
        "data.target_length": 32,
        "model.width": 32,
        "model.ffn_width": 64,
        "model.norm": "pre",
        "model.dropout": 0.0,
        "train.accumulate_steps": 1,
        "train.batch_tokens": 512,
        "train.ema_decay": 0.0,
        "train.label_smoothing": 0.0,
        "train.total_steps": 200,
        "optim.warmup_steps": 50,
        "eval.max_length_offset": 5,
        "eval.every_steps": 1000,
        "eval.pictures": False,
        "checkpoint.every_steps": 1000,
    }
    argv = [f"--config={tiny.__file__}", f"--workdir={tmp_path}"]
    argv += [f"--config.{name}={value}" for name, value in knobs.items()]
    assert main.main(argv) == exits.OK
    results = json.loads((tmp_path / "results.json").read_text())
    losses = [r["loss"] for r in read_history(tmp_path) if r["kind"] == "train"]
    assert losses[0] > 2.5 and losses[-1] < 0.1
    assert results["test"]["accuracy"] > 0.98
    assert results["test"]["exact_match"] > 0.9
    assert "bleu" not in results["test"], "it says nothing of numbers"
