"""Which pairs are left out, and that they are counted."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tfm_jax.data.errors import DataError
from tfm_jax.data.prepared import prepare
from tfm_jax.data.rows.pairs import KIND, Config, encode_pairs
from tfm_jax.data.sources.bitext import Pairs
from tfm_jax.data.tokenizers.bilingual import EOS, Tokenizer, train_tokenizer
from tfm_jax.data.tokenizers.bilingual import Config as TokenizerConfig

CONFIG = Config()
BYTES = TokenizerConfig(kind="byte")
AWKWARD = Pairs(
    ["one", "", "three", " \t", "five " * 40, "six"],
    ["eins", "zwei", "", "vier", "fünf", "sechs " * 40],
)


def encode(**changes):
    cfg = dataclasses.replace(CONFIG, **changes)
    return encode_pairs(cfg, train_tokenizer(BYTES, [], []), AWKWARD)


def test_dropped_pairs_are_counted_and_never_shift_the_others():
    encoded = encode()
    assert encoded.kept.tolist() == [0]
    assert encoded.report["empty"] == {"policy": "drop", "pairs": 3}
    assert encoded.report["overlong"] == {"policy": "drop", "pairs": 2}
    assert encoded.report["kept"] == 1


def test_kept_overlong_pairs_are_cut_to_the_row_and_end_in_eos():
    encoded = encode(overlong="keep", empty="keep")
    assert encoded.kept.tolist() == list(range(6))
    assert encoded.source.lengths.max() == CONFIG.source_length
    assert encoded.target.lengths.max() == CONFIG.target_length
    for side in (encoded.source, encoded.target):
        assert (side.ids[side.offsets[1:] - 1] == EOS).all()
    assert encoded.report["overlong"] == {"policy": "keep", "pairs": 2}


@pytest.mark.parametrize(
    "policy, message",
    [("empty", r"pair 2 is empty, 3 in all; .*data\.empty=drop"),
     ("overlong", r"pair 5 is overlong, 2 in all; .*data\.overlong=drop")],
)  # fmt: skip
def test_the_error_policy_says_which_pair(policy, message):
    with pytest.raises(DataError, match=message):
        encode(**{policy: "error"})


def test_nothing_left_is_an_error_with_the_reasons():
    with pytest.raises(
        DataError, match=r"none of 6 .* 3 empty, 3 overlong; .* data\.source_l"
    ):
        encode(source_length=2)


def test_a_line_of_a_million_characters_is_dropped_or_cut():
    pairs = Pairs(["a" * 1_000_000, "b"], ["c", "d"])
    tokenizer = train_tokenizer(BYTES, [], [])
    assert encode_pairs(CONFIG, tokenizer, pairs).kept.tolist() == [1]
    cut = encode_pairs(dataclasses.replace(CONFIG, overlong="keep"), tokenizer, pairs)
    assert cut.source.lengths.tolist() == [CONFIG.source_length, 2]


@pytest.mark.parametrize("bad", [-1, 260])
def test_token_ids_outside_the_vocabulary_are_refused(bad):
    class Broken(Tokenizer):
        def encode(self, lines, side):
            return [np.array([bad, EOS], np.int32) for _ in lines]

    good = train_tokenizer(BYTES, [], [])
    with pytest.raises(DataError, match=rf"{bad}.*outside the vocabulary 0\.\.259"):
        encode_pairs(CONFIG, Broken(json.loads(good.to_json())), Pairs(["x"], ["y"]))


def test_an_empty_training_split_is_an_error(tmp_path):
    files = (str(tmp_path / "a"), str(tmp_path / "b"))
    for file in files:
        Path(file).write_bytes(b"")
    with pytest.raises(DataError, match="training split is empty"):
        prepare(KIND, Config(source="parallel", train_files=files), BYTES)
