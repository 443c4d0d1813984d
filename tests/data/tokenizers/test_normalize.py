import gzip

import pytest

from tests.reliability.tiny import get_config
from tfm_jax.config import ConfigError
from tfm_jax.data.errors import DataError
from tfm_jax.data.tokenizers.normalize import (
    MOSES_LANGUAGES,
    NORMALIZERS,
    Normalizer,
    decode,
)
from tfm_jax.settings.experiment import resolve
from tfm_jax.settings.new_runs import check_settings


def test_multi30k_test_2016_german_has_12103_moses_tokens(data_dir):
    """The reference length that fairseq prints for test_2016_flickr.lc.norm.tok.de."""
    path = data_dir / "multi30k" / "test_2016_flickr.de.gz"
    normalizer = Normalizer("moses_lowercase", "de")
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    assert sum(len(normalizer.apply(line).split()) for line in lines) == 12_103


def test_moses_separates_punctuation_and_undo_joins_it_again():
    normalizer = Normalizer("moses", "en")
    tokens = normalizer.apply("Don't stop, Mr. Smith (please)!")
    assert tokens == "Don &apos;t stop , Mr. Smith ( please ) !"
    assert normalizer.undo(tokens) == "Don't stop, Mr. Smith (please)!"


def test_moses_rules_are_those_of_the_language_however_it_is_written():
    line = "Don't stop, Mr. Smith!"
    plain = Normalizer("moses", "en").apply(line)
    for written in ("EN", "en-GB", "en_US"):
        assert Normalizer("moses", written).apply(line) == plain
    theirs = pytest.importorskip("sacremoses").MosesTokenizer("xx")
    assert Normalizer("moses", "xx").apply(line) == theirs.tokenize(
        line, return_str=True
    ), "runs of before are read as they were trained"


def test_a_new_run_has_rules_for_its_languages():
    for knob in ("source_language", "target_language"):
        changes = {"data__normalize": "moses_lowercase", f"data__{knob}": "xx"}
        run_of_before = resolve(get_config(**changes))
        wanted = rf"data.{knob}='xx' has no rules with data.normalize=moses_l.*\(as, bn"
        with pytest.raises(ConfigError, match=wanted):
            check_settings(run_of_before)
    check_settings(
        resolve(get_config(data__normalize="lowercase", data__source_language="xx"))
    )


def test_every_language_with_rules_in_sacremoses_is_listed():
    corpus = pytest.importorskip("sacremoses.corpus")
    known = {*corpus.NonbreakingPrefixes().available_langs.values()}
    assert {*MOSES_LANGUAGES} == known | {"ja", "ko"}  # whose characters are words


@pytest.mark.parametrize("name", NORMALIZERS)
def test_lowercase_is_part_of_exactly_the_names_that_say_so(name):
    lowered = Normalizer(name, "de").apply("Zwei Hunde") == "zwei hunde"
    assert lowered == ("lowercase" in name)


def test_decode_says_where_the_first_wrong_byte_is():
    with pytest.raises(DataError, match=r"a\.txt: line 3, byte 4 \(0xff\).*replace"):
        decode(b"abc\xffd", "error", "a.txt: line 3")
    assert decode(b"abc\xffd", "replace", "") == ("abc\ufffdd", True)
    assert decode("ä".encode(), "replace", "") == ("ä", False)
