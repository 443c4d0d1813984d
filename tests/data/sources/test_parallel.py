import gzip

import pytest

from tfm_jax.data.errors import DataError
from tfm_jax.data.rows.pairs import Config
from tfm_jax.data.sources.bitext import load_pairs

HORRIBLE = [
    "line\u2028separator", "next\u0085line", "carriage\rreturn", "nul\0byte",
    "form\ffeed\x0bvertical\x1cfile", "", "\ufeffmark inside", "tab\there", "end",
]  # fmt: skip


def config(*paths, **changes):
    return Config(source="parallel", train_files=tuple(map(str, paths)), **changes)


def write(path, lines, end="\n"):
    path.write_bytes(end.join([*lines, ""]).encode())
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_only_newlines_end_lines_so_the_sides_stay_aligned(tmp_path, end):
    source = write(tmp_path / "a.en", HORRIBLE, end)
    target = write(tmp_path / "a.de", [str(n) for n in range(len(HORRIBLE))])
    pairs, report = load_pairs(config(source, target), "train")
    assert pairs.source == HORRIBLE
    assert pairs.target == [str(n) for n in range(len(HORRIBLE))]
    assert report["read"] == source.read_bytes().count(b"\n")


def test_one_byte_order_mark_is_dropped_and_a_last_line_without_end_is_kept(tmp_path):
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes("\ufeff\ufeffone\ntwo".encode())
    target.write_bytes(b"eins\nzwei\n")
    pairs, _ = load_pairs(config(source, target), "train")
    assert pairs.source == ["\ufeffone", "two"]
    assert pairs.target == ["eins", "zwei"]


def test_gzip_plain_and_tab_separated_files_give_the_same_pairs(tmp_path):
    lines = [f"zeile {n}" for n in range(5)]
    plain = write(tmp_path / "plain.de", lines)
    packed = tmp_path / "packed.de"  # known by its content, not its name
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    table = write(tmp_path / "both.tsv", [f"{line}\t{line}" for line in lines])
    two_files, _ = load_pairs(config(plain, packed), "train")
    assert load_pairs(config(table), "train")[0] == two_files
    assert two_files.source == two_files.target == lines


def test_unequal_line_counts_name_both_files_and_both_counts(tmp_path):
    source = write(tmp_path / "a.en", ["x"] * 3)
    target = write(tmp_path / "a.de", ["x"] * 4)
    with pytest.raises(DataError, match=r"a\.en has 3 lines.*a\.de has 4"):
        load_pairs(config(source, target), "train")


def test_invalid_utf8_is_an_error_with_its_place_unless_replaced(tmp_path):
    source = tmp_path / "a.en"
    source.write_bytes(b"fine\nbad \xc3( here\nfine\n")
    target = write(tmp_path / "a.de", "123")
    with pytest.raises(DataError, match=r"a\.en: line 2, byte 5 \(0xc3\)"):
        load_pairs(config(source, target), "train")
    pairs, report = load_pairs(config(source, target, invalid_utf8="replace"), "train")
    assert pairs.source[1] == "bad \ufffd( here"
    counts = [file["invalid_utf8_lines"] for file in report["files"].values()]
    assert counts == [1, 0]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"\x1f\x8b\x08 not gzip", "cannot read"),
        (gzip.compress(b"x" * 1000, mtime=0)[:-20], "cannot read"),
        (b"a\tb\tc\n", "line 1 has 3 tab-separated columns"),
        (b"a\tb\na\n", "line 2 has 1 tab-separated columns"),
    ],
)
def test_damaged_files_are_data_errors(tmp_path, content, message):
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_pairs(config(tmp_path / "a.tsv"), "train")


def test_missing_files_are_named_with_their_knob(tmp_path):
    source = write(tmp_path / "a.en", ["x"])
    with pytest.raises(DataError, match=r"data\.train_files: there is no file .*a\.de"):
        load_pairs(config(source, tmp_path / "a.de"), "train")
    with pytest.raises(DataError, match=r"data\.train_files is empty"):
        load_pairs(config(), "train")
    with pytest.raises(DataError, match=r"data\.train_files names 3"):
        load_pairs(config(source, source, source), "train")
    assert load_pairs(config(source, source), "valid")[0].source == []
