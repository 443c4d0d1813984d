import gzip

import numpy as np
import pytest

from tests.data import tiny_text_set
from tests.data.tokenizers.published_folders import tokenizer
from tfm_jax.data.errors import DataError
from tfm_jax.data.rows.labelled import Config, labelled_rows
from tfm_jax.data.sources.tables import GLUE, GLUE_TESTS, Labelled, load_labelled

TOKENIZER = tokenizer("wordpiece")
HEADERS = {  # the first lines of GLUE's training files
    "sst2": "sentence\tlabel",
    "mrpc": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
    "qqp": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
    "stsb": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\t"
    "sentence2\tscore",
    "mnli": "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\t"
    "sentence2_binary_parse\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2\t"
    "label1\tgold_label",
    "qnli": "index\tquestion\tsentence\tlabel",
    "rte": "index\tsentence1\tsentence2\tlabel",
    "wnli": "index\tsentence1\tsentence2\tlabel",
}


def write(path, *lines):
    path.write_bytes("\n".join([*lines, ""]).encode())
    return path


def load(path, split="train", names=None, **settings):
    files = {"train_files": (str(path),), f"{split}_files": (str(path),)}
    return load_labelled(Config(**files, **settings), split, names)


def glue_lines(task):
    table = GLUE[task]
    if not table.header:
        return [["src", table.names[1 - n], "*", f"text {n}"] for n in (0, 1)]
    header = HEADERS[task].split("\t")
    rows = [header]
    for n, label in enumerate(["4.5", "0.0"] if table.scores else table.names[::-1]):
        row = ["?"] * len(header)
        row[header.index(table.first)] = f"text {n}"
        if table.second:
            row[header.index(table.second)] = f'"other {n}'  # quotes are only signs
        row[header.index(table.label)] = label
        rows.append(row)
    return rows


@pytest.mark.parametrize("task", GLUE)
def test_the_columns_of_glue_are_known(tmp_path, task):
    lines = ["\t".join(row) for row in glue_lines(task)]
    found, report = load(write(tmp_path / "train.tsv", *lines), table=task)
    count = len(found.firsts)
    assert found.firsts == [f"text {n}" for n in range(count)]
    if GLUE[task].second:
        assert found.seconds == [f'"other {n}' for n in range(count)]
    else:
        assert found.seconds is None
    if GLUE[task].scores:
        assert found.labels.tolist() == [4.5, 0.0]
        assert found.labels.dtype == np.float32
    else:
        assert found.labels.tolist() == list(range(count))[::-1]
        assert found.labels.dtype == np.int32
    assert found.known.all() and report["unlabelled"] == 0


@pytest.mark.parametrize("task", GLUE)
def test_a_test_file_without_labels_is_read_and_asked_nothing(tmp_path, task):
    table = GLUE_TESTS.get(task, GLUE[task])
    columns = [c for c in (table.first, table.second) if c]
    path = write(
        tmp_path / "test.tsv", "\t".join(columns), "\t".join(["a"] * len(columns))
    )
    found, report = load(path, "test", table=task)
    assert not found.known.any() and report["unlabelled"] == 1
    rows, _ = labelled_rows(Config(), TOKENIZER, found)
    assert rows.weights.tolist() == [0.0]
    message = f"has no column '{table.label}'"
    if not GLUE[task].header:
        message = "line 1 has 1 tab-separated columns"
    with pytest.raises(DataError, match=message):
        load(path, "valid", table=task)


def test_sst2_has_as_many_sentences_as_published(data_dir):
    counts = {"train": 6920, "valid": 872}
    files = {"train": "train.tsv", "valid": "dev.tsv"}
    cfg = Config(
        **{f"{s}_files": (str(data_dir / "sst2" / f),) for s, f in files.items()}
    )
    for split, count in counts.items():
        found, report = load_labelled(cfg, split)
        assert report["read"] == count and found.names == ("0", "1")
        rows, _ = labelled_rows(cfg, TOKENIZER, found)
        assert len(rows.labels) == count
        assert set(np.unique(rows.labels)) == {0, 1}
        assert rows.weights.sum() == count


def test_labels_are_those_of_the_training_split_in_order(tmp_path):
    path = write(tmp_path / "a.tsv", "x\t10", "y\t9", "z\t10")
    found, _ = load(path)
    assert found.names == ("9", "10") and found.labels.tolist() == [1, 0, 1]
    with pytest.raises(
        DataError, match=r"line 1 has the label '10'; choose from \(9\)"
    ):
        load(path, "valid", names=("9",))
    named, _ = load(path, labels=("10", "9"))
    assert named.labels.tolist() == [0, 1, 0]


def test_files_are_read_like_parallel_text(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(gzip.compress("\ufeffa\u2028b\tx\r\nc\u0085d\ty\r\n".encode()))
    found, _ = load(path)
    assert found.firsts == ["a\u2028b", "c\u0085d"] and found.names == ("x", "y")
    assert load_labelled(Config(train_files=(str(path),)), "valid")[0].firsts == []


@pytest.mark.parametrize(
    "lines, settings, message",
    [
        (["a\tx", "b"], {}, r"line 2 has 1 tab-separated columns; expected 2"),
        (["s\tl", "a"], {"table": "sst2"}, "has no column 'sentence'; it has s, l"),
        (["sentence\tlabel", "a"], {"table": "sst2"}, r"line 2 has 1 tab-sep.*ted 2"),
        (["a\thigh"], {"scores": True}, r"line 1 has the score 'high', no number"),
        (["a\tnan"], {"scores": True}, r"line 1 has the score 'nan', not finite"),
        (["a\tx"], {"label_column": "tag"}, "column 'tag' is no number"),
        (["a\xff\tx"], {}, None),
    ],
)
def test_bad_rows_are_named(tmp_path, lines, settings, message):
    path = write(tmp_path / "a.tsv", *lines)
    if message is None:
        path.write_bytes(b"ok\tx\nb\xffd\tx\n")
        message = r"a\.tsv: line 2, byte 2 \(0xff\)"
    with pytest.raises(DataError, match=message):
        load(path, **settings)


def test_lines_without_their_columns_are_left_out_if_asked_and_counted(tmp_path):
    """The pairs of QQP as distributed have some."""
    path = write(tmp_path / "a.tsv", "a\tx", "b", "", "c\ty")
    found, report = load(path, malformed="drop")
    assert found.firsts == ["a", "c"] and found.labels.tolist() == [0, 1]
    assert report["malformed"] == {"policy": "drop", "lines": 2}
    with pytest.raises(DataError, match=r"line 2 .*data\.malformed=drop"):
        load(path)


def test_a_text_with_a_tab_is_a_line_of_other_columns_and_never_cut(tmp_path):
    tables = {  # lines, the second of which has a text with a tab; where the text is
        "label first": (("1\ta", "0\tb\tb", "1\tc"), dict(first="1", label="0")),
        "text first": (("a\t1", "b\tb\t0", "c\t1"), dict(first="0", label="1")),
        "columns not read": (
            ("7\t1\ta\tx", "8\t0\tb\tb\tx", "9\t1\tc\tx"),
            dict(first="2", label="1"),
        ),
        "header": (
            ("l\ts", "1\ta", "0\tb\tb", "1\tc"),
            dict(first="s", label="l", header=True),
        ),
    }
    for lines, columns in tables.values():
        path = write(tmp_path / "a.tsv", *lines)
        settings = {f"{name}_column": columns.pop(name) for name in ("first", "label")}
        found, report = load(path, **settings, **columns, malformed="drop")
        assert found.firsts == ["a", "c"] and set(found.names) == {"1"}
        assert report["malformed"]["lines"] == 1
        with pytest.raises(DataError, match=r"line \d has \d tab-.*; expected [24],"):
            load(path, **settings, **columns)


def test_no_file_to_train_on_names_the_knob(tmp_path):
    with pytest.raises(DataError, match=r"data\.train_files is empty"):
        load_labelled(Config(), "train")
    with pytest.raises(DataError, match=r"data\.train_files: there is no file"):
        load(tmp_path / "none.tsv")


def test_a_labelled_set_of_tfds_is_read_and_hidden_labels_are_not_asked(tmp_path):
    cfg = Config(
        first_column="text", label_column="label", **tiny_text_set.prepared(tmp_path)
    )
    found, report = load_labelled(cfg, "train")
    assert found.names == ("0", "1") and report["unlabelled"] == 0
    numbers = [int(text.split()[-1]) % 2 for text in found.firsts]
    assert found.labels.tolist() == numbers
    hidden, report = load_labelled(cfg, "test", found.names)
    assert report["unlabelled"] == 10 and not hidden.known.any()


AWKWARD = Labelled(
    ["a dog", "", "long " * 50, "\x01"], None, np.arange(4, dtype=np.int32),
    np.ones(4, bool), tuple("abcd"),
)  # fmt: skip


def test_empty_and_overlong_examples_are_counted_and_never_shift_the_labels():
    rows, report = labelled_rows(Config(length=16), TOKENIZER, AWKWARD)
    assert rows.labels.tolist() == [0, 1, 2, 3]
    assert rows.segments.sum(1).tolist()[1:] == [2, 16, 2]
    assert report["empty"]["examples"] == 2 and report["overlong"]["examples"] == 1
    cfg = Config(length=16, empty="drop", overlong="drop")
    rows, report = labelled_rows(cfg, TOKENIZER, AWKWARD)
    assert rows.labels.tolist() == [0] and report["kept"] == 1
    with pytest.raises(
        DataError, match=r"example 2 is empty, 2 in all; .*\.empty=drop"
    ):
        labelled_rows(Config(empty="error"), TOKENIZER, AWKWARD)
    empty = AWKWARD._replace(firsts=[""] * 4)
    with pytest.raises(DataError, match="none of 4 examples is left"):
        labelled_rows(cfg, TOKENIZER, empty)


def test_the_longer_of_two_texts_is_cut():
    pair = AWKWARD._replace(seconds=["b", "b", "b", "b " * 30])
    rows, _ = labelled_rows(Config(length=16), TOKENIZER, pair)
    assert rows.segments.sum(1).tolist()[2] == 16
    assert rows.types.sum(1).tolist() == [2, 2, 2, 14]


def test_wrong_settings_name_the_knob():
    with pytest.raises(ValueError, match=r"data\.length=4"):
        Config(length=4)
    with pytest.raises(ValueError, match=r"data\.table='columns'"):
        Config(source="tfds", table="sst2")
