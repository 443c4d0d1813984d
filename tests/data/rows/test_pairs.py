import dataclasses
import functools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tfm_jax.data.batches import eval_batches, train_batches
from tfm_jax.data.errors import DataError
from tfm_jax.data.prepared import prepare
from tfm_jax.data.rows.pairs import KIND, Config
from tfm_jax.data.tokenizers.bilingual import Config as TokenizerConfig

CONFIG = Config(numerals_max=999, numerals_heldout=50, bucket_lengths=(20, 30, 40))
BYTES = TokenizerConfig(kind="byte")
BATCHINGS = ("pack", "bucket", "fixed")
RUN = {"batch_tokens": 640, "total_batches": 60, "seed": 7}


@functools.cache
def prepared(cfg, tokenizer_cfg=BYTES):
    return prepare(KIND, cfg, tokenizer_cfg)


def train(cfg, **options):
    return train_batches(cfg, prepared(cfg), **RUN | options)


def with_batching(batching, **changes):
    return dataclasses.replace(CONFIG, batching=batching, **changes)


def targets(batches):
    """How often each target sentence occurs, as a Counter of token tuples."""
    found = Counter()
    for batch in batches:
        for tokens, segments in zip(
            batch.target_labels, batch.target_segments, strict=True
        ):
            found.update(
                tuple(tokens[segments == n].tolist())
                for n in range(1, segments.max() + 1)
            )
    return found


def assert_same(one, other):
    for left, right in zip(one, other, strict=True):
        for field, twin in zip(left, right, strict=True):
            np.testing.assert_array_equal(field, twin)


@pytest.mark.parametrize("batching", BATCHINGS)
def test_rows_of_one_pair_have_no_positions(batching):
    batch = next(train(with_batching(batching)))
    assert (batch.target_segments.max() > 1) == (batching == "pack")
    for positions in (batch.source_positions, batch.target_positions):
        assert (positions is not None) == (batching == "pack")


@pytest.mark.parametrize("batching", BATCHINGS)
def test_evaluation_holds_every_example_exactly_once(batching):
    cfg = with_batching(batching)
    data = prepared(cfg)._replace(valid=prepared(cfg).train)
    batches = list(eval_batches(data, "valid", batch_tokens=640, row_multiple=4))
    found = targets(batches)
    assert len(found) == data.report["train"]["kept"] == 900
    assert set(found.values()) == {1}
    shapes = {batch.source.shape for batch in batches}
    assert len(shapes) == {"pack": 1, "fixed": 1, "bucket": 3}[batching]
    assert all(rows % 4 == 0 for rows, _ in shapes)


@pytest.mark.parametrize("batching", BATCHINGS)
def test_training_holds_every_example_once_per_epoch(batching):
    """After e whole epochs of batches nothing was seen more than e times, and only
    what waits in the unfinished batch of each shape was seen less often."""
    cfg = with_batching(batching)
    rows = prepared(cfg).train
    sizes = [640 // shape.target.shape[1] for shape in rows]
    epochs = 3
    batches = sum(
        epochs * len(shape.source) // size
        for shape, size in zip(rows, sizes, strict=True)
    )
    found = targets(train(cfg, total_batches=batches))
    assert max(found.values()) == epochs
    missing = 900 * epochs - found.total()
    most_per_row = max(np.max(shape.target_segments) for shape in rows)
    assert 0 <= missing < sum(sizes) * most_per_row


def test_when_batches_divide_the_rows_each_epoch_is_exact():
    cfg = with_batching("fixed")
    batches = list(train(cfg, batch_tokens=64 * 10, total_batches=180))
    halves = batches[:90], batches[90:]
    first, second = map(targets, halves)
    assert set(first.values()) == set(second.values()) == {1}
    assert first == second
    company = [[frozenset(targets([batch])) for batch in epoch] for epoch in halves]
    assert not set(company[0]) & set(company[1])  # other sentences share a batch


def test_without_shuffling_examples_come_in_their_order():
    cfg = with_batching("fixed", shuffle=False)
    batch = next(train(cfg))
    first = prepared(cfg).tokenizer.decode(batch.source, "source")
    assert first[:3] == ["zero", "one", "two"]


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("batching", ["pack", "bucket"])
def test_resuming_anywhere_gives_the_batches_that_were_to_come(batching, prefetch):
    cfg = with_batching(batching, prefetch=prefetch)
    everything = list(train(cfg))
    assert len(everything) == 60
    for cut in (0, 1, 13, 59, 60):
        iterator = train(cfg)
        for _ in range(cut):
            next(iterator)
        state = json.loads(json.dumps(iterator.get_state()))
        assert len(json.dumps(state)) < 1000
        fresh = train(cfg)
        fresh.set_state(state)
        assert_same(list(fresh), everything[cut:])
        started = train(cfg, start=cut)
        assert started.get_state() == state
        assert_same(list(started), everything[cut:])
        iterator.set_state(train(cfg).get_state())
        assert_same([next(iterator)], everything[:1])  # backwards as well


def test_a_longer_run_begins_like_a_shorter_one():
    longer = train(CONFIG, total_batches=200)
    shorter = list(train(CONFIG))
    assert_same([next(longer) for _ in shorter], shorter)


@pytest.mark.parametrize("batching", BATCHINGS)
def test_processes_hold_the_slices_of_one_global_batch(batching):
    cfg = with_batching(batching)
    whole = train(cfg, row_multiple=4)
    parts = [train(cfg, row_multiple=4, shards=4, own=[index]) for index in range(4)]
    for batch, *slices in zip(whole, *parts, strict=True):
        fields = zip(*slices, strict=True)
        joined = [f[0] if f[0] is None else np.concatenate(f) for f in fields]
        assert_same([batch], [joined])
    with pytest.raises(ValueError, match="multiple of .*shards=3"):
        train(cfg, row_multiple=4, shards=3)


DIFFERENT = {  # name in the message -> (data section, tokenizer section, arguments)
    "seed": (CONFIG, BYTES, {"seed": 8}),
    "batch_tokens": (CONFIG, BYTES, {"batch_tokens": 1280}),
    "batch_rows": (CONFIG, BYTES, {"row_multiple": 4}),
    "shapes": (with_batching("pack", target_length=50), BYTES, {}),
    "batching": (with_batching("fixed"), BYTES, {}),
    "shuffle": (with_batching("pack", shuffle=False), BYTES, {}),
    "data": (with_batching("pack", numerals_seed=1), BYTES, {}),
    "tokenizer": (CONFIG, TokenizerConfig(kind="character"), {}),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_state_of_other_data_or_batches_is_refused_by_name(name):
    state = train(CONFIG).get_state()
    cfg, tokenizer_cfg, arguments = DIFFERENT[name]
    data = prepared(cfg, tokenizer_cfg)
    other = train_batches(cfg, data, **RUN | arguments)
    with pytest.raises(ValueError, match=rf"cannot continue.*\b{name}: .* then, .*"):
        other.set_state(state)


def test_data_smaller_than_a_batch_is_an_error_that_names_the_knob():
    with pytest.raises(DataError, match=r"train\.batch_tokens=1000000"):
        train(CONFIG, batch_tokens=1_000_000)


def test_a_split_that_is_absent_makes_no_batches(tmp_path):
    (tmp_path / "pairs.tsv").write_text("a\tb\n")
    cfg = Config(source="parallel", train_files=(str(tmp_path / "pairs.tsv"),))
    for batching in BATCHINGS:
        data = prepared(dataclasses.replace(cfg, batching=batching))
        assert len(data.train) == 1 and data.valid == data.test == []
        assert list(eval_batches(data, "test", batch_tokens=640)) == []


# The same everywhere ---------------------------------------------------------------


def run_digest():
    """What one run depends on: fingerprint, vocabulary, ten batches."""
    found = prepared(CONFIG, TokenizerConfig(vocab=300))
    batches = train_batches(CONFIG, found, **RUN | {"total_batches": 10})
    total = sum(int(b.source.sum() + 3 * b.target_inputs[::2].sum()) for b in batches)
    return f"{found.fingerprint} {found.tokenizer.fingerprint} {total}"


def test_two_processes_with_other_hash_seeds_make_the_same_batches():
    program = (
        "from tests.data.rows.test_pairs import run_digest\n"
        "import sys\n"
        "print(run_digest())\n"
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[3],
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "3"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.strip() == run_digest()


def test_importing_the_package_needs_no_framework():
    program = (
        "import sys\n"
        "import tfm_jax.data.cache\n"
        "slow = 'jax flax grain tensorflow_datasets sacremoses num2words'.split()\n"
        "print([name for name in slow if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[3],
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_does_not_grow_with_the_number_of_batches():
    def resident_kilobytes():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4

    sizes = [
        resident_kilobytes()
        for index, _ in enumerate(train(CONFIG, total_batches=3000))
        if index in (999, 2999)
    ]
    assert sizes[1] - sizes[0] < 2000  # under 1 kB a batch


def test_multi30k_fills_rows_of_64_to_96_percent(data_dir):
    files = [str(data_dir / "multi30k" / f"train.{side}.gz") for side in ("en", "de")]
    cfg = Config(source="parallel", train_files=tuple(files), normalize="lowercase")
    found = prepared(cfg, TokenizerConfig(vocab=10_000))
    (rows,) = found.train
    sides = rows.source_segments, rows.target_segments
    real = sum((np.asarray(segments) > 0).mean() for segments in sides)
    assert real / 2 > 0.96
    assert found.report["train"]["overlong"]["pairs"] < 30  # of 29,000
