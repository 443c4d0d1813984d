import gzip
import sys
from pydoc_data import topics

import pytest

from tests.data import tiny_text_set
from tfm_jax.data.errors import DataError
from tfm_jax.data.sources.documents import Config, load_documents

SPLITS = ("train", "valid", "test")


def load(split="train", **settings):
    return load_documents(Config(**settings), split)


def files(*paths, **settings):
    return load(source="files", train_files=tuple(map(str, paths)), **settings)


def test_the_topics_of_python_are_split_without_rest_or_overlap():
    parts = [load(split, valid_share=0.2, test_share=0.2)[0] for split in SPLITS]
    assert sorted(sum([part.names for part in parts], [])) == sorted(topics.topics)
    assert all(part.names for part in parts)
    for part in parts:
        assert part.texts == [topics.topics[name] for name in part.names]


def test_a_document_stays_in_its_split_when_others_come_or_go(tmp_path):
    def held_out():
        found = load("valid", source="folder", folder=str(tmp_path), valid_share=0.5)
        return set(found[0].names)

    for n in range(20):
        (tmp_path / f"{n}.txt").write_text(f"text {n}")
    before = held_out()
    assert 3 < len(before) < 17
    (tmp_path / "0.txt").unlink()
    (tmp_path / "new.txt").write_text("more")
    assert held_out() - {"new.txt"} == before - {"0.txt"}


def test_the_ends_of_a_file_are_held_out_as_nanogpt_does(data_dir):
    path = data_dir / "tinyshakespeare" / "input.txt.gz"
    whole = gzip.decompress(path.read_bytes()).decode()
    parts = [
        load(split, source="files", train_files=(str(path),))[0].texts
        for split in SPLITS
    ]
    assert [len(text) for part in parts for text in part] == [1_003_854, 111_540]
    assert "".join(text for part in parts for text in part) == whole


def test_files_named_for_a_split_are_read_whole(tmp_path):
    (tmp_path / "a.txt").write_text("train text")
    (tmp_path / "b.txt").write_text("valid text")
    named = {
        "source": "files",
        "train_files": (str(tmp_path / "a.txt"),),
        "valid_files": (str(tmp_path / "b.txt"),),
    }
    texts = [load(split, **named)[0].texts for split in SPLITS]
    assert texts == [["train text"], ["valid text"], []]


@pytest.mark.parametrize(
    "document, expected",
    [
        ("file", ["one a\none b\n\n \ntwo\u2028x\n\n"]),
        ("line", ["one a", "one b", "two\u2028x"]),
        ("blank_line", ["one a\none b", "two\u2028x"]),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_is_cut_where_documents_end(tmp_path, document, expected, end):
    text = "\ufeffone a\none b\n\n \ntwo\u2028x\n\n".replace("\n", end)
    (tmp_path / "a.txt").write_bytes(text.encode())
    found, report = files(tmp_path / "a.txt", document=document, valid_share=0.0)
    assert found.texts == expected
    assert report["empty"]["documents"] == {"line": 3}.get(document, 0)


def test_a_file_that_is_named_twice_is_read_twice(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(f"text of {name}")
    read, report = files(*(tmp_path / name for name in "aba"), valid_share=0)
    assert read.texts == [f"text of {name}" for name in "aba"]
    assert report["read"] == 3


def test_a_folder_is_read_in_the_order_of_names_below_it(tmp_path):
    for name in ("b/x.txt", "a.txt", "c.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    found, _ = load(source="folder", folder=str(tmp_path), valid_share=0.0)
    assert found.names == found.texts == ["a.txt", "b/x.txt"]
    with pytest.raises(DataError, match=r"has no file '\*\.rst'"):
        load(source="folder", folder=str(tmp_path), pattern="*.rst")
    with pytest.raises(DataError, match=r"data\.folder='' is no folder"):
        load(source="folder")


def test_invalid_utf8_is_an_error_with_its_place_unless_replaced(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"fine\nbad \xc3( here\nfine\n")
    with pytest.raises(DataError, match=r"a\.txt: line 2, byte 5 \(0xc3\)"):
        files(tmp_path / "a.txt")
    found, report = files(tmp_path / "a.txt", invalid_utf8="replace", valid_share=0.0)
    assert found.texts == ["fine\nbad \ufffd( here\nfine\n"]
    (file,) = report["files"].values()
    assert file["invalid_utf8_lines"] == 1


def test_empty_documents_are_dropped_and_counted_or_an_error(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n \n")
    settings = {"document": "line", "valid_share": 0.0}
    found, report = files(tmp_path / "a.txt", **settings)
    assert found.texts == ["one", "two"]
    assert report["empty"] == {"policy": "drop", "documents": 2}
    assert (report["read"], report["kept"], report["characters"]) == (4, 2, 6)
    with pytest.raises(DataError, match=r"a\.txt:2 is empty, 2 in all; .*data\.empty="):
        files(tmp_path / "a.txt", empty="error", **settings)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match="training split has no text"):
        files(tmp_path / "a.txt")


def test_missing_files_are_named_with_their_knob(tmp_path):
    with pytest.raises(DataError, match=r"data\.train_files: there is no file .*x"):
        files(tmp_path / "x")
    with pytest.raises(DataError, match=r"data\.train_files is empty"):
        files()


@pytest.mark.parametrize("shares", [(-0.1, 0), (0.5, 0.5)])
def test_shares_must_leave_something_to_train_on(shares):
    with pytest.raises(ValueError, match=r"data\.valid_share=.*data\.test_share="):
        Config(valid_share=shares[0], test_share=shares[1])


def test_a_text_set_of_tfds_is_read_without_tensorflow(tmp_path):
    settings = {**tiny_text_set.prepared(tmp_path), "tfds_test": ""}
    found, report = load(**settings)
    assert set(found.texts) == {f"Sätzlein\u2028 {n}" for n in range(10)}
    assert report["tfds"] == "tiny_text/1.0.0"
    assert load("valid", **settings)[1]["kept"] == 2
    assert load("test", **settings)[1]["kept"] == 0
    with pytest.raises(DataError, match=r"no feature 'txt'; choose from \(text, label"):
        load(**{**settings, "tfds_feature": "txt"})
    assert "tensorflow" not in sys.modules
