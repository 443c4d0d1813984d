import concurrent.futures
import dataclasses

import numpy as np
import pytest

from tfm_jax.data import cache, pipeline
from tfm_jax.data.tokenizers import Config as TokenizerConfig

CONFIG = pipeline.Config(
    source="numerals", numerals_max=400, numerals_heldout=10, numerals_train=50
)
TOKENIZER = TokenizerConfig(kind="bpe", vocab=300)


@pytest.fixture
def made(monkeypatch):
    """The configs that were prepared, not read."""
    calls, prepare = [], pipeline.prepare

    def counting(cfg, *rest, **options):
        calls.append(cfg)
        return prepare(cfg, *rest, **options)

    monkeypatch.setattr(pipeline, "prepare", counting)
    return calls


def assert_same(found, expected):
    for side in ("source", "target"):
        for x, y in zip(
            getattr(found.train, side), getattr(expected.train, side), strict=True
        ):
            np.testing.assert_array_equal(x, y, strict=True)
    np.testing.assert_array_equal(found.train.kept, expected.train.kept, strict=True)
    assert found.train[3:] == expected.train[3:]
    assert found[2:] == expected[2:]
    assert found.tokenizer.to_json() == expected.tokenizer.to_json()


def test_what_is_read_is_what_was_prepared(tmp_path, made):
    first = cache.prepared(CONFIG, TOKENIZER, tmp_path / "cache")
    again = cache.prepared(CONFIG, TOKENIZER, tmp_path / "cache")
    assert len(made) == 1
    assert_same(again, first)
    assert_same(again, pipeline.prepare(CONFIG, TOKENIZER))
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0


def test_a_resumed_run_reads_what_the_first_one_prepared(tmp_path, made):
    first = cache.prepared(CONFIG, TOKENIZER, tmp_path)
    resumed = cache.prepared(CONFIG, TOKENIZER, tmp_path, tokenizer=first.tokenizer)
    assert len(made) == 1
    assert_same(resumed, first)


def test_another_setting_is_other_data(tmp_path, made):
    cache.prepared(CONFIG, TOKENIZER, tmp_path)
    for change in ({"numerals_train": 60}, {"target_language": "fr"}):
        cache.prepared(dataclasses.replace(CONFIG, **change), TOKENIZER, tmp_path)
    cache.prepared(CONFIG, dataclasses.replace(TOKENIZER, vocab=280), tmp_path)
    assert len(made) == 4


def test_another_content_of_a_file_is_other_data(tmp_path, made):
    file = tmp_path / "pairs.tsv"
    cfg = pipeline.Config(source="parallel", train_files=(str(file),))
    for text in ("one\teins\n", "two\tzwei\n", "one\teins\n"):
        file.write_text(text * 20)
        found = cache.prepared(cfg, TOKENIZER, tmp_path / "cache")
        assert_same(found, pipeline.prepare(cfg, TOKENIZER))
    assert len(made) == 2 + 3


@pytest.mark.parametrize("name", ["train.npz", "rest.json"])
def test_a_damaged_entry_is_made_again(tmp_path, made, name):
    first = cache.prepared(CONFIG, TOKENIZER, tmp_path)
    [entry] = [p for p in tmp_path.iterdir() if p.is_dir() and not p.is_symlink()]
    damaged = bytearray((entry / name).read_bytes())
    middle = len(damaged) // 2
    (entry / name).write_bytes(damaged[:middle])
    assert_same(cache.prepared(CONFIG, TOKENIZER, tmp_path), first)
    assert len(made) == 2
    cache.prepared(CONFIG, TOKENIZER, tmp_path)
    assert len(made) == 2


def test_of_many_that_ask_at_once_one_prepares(tmp_path, made):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        waiting = [
            pool.submit(cache.prepared, CONFIG, TOKENIZER, tmp_path) for _ in range(4)
        ]
        found = [each.result() for each in waiting]
    assert len(made) == 1
    for each in found[1:]:
        assert_same(each, found[0])


def test_without_a_place_to_write_the_data_is_prepared_all_the_same(tmp_path, made):
    (tmp_path / "file").write_text("not a directory")
    cache.prepared(CONFIG, TOKENIZER, tmp_path / "file" / "cache")
    assert len(made) == 1
