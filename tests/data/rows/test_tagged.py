import numpy as np
import pytest

from tests.data.tokenizers.published_folders import tokenizer
from tfm_jax.data.errors import DataError
from tfm_jax.data.rows.tagged import Config, tagged_rows
from tfm_jax.data.sources.columns import Tagged, load_tagged, read_columns

CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
German JJ B-NP B-MISC

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""
WORDS = [["EU", "rejects", "German"], ["Peter", "Blackburn"]]
TAGS = [["B-ORG", "O", "B-MISC"], ["B-PER", "I-PER"]]
WORDPIECE = tokenizer("wordpiece")
FRAMED_BPE = tokenizer("byte_bpe", special=("[CLS]", "[SEP]"))


def read(tmp_path, text, **settings):
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    return read_columns([path], **settings)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_columns_are_read_as_conll_writes_them(tmp_path, end, separator):
    text = CONLL.replace(" ", separator).replace("\n", end)
    words, tags, report = read(tmp_path, text)
    assert (words, tags) == (WORDS, TAGS)
    assert report["sentences"] == 2 and report["words"] == 5
    assert read(tmp_path, text.rstrip())[:2] == (WORDS, TAGS)
    _, chunks, _ = read(tmp_path, text, tag=2)
    assert chunks[1] == ["B-NP", "I-NP"]


@pytest.mark.parametrize("line", ["New York B-LOC", "# id 7", "alone"])
def test_a_line_of_other_columns_is_named_and_never_cut(tmp_path, line):
    text = f"the O\n{line}\ncity O\n"
    with pytest.raises(DataError, match=r"line 2 has \d columns; expected 2, as most"):
        read(tmp_path, text)


def test_a_line_with_too_few_columns_is_named(tmp_path):
    with pytest.raises(DataError, match=r"line 2 has 1 columns; expected 2"):
        read(tmp_path, "a O\nb\n")
    with pytest.raises(DataError, match=r"data\.valid_files: there is no file"):
        read_columns([tmp_path / "none"], knob="data.valid_files")


@pytest.mark.parametrize("ours", [WORDPIECE, FRAMED_BPE], ids=["wordpiece", "bpe"])
def test_a_tag_is_asked_for_at_the_first_token_of_its_word(ours):
    words = ["Naïve", "(", "assertively", "don't", "…", "数据", "x"]
    tagged = Tagged([words], [list("ABCDEFG")], tuple("ABCDEFG"))
    rows, report = tagged_rows(Config(length=64), ours, tagged)
    asked = np.flatnonzero(rows.weights[0])
    assert rows.labels[0, asked].tolist() == list(range(7))
    assert report["words_without_label"] == 0
    pieces = np.split(rows.tokens[0, : rows.segments[0].sum() - 1], asked)
    spelled = [ours.decode([piece])[0].strip() for piece in pieces[1:]]
    if ours is FRAMED_BPE:
        assert spelled == words
    else:
        apart = ours.encode(words)
        for piece, ids in zip(pieces[1:], apart, strict=True):
            np.testing.assert_array_equal(piece, ids)


def test_words_that_have_no_token_get_no_label_and_are_counted():
    tagged = Tagged([["a", "\x01", "b"]], [["X", "Y", "Z"]], ("X", "Y", "Z"))
    rows, report = tagged_rows(Config(length=8), WORDPIECE, tagged)
    assert rows.weights[0].tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    assert rows.labels[0, 1:3].tolist() == [0, 2]
    assert report["words_without_label"] == 1


def test_tags_are_numbered_from_o_in_order(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(CONLL)
    found, report = load_tagged(Config(train_files=(str(path),)), "train")
    assert found.names == ("O", "B-MISC", "B-ORG", "B-PER", "I-PER")
    assert report["labels"] == list(found.names)


def test_overlong_sentences_are_cut_left_out_or_an_error():
    tagged = Tagged([["a"] * 20, ["b"]], [["O"] * 20, ["X"]], ("O", "X"))
    rows, report = tagged_rows(Config(length=12), WORDPIECE, tagged)
    assert rows.weights.sum(1).tolist() == [10, 1]
    assert report["words_without_label"] == 10
    cfg = Config(length=12, overlong="drop")
    rows, report = tagged_rows(cfg, WORDPIECE, tagged)
    assert rows.labels[rows.weights > 0].tolist() == [1]
    assert report["overlong"]["sentences"] == 1 == report["kept"]
    with pytest.raises(DataError, match="sentence 1 is overlong, 1 in all"):
        tagged_rows(Config(length=12, overlong="error"), WORDPIECE, tagged)
    alone = Tagged([["a"] * 20], [["O"] * 20], ("O",))
    with pytest.raises(DataError, match="none of 1 sentences is left: 1 overlong"):
        tagged_rows(cfg, WORDPIECE, alone)


def test_unknown_tags_are_refused():
    with pytest.raises(DataError, match=r"sentence 1 has the tag 'B'; choose from \(O"):
        tagged_rows(Config(length=8), WORDPIECE, Tagged([["a"]], [["B"]], ("O",)))
