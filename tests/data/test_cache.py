import concurrent.futures
import dataclasses
import os
import re
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.workloads.text_runs import data_of, write_files
from tfm_jax.config import build
from tfm_jax.data import cache, eviction
from tfm_jax.data.batches import train_batches
from tfm_jax.data.prepared import digest_of, prepare
from tfm_jax.data.rows import causal, pairs
from tfm_jax.data.tokenizers import vocabularies
from tfm_jax.data.tokenizers.bilingual import Config as TokenizerConfig
from tfm_jax.workloads import WORKLOADS

ROWS = "train-0-source.npy"
CONFIG = pairs.Config(
    source="numerals", numerals_max=400, numerals_heldout=10, numerals_train=50
)
TOKENIZER = TokenizerConfig(kind="bpe", vocab=300)


def cached(cfg, tokenizer_cfg, directory, **options):
    return cache.prepared(pairs.KIND, cfg, tokenizer_cfg, directory, **options)


@pytest.fixture
def made(monkeypatch):
    """The configs that were prepared, not read."""
    calls = []

    def counting(kind, cfg, *rest, **options):
        calls.append(cfg)
        return prepare(kind, cfg, *rest, **options)

    monkeypatch.setattr(cache, "prepare", counting)
    return calls


def assert_same(found, expected):
    for split in ("train", "valid", "test"):
        sets = getattr(found, split), getattr(expected, split)
        for rows, others in zip(*sets, strict=True):
            assert type(rows) is type(others)
            for x, y in zip(rows, others, strict=True):
                assert (x is None) == (y is None)
                if x is not None:
                    np.testing.assert_array_equal(x, y, strict=True)
    for name in ("examples", "report", "fingerprint", "identity"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.tokenizer.to_json() == expected.tokenizer.to_json()


def test_what_is_read_is_what_was_prepared(tmp_path, made):
    first = cached(CONFIG, TOKENIZER, tmp_path / "cache")
    again = cached(CONFIG, TOKENIZER, tmp_path / "cache")
    assert len(made) == 1
    assert_same(again, first)
    assert_same(again, prepare(pairs.KIND, CONFIG, TOKENIZER))
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0


def test_a_resumed_run_reads_what_the_first_one_prepared(tmp_path, made):
    first = cached(CONFIG, TOKENIZER, tmp_path)
    resumed = cached(CONFIG, TOKENIZER, tmp_path, tokenizer=first.tokenizer)
    assert len(made) == 1
    assert_same(resumed, first)


@pytest.mark.parametrize("task", ["causal_lm", "masked_lm", "classify", "tag", "span"])
def test_what_is_read_of_any_kind_of_text_is_what_was_prepared(tmp_path, made, task):
    """Static masks, and the questions that evaluation reads, among it."""
    write_files(tmp_path)
    changes = {"masking": dict(draw="static", most=5)}
    section = data_of(task, tmp_path, **changes if task == "masked_lm" else {})
    kind = WORKLOADS[task].data
    sections = [build(kind.Config, section.to_dict(), "data")]
    sections.append(vocabularies.Config(kind="wordpiece", vocab=90))
    first, again = (
        cache.prepared(kind, *sections, tmp_path / "cache") for _ in range(2)
    )
    assert len(made) == 1
    assert_same(again, first)
    assert (task == "span") == bool(first.examples)
    resumed = cache.prepared(
        kind, *sections, tmp_path / "cache", tokenizer=first.tokenizer
    )
    assert len(made) == 1
    assert_same(resumed, first)
    batches, others = (
        train_batches(sections[0], data, batch_tokens=96, total_batches=3, seed=0)
        for data in (first, again)
    )
    assert digest_of(batches) == digest_of(others)


def test_files_of_a_folder_and_of_a_tokenizer_are_part_of_what_is_kept(tmp_path, made):
    (tmp_path / "texts").mkdir()
    names = [f"{number}.txt" for number in range(30)]
    for name in names:
        (tmp_path / "texts" / name).write_text(f"text of {name}")
    cfg = causal.Config(source="folder", folder=str(tmp_path / "texts"))
    ours = vocabularies.Config(kind="published", file=str(tmp_path / "tokenizer.json"))
    spelled = vocabularies.train_text_tokenizer("byte", [])
    spelled.save(tmp_path / "tokenizer.json")

    def fingerprint():
        found = cache.prepared(causal.KIND, cfg, ours, tmp_path / "cache")
        expected = prepare(causal.KIND, cfg, ours)
        assert_same(found, expected)
        return found.fingerprint

    first = fingerprint()
    assert fingerprint() == first and len(made) == 1
    (tmp_path / "texts" / names[0]).write_text("another text")
    second = fingerprint()
    (tmp_path / "texts" / names[0]).rename(tmp_path / "texts" / "moved.txt")
    third = fingerprint()
    spelled.with_special(["[SEP]"]).save(tmp_path / "tokenizer.json")
    assert len({first, second, third, fingerprint()}) == len(made) == 4


def test_another_setting_is_other_data(tmp_path, made):
    cached(CONFIG, TOKENIZER, tmp_path)
    for change in ({"numerals_train": 60}, {"target_language": "fr"}):
        cached(dataclasses.replace(CONFIG, **change), TOKENIZER, tmp_path)
    cached(CONFIG, dataclasses.replace(TOKENIZER, vocab=280), tmp_path)
    assert len(made) == 4


def test_another_content_of_a_file_is_other_data(tmp_path, made):
    file = tmp_path / "pairs.tsv"
    cfg = pairs.Config(source="parallel", train_files=(str(file),))
    for text in ("one\teins\n", "two\tzwei\n", "one\teins\n"):
        file.write_text(text * 20)
        found = cached(cfg, TOKENIZER, tmp_path / "cache")
        assert_same(found, prepare(pairs.KIND, cfg, TOKENIZER))
    assert len(made) == 2


def flipped(content):
    """One bit of one byte is another, at places all over the content."""
    for place in range(0, len(content), -(-len(content) // 5)):
        yield content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def entry_of(folder):
    [entry] = [p for p in folder.iterdir() if p.is_dir() and not p.is_symlink()]
    return entry


@pytest.mark.parametrize("name", [ROWS, "rest.json", "SHA256SUMS"])
def test_a_damaged_entry_is_never_served_but_made_again(tmp_path, made, caplog, name):
    first = cached(CONFIG, TOKENIZER, tmp_path)
    entry = entry_of(tmp_path)
    assert {path.name for path in entry.iterdir()} > {ROWS, "rest.json", "SHA256SUMS"}
    content = (entry / name).read_bytes()
    for damaged in (*flipped(content), content[: len(content) // 2], b""):
        (entry / name).write_bytes(damaged)
        made.clear(), caplog.clear()
        assert_same(cached(CONFIG, TOKENIZER, tmp_path), first)
        assert_same(cached(CONFIG, TOKENIZER, tmp_path), first)
        assert len(made) == len(caplog.records) == 1


@pytest.mark.parametrize("name", [ROWS, "rest.json", "SHA256SUMS", ""])
def test_what_lacks_or_is_no_folder_is_made_again(tmp_path, made, caplog, name):
    first = cached(CONFIG, TOKENIZER, tmp_path)
    path = entry_of(tmp_path) / name
    if name:
        path.unlink()
    else:
        shutil.rmtree(path)
        path.write_text("a file")
    for _ in range(2):
        assert_same(cached(CONFIG, TOKENIZER, tmp_path), first)
    assert (len(made), len(caplog.records)) == (2, 1)


@pytest.mark.parametrize("name", [ROWS, "rest.json", "SHA256SUMS"])
def test_a_pipe_in_an_entry_is_not_waited_for(tmp_path, made, caplog, name):
    first = cached(CONFIG, TOKENIZER, tmp_path)
    (entry_of(tmp_path) / name).unlink()
    os.mkfifo(entry_of(tmp_path) / name)
    for _ in range(2):
        assert_same(cached(CONFIG, TOKENIZER, tmp_path), first)
    assert (len(made), len(caplog.records)) == (2, 1)


def test_a_link_to_itself_is_replaced(tmp_path, made, caplog):
    first = cached(CONFIG, TOKENIZER, tmp_path)
    entry = entry_of(tmp_path)
    shutil.rmtree(entry)
    entry.symlink_to(entry.name)
    for _ in range(2):
        assert_same(cached(CONFIG, TOKENIZER, tmp_path), first)
    assert (len(made), len(caplog.records)) == (2, 1)


def test_json_that_is_too_deep_to_read_is_made_again(tmp_path, made, caplog):
    first = cached(CONFIG, TOKENIZER, tmp_path)
    entry = entry_of(tmp_path)
    (entry / "rest.json").write_text("[" * 100_000)
    (entry / "SHA256SUMS").write_text(cache._sums(entry))
    for _ in range(2):
        assert_same(cached(CONFIG, TOKENIZER, tmp_path), first)
    assert (len(made), len(caplog.records)) == (2, 1)


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_resumed_run_mends_what_the_first_one_prepared(tmp_path, made, damage):
    first = cached(CONFIG, TOKENIZER, tmp_path)
    entry = entry_of(tmp_path)
    if damage == "flip":
        content = (entry / "rest.json").read_bytes()
        (entry / "rest.json").write_bytes(next(flipped(content)))
    else:
        shutil.rmtree(entry)
    for tokenizer in (first.tokenizer, first.tokenizer, None):
        found = cached(CONFIG, TOKENIZER, tmp_path, tokenizer=tokenizer)
        assert_same(found, first)
    assert len(made) == 2
    assert entry_of(tmp_path) == entry


def test_of_many_that_ask_at_once_one_prepares(tmp_path, made):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(cached, CONFIG, TOKENIZER, tmp_path) for _ in range(4)]
        found = [each.result() for each in waiting]
    assert len(made) == 1
    for each in found[1:]:
        assert_same(each, found[0])


def test_what_is_unfinished_or_unused_for_long_is_removed(tmp_path, made):
    used = dataclasses.replace(CONFIG, numerals_train=60)
    for cfg in (CONFIG, used):
        first = cached(cfg, TOKENIZER, tmp_path)
    for name in (".making-old", ".making-new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ROWS).touch()
    while eviction._pinned:  # as if the processes had ended
        os.close(eviction._pinned.popitem()[1])
    month_ago = time.time() - 31 * 86_400
    for path in tmp_path.iterdir():
        if path.name != ".making-new" and not path.is_symlink():
            os.utime(path, (month_ago, month_ago))
    cached(used, TOKENIZER, tmp_path, tokenizer=first.tokenizer)
    cached(dataclasses.replace(CONFIG, numerals_train=70), TOKENIZER, tmp_path)
    assert len(made) == 3
    left = [*tmp_path.iterdir()]
    assert all(path.exists() for path in left)
    assert [p.name for p in left if p.name[0] == "."] == [".making-new"]
    entries = [p for p in left if p.is_dir() and not p.is_symlink()]
    assert len(entries) == 1 + 2  # with .making-new
    made.clear()
    cached(used, TOKENIZER, tmp_path)
    assert not made
    cached(CONFIG, TOKENIZER, tmp_path)
    assert len(made) == 1


def test_an_entry_that_became_a_link_meanwhile_is_replaced(tmp_path, made, caplog):
    """One run links the name that another one, which resumes, prepares."""
    tokenizer = prepare(pairs.KIND, CONFIG, TOKENIZER).tokenizer

    def slow(*args, **options):
        if options["tokenizer"] is tokenizer:
            cached(CONFIG, TOKENIZER, tmp_path)
        return prepare(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "prepare", slow)
        found = cached(CONFIG, TOKENIZER, tmp_path, tokenizer=tokenizer)
    made.clear()
    for given in (tokenizer, None):
        again = cached(CONFIG, TOKENIZER, tmp_path, tokenizer=given)
        assert_same(again, found)
    assert not made and not caplog.records


def open_to_others(folder, monkeypatch):
    (folder / "cache").mkdir()
    (folder / "cache").chmod(0o777)
    return folder / "cache"


def of_somebody_else(folder, monkeypatch):
    (folder / "cache").mkdir(mode=0o700)
    monkeypatch.setattr(cache.os, "geteuid", lambda: os.getuid() + 1)
    return folder / "cache"


def below_a_file(folder, monkeypatch):
    (folder / "file").write_text("no folder")
    return folder / "file" / "cache"


def read_only(folder, monkeypatch):
    (folder / "cache").mkdir(mode=0o700)
    monkeypatch.setattr(cache.os, "access", lambda path, mode: False)
    return folder / "cache"


def without_home(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return Path("~/.cache")


@pytest.mark.parametrize(
    "place, words",
    [
        (open_to_others, "others may write to .*cache"),
        (of_somebody_else, "cache belongs to user"),
        (below_a_file, "file"),
        (read_only, "cannot be written to"),
        (without_home, "set HOME"),
    ],
)
def test_a_place_that_is_not_the_user_s_own_is_not_used_with_a_word(
    tmp_path, monkeypatch, made, caplog, place, words
):
    directory = place(tmp_path, monkeypatch)
    before = {path: path.stat().st_mode for path in tmp_path.rglob("*")}
    found = cached(CONFIG, TOKENIZER, directory)
    assert_same(found, prepare(pairs.KIND, CONFIG, TOKENIZER))
    [record] = caplog.records
    assert re.search(f"prepared data is not kept: .*{words}", record.getMessage())
    assert {path: path.stat().st_mode for path in tmp_path.rglob("*")} == before


def test_what_can_be_read_but_once_is_read_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    cfg = pairs.Config(source="parallel", train_files=(str(pipe),))
    writer = threading.Thread(target=pipe.write_text, args=("one\teins\n" * 20,))
    writer.start()
    found = cached(cfg, TOKENIZER, tmp_path / "cache")
    writer.join()
    assert found.report["train"]["kept"] == 20
    assert not (tmp_path / "cache").exists()
