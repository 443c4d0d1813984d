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

from tfm_jax.data import cache, pipeline
from tfm_jax.data.tokenizers.bilingual import Config as TokenizerConfig

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


def flipped(content):
    """One bit of one byte is another, at places all over the content."""
    for place in range(0, len(content), -(-len(content) // 5)):
        yield content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def entry_of(folder):
    [entry] = [p for p in folder.iterdir() if p.is_dir() and not p.is_symlink()]
    return entry


@pytest.mark.parametrize("name", ["train.npz", "rest.json", "SHA256SUMS"])
def test_a_damaged_entry_is_never_served_but_made_again(tmp_path, made, caplog, name):
    first = cache.prepared(CONFIG, TOKENIZER, tmp_path)
    entry = entry_of(tmp_path)
    assert {path.name for path in entry.iterdir()} == {
        *("train.npz", "rest.json", "SHA256SUMS")
    }
    content = (entry / name).read_bytes()
    for damaged in (*flipped(content), content[: len(content) // 2], b""):
        (entry / name).write_bytes(damaged)
        made.clear(), caplog.clear()
        assert_same(cache.prepared(CONFIG, TOKENIZER, tmp_path), first)
        assert_same(cache.prepared(CONFIG, TOKENIZER, tmp_path), first)
        assert len(made) == len(caplog.records) == 1


@pytest.mark.parametrize("name", ["train.npz", "rest.json", "SHA256SUMS", ""])
def test_what_lacks_or_is_no_folder_is_made_again(tmp_path, made, caplog, name):
    first = cache.prepared(CONFIG, TOKENIZER, tmp_path)
    path = entry_of(tmp_path) / name
    if name:
        path.unlink()
    else:
        shutil.rmtree(path)
        path.write_text("a file")
    for _ in range(2):
        assert_same(cache.prepared(CONFIG, TOKENIZER, tmp_path), first)
    assert (len(made), len(caplog.records)) == (2, 1)


@pytest.mark.parametrize("name", ["train.npz", "rest.json", "SHA256SUMS"])
def test_a_pipe_in_an_entry_is_not_waited_for(tmp_path, made, caplog, name):
    first = cache.prepared(CONFIG, TOKENIZER, tmp_path)
    (entry_of(tmp_path) / name).unlink()
    os.mkfifo(entry_of(tmp_path) / name)
    for _ in range(2):
        assert_same(cache.prepared(CONFIG, TOKENIZER, tmp_path), first)
    assert (len(made), len(caplog.records)) == (2, 1)


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_resumed_run_mends_what_the_first_one_prepared(tmp_path, made, damage):
    first = cache.prepared(CONFIG, TOKENIZER, tmp_path)
    entry = entry_of(tmp_path)
    if damage == "flip":
        content = (entry / "rest.json").read_bytes()
        (entry / "rest.json").write_bytes(next(flipped(content)))
    else:
        shutil.rmtree(entry)
    for tokenizer in (first.tokenizer, first.tokenizer, None):
        found = cache.prepared(CONFIG, TOKENIZER, tmp_path, tokenizer=tokenizer)
        assert_same(found, first)
    assert len(made) == 2
    assert entry_of(tmp_path) == entry


def test_of_many_that_ask_at_once_one_prepares(tmp_path, made):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        waiting = [
            pool.submit(cache.prepared, CONFIG, TOKENIZER, tmp_path) for _ in range(4)
        ]
        found = [each.result() for each in waiting]
    assert len(made) == 1
    for each in found[1:]:
        assert_same(each, found[0])


def test_what_is_unfinished_or_unused_for_long_is_removed(tmp_path, made):
    used = dataclasses.replace(CONFIG, numerals_train=60)
    for cfg in (CONFIG, used):
        first = cache.prepared(cfg, TOKENIZER, tmp_path)
    for name in (".making-old", ".making-new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.npz").touch()
    month_ago = time.time() - 31 * 86_400
    for path in tmp_path.iterdir():
        if path.name != ".making-new" and not path.is_symlink():
            os.utime(path, (month_ago, month_ago))
    cache.prepared(used, TOKENIZER, tmp_path, tokenizer=first.tokenizer)
    cache.prepared(dataclasses.replace(CONFIG, numerals_train=70), TOKENIZER, tmp_path)
    assert len(made) == 3
    left = [*tmp_path.iterdir()]
    assert all(path.exists() for path in left)
    assert [p.name for p in left if p.name[0] == "."] == [".making-new"]
    entries = [p for p in left if p.is_dir() and not p.is_symlink()]
    assert len(entries) == 1 + 2  # with .making-new
    made.clear()
    cache.prepared(used, TOKENIZER, tmp_path)
    assert not made
    cache.prepared(CONFIG, TOKENIZER, tmp_path)
    assert len(made) == 1


def test_an_entry_that_became_a_link_meanwhile_is_replaced(tmp_path, made, caplog):
    """One run links the name that another one, which resumes, prepares."""
    tokenizer = pipeline.prepare(CONFIG, TOKENIZER).tokenizer
    prepare = pipeline.prepare

    def slow(*args, **options):
        if options["tokenizer"] is tokenizer:
            cache.prepared(CONFIG, TOKENIZER, tmp_path)
        return prepare(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "prepare", slow)
        found = cache.prepared(CONFIG, TOKENIZER, tmp_path, tokenizer=tokenizer)
    made.clear()
    for given in (tokenizer, None):
        again = cache.prepared(CONFIG, TOKENIZER, tmp_path, tokenizer=given)
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
    found = cache.prepared(CONFIG, TOKENIZER, directory)
    assert_same(found, pipeline.prepare(CONFIG, TOKENIZER))
    [record] = caplog.records
    assert re.search(f"prepared data is not kept: .*{words}", record.getMessage())
    assert {path: path.stat().st_mode for path in tmp_path.rglob("*")} == before


def test_what_can_be_read_but_once_is_read_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    cfg = pipeline.Config(source="parallel", train_files=(str(pipe),))
    writer = threading.Thread(target=pipe.write_text, args=("one\teins\n" * 20,))
    writer.start()
    found = cache.prepared(cfg, TOKENIZER, tmp_path / "cache")
    writer.join()
    assert len(found.train.kept) == 20
    assert not (tmp_path / "cache").exists()
