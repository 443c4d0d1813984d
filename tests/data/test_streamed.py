"""Running text that is read, tokenised, kept and cut into rows piece by piece."""

import errno
import functools
import os
import re
import shutil
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.rows.whole import documents_of, whole
from tests.data.tokenizers.published_folders import corpus, tokenizer
from tfm_jax.data import cache, digests, eviction, prepared
from tfm_jax.data.arrays import files, mapped_rows, tokenized
from tfm_jax.data.batches import train_batches
from tfm_jax.data.errors import DataError
from tfm_jax.data.prepared import digest_of
from tfm_jax.data.rows import causal, sentences
from tfm_jax.data.rows.causal import LAYOUTS, causal_rows
from tfm_jax.data.sources import documents, running_text
from tfm_jax.data.sources.running_text import ENDS
from tfm_jax.data.tokenizers import vocabularies
from tfm_jax.data.workspace import working_in, workspace
from tfm_jax.runs.process.exits import Preempted

TOKENIZER = vocabularies.Config(kind="byte_bpe", vocab=300)
LETTERS = st.text(st.sampled_from("ab \t\n\r.\ufeffé中\u2028"), max_size=60)


def pieces(monkeypatch, size):
    """Texts are read in pieces of so many characters, or little more."""
    monkeypatch.setattr(running_text, "PART", size)
    monkeypatch.setattr(documents, "PART", size)


def read(path, **settings):
    cfg = documents.Config(source="files", train_files=(str(path),), **settings)
    try:
        return documents.load_documents(cfg, "train")
    except documents.DataError as error:
        return str(error)


@pytest.mark.parametrize("document", ENDS)
@given(text=LETTERS, size=st.integers(1, 20))
def test_documents_do_not_depend_on_the_pieces_that_are_read(
    tmp_path_factory, document, text, size
):
    path = tmp_path_factory.mktemp("texts") / "a.txt"
    path.write_bytes(text.encode())
    settings = dict(document=document, valid_share=0.25, empty="keep")
    at_once = read(path, **settings)
    with pytest.MonkeyPatch.context() as patch:
        pieces(patch, size)
        patch.setattr("tfm_jax.data.sources.text_files._BLOCK", size)
        assert read(path, **settings) == at_once


@pytest.mark.parametrize("kind", vocabularies.TRAINERS)
def test_tokens_do_not_depend_on_where_long_documents_are_cut(monkeypatch, kind):
    ours, text = tokenizer(kind), "\n".join(corpus())
    (want,) = ours.encode([text])
    pieces(monkeypatch, 5_000)
    parts = [*running_text.documents("x", [text], "file")]
    assert len(parts) > 5
    assert "".join(part.texts[0] for part in parts) == text
    found, _ = tokenized.encode_documents(ours, parts)
    np.testing.assert_array_equal(found.ids, want)
    assert found.lengths.tolist() == [len(want)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("end", [9999, None])
@given(
    lengths=st.lists(st.integers(2, 25), min_size=1, max_size=12),
    numbers=st.lists(st.integers(0, 100), min_size=1, max_size=9),
)
def test_any_rows_are_those_of_all_rows(layout, end, lengths, numbers):
    rows = causal_rows(
        documents_of([range(2, 2 + n) for n in lengths], end), 5, layout=layout
    )
    chosen = np.array(numbers) % len(rows.tokens)
    for field, entire in zip(rows, whole(rows), strict=True):
        if field is not None:
            assert field.dtype == entire.dtype and field.shape == entire.shape
            np.testing.assert_array_equal(field[chosen], entire[chosen], strict=True)
            np.testing.assert_array_equal(field[1:3], entire[1:3], strict=True)
            np.testing.assert_array_equal(field[-1], entire[-1], strict=True)
            behind = chosen - len(entire)
            np.testing.assert_array_equal(field[behind], entire[chosen], strict=True)
            with pytest.raises(IndexError, match="of "):
                field[np.array([len(entire)])]


def test_of_rows_only_what_is_asked_for_is_gathered(monkeypatch):
    gathered, shapes = mapped_rows.Windows._gathered, []

    def counting(self, starts):
        shapes.append(starts.shape)
        return gathered(self, starts)

    monkeypatch.setattr(mapped_rows.Windows, "_gathered", counting)
    for layout, fields in (("joined", 2), ("packed", 4)):
        rows = causal_rows(documents_of([range(2, 40)] * 5), 8, layout=layout)
        shapes.clear()
        digest_of([rows])
        assert shapes == [(len(rows.tokens),)] * fields
        shapes.clear()
        mapped_rows.rows_of(rows).take(np.arange(3))
        assert shapes == [(fields, 3)]


@pytest.fixture
def texts(tmp_path):
    """A folder of documents, read in pieces of 2,000 characters."""
    (tmp_path / "texts").mkdir()
    for n, text in enumerate(corpus()):
        (tmp_path / "texts" / f"{n:03}.txt").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        pieces(patch, 2_000)
        yield causal.Config(
            source="folder",
            folder=str(tmp_path / "texts"),
            length=32,
            layout="packed",
            separator="<|endoftext|>",
        )


def kept(cfg, path, tokenizer_cfg=TOKENIZER):
    return cache.prepared(causal.KIND, cfg, tokenizer_cfg, path)


def batches(data, cfg):
    made = train_batches(cfg, data, batch_tokens=128, total_batches=4, seed=1)
    return digest_of(made)


def entry_of(folder):
    [entry] = [p for p in folder.iterdir() if p.is_dir() and not p.is_symlink()]
    return entry


class Killed(BaseException):
    pass


@pytest.mark.parametrize("stop", [Killed, Preempted])
def test_a_preparation_that_was_stopped_goes_on(texts, tmp_path, monkeypatch, stop):
    encode, calls, dies_at = vocabularies.Tokenizer.encode, [], -1

    def counting(self, some):
        calls.append(some)
        if len(calls) == dies_at:
            raise stop
        return encode(self, some)

    monkeypatch.setattr(vocabularies.Tokenizer, "encode", counting)
    monkeypatch.setattr(tokenized, "_MOST_THREADS", 1)
    want = kept(texts, tmp_path / "whole")
    entire, dies_at = len(calls), 5
    calls.clear()
    with pytest.raises(stop):
        kept(texts, tmp_path / "cache")
    (work,) = (tmp_path / "cache").glob(".making-*")
    assert {p.name for p in work.iterdir()} >= {"tokenizer.json", "train.journal"}
    noted = len((work / "train.journal").read_bytes().splitlines()) - 1
    assert 1 <= noted < 5
    with open(work / "train.ids", "ab") as file:
        file.write(b"half of a piece")
    trained, dies_at = [], -1
    monkeypatch.setattr(vocabularies, "make", lambda *args: trained.append(args))
    calls.clear()
    rows = kept(texts, tmp_path / "cache")
    assert len(calls) == entire - noted
    assert not trained and not [*(tmp_path / "cache").glob(".making-*")]
    assert rows.fingerprint == want.fingerprint and rows.report == want.report
    assert batches(rows, texts) == batches(want, texts)


def test_a_tokenizer_of_a_killed_process_that_is_damaged_is_trained_again(tmp_path):
    """Whatever a flipped bit makes of it, another token or no JSON."""
    kind = causal.KIND._replace(texts=lambda cfg, texts: texts)
    with working_in(tmp_path / "work"):

        def trained():
            return prepared._trained(kind, None, TOKENIZER, ["abab cdcd " * 50])

        want, path = trained().fingerprint, tmp_path / "work" / "tokenizer.json"
        content = path.read_bytes()
        for place in range(0, len(content), len(content) // 16):
            flipped = content[place] ^ 1
            path.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
            assert trained().fingerprint == want


def test_data_that_cannot_be_used_leaves_nothing(texts, tmp_path, monkeypatch):
    def wrong(self, some):
        raise DataError("ids outside the vocabulary")

    monkeypatch.setattr(vocabularies.Tokenizer, "encode", wrong)
    with pytest.raises(DataError, match="ids outside"):
        kept(texts, tmp_path / "cache")
    assert not [*(tmp_path / "cache").glob(".making-*")]


def full(*args):
    raise OSError(errno.ENOSPC, "no space left on device")


@pytest.mark.parametrize(
    "where, name",
    [
        (tokenized.GrowingArrays, "_note"),
        (files.ArrayFile, "append"),
        (mapped_rows.MappedRows, "move"),
        (cache.Path, "symlink_to"),
    ],
)
def test_where_the_disk_is_full_data_is_prepared_but_not_kept(
    texts, tmp_path, monkeypatch, caplog, where, name
):
    want = prepared.prepare(causal.KIND, texts, TOKENIZER)
    function = getattr(where, name)

    def limited(self, *args, **options):
        if workspace() or name in ("move", "symlink_to"):
            full()
        return function(self, *args, **options)

    monkeypatch.setattr(where, name, limited)
    found = kept(texts, tmp_path / "cache")
    (message,) = caplog.messages
    assert re.search("prepared data is not kept: .*no space left", message)
    assert not [*(tmp_path / "cache").glob(".making-*")]
    assert found.fingerprint == want.fingerprint and found.report == want.report
    assert batches(found, texts) == batches(want, texts)


@pytest.mark.parametrize("how", [None, "line"])
def test_of_a_damaged_beginning_only_what_is_whole_is_used(texts, tmp_path, how):
    ours, chunks = tokenizer("byte_bpe"), documents.load_corpus(texts, "train")[0]
    split = how and functools.partial(sentences.divide, how=how)
    want, report = tokenized.encode_documents(ours, chunks, split=split)
    settings = dict(folder=tmp_path, name="train", split=split)
    for damage in (0, 1, 500, -1):
        tokenized.encode_documents(ours, chunks, **settings)
        content = bytearray((tmp_path / "train.ids").read_bytes())
        content[128 + damage if damage >= 0 else damage] ^= 1
        (tmp_path / "train.ids").write_bytes(content)
        again, said = tokenized.encode_documents(ours, chunks, **settings)
        for array, expected in zip(again, want, strict=True):
            np.testing.assert_array_equal(array, expected, strict=True)
        assert said == report
    other, _ = tokenized.encode_documents(ours, chunks, end=5, **settings)
    assert len(other.ids) == len(want.ids) + len(want.lengths) + 1
    assert want.ids.dtype == np.uint16  # 600 tokens


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_of_the_disk_are_those_of_memory(texts, tmp_path, layout):
    cfg = causal.Config(**{**vars(texts), "layout": layout})
    want = prepared.prepare(causal.KIND, cfg, TOKENIZER)
    for _ in range(2):
        found = kept(cfg, tmp_path / "cache")
        assert found.fingerprint == want.fingerprint == digests_of(found, layout)
        assert found.report == want.report
        assert batches(found, cfg) == batches(want, cfg)
    names = {path.name for path in entry_of(tmp_path / "cache").iterdir()}
    kept_arrays = {"ids"} if layout == "joined" else {"rows", "offsets"}
    assert {n for n in names if n.startswith("train")} == {
        f"train-0-{name}.npy" for name in kept_arrays
    }


def digests_of(data, layout):
    """Of whole rows; in it, as in runs of before, those of one document count too."""

    def entire(rows):
        rows = whole(rows)
        if layout == "single":
            positions = np.arange(rows.shape[1]) * rows.segments
            rows = rows._replace(positions=positions.astype(np.int32))
        return rows

    sets = [digest_of(map(entire, getattr(data, split))) for split in prepared.SPLITS]
    return prepared.sha256_of([data.tokenizer.fingerprint, *sets])


def test_a_large_entry_is_damaged_if_it_is_another(
    texts, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(digests, "LARGE", 10)
    monkeypatch.setattr(digests, "_TICK", -1.0)
    want = kept(texts, tmp_path / "cache")
    kept(texts, tmp_path / "cache")
    path = entry_of(tmp_path / "cache") / "train-0-rows.npy"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    assert not caplog.records
    assert batches(kept(texts, tmp_path / "cache"), texts) == batches(want, texts)
    assert "damaged" in caplog.text


def size_of(entry):
    return sum(file.stat().st_size for file in entry.iterdir())


def test_what_is_too_much_goes_but_for_what_is_used(texts, tmp_path, monkeypatch):
    cfgs = [causal.Config(**{**vars(texts), "length": n}) for n in (32, 33, 34)]
    entries = {}
    for number, cfg in enumerate(cfgs):
        before = set(entries.values())
        kept(cfg, tmp_path)
        found = {p for p in tmp_path.iterdir() if p.is_dir() and not p.is_symlink()}
        (entries[number],) = found - before - {tmp_path / "texts"}
        used = time.time() - 3600 * (9 - number)
        os.utime(entries[number].with_suffix(".lock"), (used, used))
    for number in (0, 2):  # as if their processes had ended
        os.close(eviction._pinned.pop(entries[number]))
    shutil.move(tmp_path / "texts", tmp_path.parent / f"{tmp_path.name}-texts")
    monkeypatch.setenv(eviction.GIGABYTES, f"{size_of(entries[2]) * 2.5e-9}")
    eviction.evict(tmp_path, "SHA256SUMS")
    assert [entries[n].exists() for n in range(3)] == [False, True, True]
    monkeypatch.setenv(eviction.GIGABYTES, "1e-9")
    eviction.evict(tmp_path, "SHA256SUMS")
    assert [entries[n].exists() for n in range(3)] == [False, True, False]
