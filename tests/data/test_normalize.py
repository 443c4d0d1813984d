import gzip

import pytest

from tfm_jax.data.errors import DataError
from tfm_jax.data.normalize import NORMALIZERS, Normalizer, decode


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


@pytest.mark.parametrize("name", NORMALIZERS)
def test_lowercase_is_part_of_exactly_the_names_that_say_so(name):
    lowered = Normalizer(name, "de").apply("Zwei Hunde") == "zwei hunde"
    assert lowered == ("lowercase" in name)


def test_decode_says_where_the_first_wrong_byte_is():
    with pytest.raises(DataError, match=r"a\.txt: line 3, byte 4 \(0xff\).*replace"):
        decode(b"abc\xffd", "error", "a.txt: line 3")
    assert decode(b"abc\xffd", "replace", "") == ("abc\ufffdd", True)
    assert decode("ä".encode(), "replace", "") == ("ä", False)
