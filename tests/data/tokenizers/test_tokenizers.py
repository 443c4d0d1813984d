import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfm_jax.data.errors import DataError
from tfm_jax.data.tokenizers import vocabularies
from tfm_jax.data.tokenizers.bilingual import (
    BOS,
    BYTE_LABELS,
    EOS,
    KINDS,
    PAD,
    SPECIAL_LABELS,
    UNK,
    Config,
    Tokenizer,
    train_tokenizer,
)

SOURCE = ["a man in a blue shirt .", "two dogs run , jump and play !", "a dog"] * 3
TARGET = ["ein Mann im blauen Hemd .", "zwei Hunde laufen über Gras !", "ein Hund"] * 3
TEXT = st.text(st.characters(exclude_categories=["Cs"]))  # all but lone surrogates


def trained(kind, **changes):
    vocab = 300 if kind in ("bpe", "unigram") else 1000
    cfg = Config(kind=kind, **{"vocab": vocab, **changes})
    return train_tokenizer(cfg, SOURCE, TARGET)


ALL = {kind: trained(kind) for kind in KINDS}


@pytest.mark.parametrize("kind", ["byte", "bpe", "unigram"])
@given(line=TEXT)
@settings(max_examples=100, deadline=None)
def test_byte_based_kinds_give_any_text_back_exactly(kind, line):
    tokenizer = ALL[kind]
    (ids,) = tokenizer.encode([line], "source")
    assert tokenizer.decode([ids], "source") == [line]
    assert UNK not in ids


@given(line=st.text(sorted(set("".join(SOURCE + TARGET)))))
@settings(max_examples=100, deadline=None)
def test_character_gives_any_text_of_known_characters_back_exactly(line):
    (ids,) = ALL["character"].encode([line], "target")
    assert ALL["character"].decode([ids], "target") == [line]
    assert len(ids) == len(line) + 1


@given(words=st.lists(st.sampled_from(" ".join(SOURCE + TARGET).split())))
@settings(max_examples=50, deadline=None)
def test_word_gives_known_words_back_with_single_spaces(words):
    (ids,) = ALL["word"].encode(["  ".join(words)], "source")
    assert ALL["word"].decode([ids], "source") == [" ".join(words)]
    assert len(ids) == len(words) + 1


@pytest.mark.parametrize("kind", KINDS)
@given(line=TEXT | st.sampled_from(SPECIAL_LABELS + ("<pad> <eos> a",)))
@settings(max_examples=50, deadline=None)
def test_no_text_can_produce_a_special_token(kind, line):
    (ids,) = ALL[kind].encode([line], "source")
    assert ids.dtype == np.int32
    assert ids[-1] == EOS
    assert not np.isin(ids[:-1], [PAD, BOS, EOS]).any()
    assert ids.max() < ALL[kind].source_vocab


def test_a_byte_is_its_value_after_the_special_tokens():
    (ids,) = ALL["byte"].encode(["\0Aÿ"], "source")
    assert ids.tolist() == [4 + 0, 4 + 65, 4 + 0xC3, 4 + 0xBF, EOS]
    assert ALL["byte"].source_vocab == 260


def test_unknown_characters_and_words_are_unk_and_read_so():
    (ids,) = ALL["word"].encode(["a cat runs ."], "source")
    assert np.flatnonzero(ids == UNK).tolist() == [1, 2]
    assert ALL["word"].decode([ids], "source") == ["a <unk> <unk> ."]
    (ids,) = ALL["character"].encode(["a京"], "source")
    assert ids[1] == UNK


def test_frequency_orders_words_and_min_frequency_and_vocab_cut_them():
    counts = Counter(" ".join(SOURCE + TARGET).split())
    tokenizer = trained("word", min_frequency=6)
    frequent = [w for w, n in counts.items() if n >= 6]
    assert tokenizer.source_vocab == 4 + len(frequent)
    labels = tokenizer.tokens(range(4, tokenizer.source_vocab), "source")
    assert labels == sorted(frequent, key=lambda word: (-counts[word], word))
    assert trained("word", vocab=6).tokens([4, 5], "source") == labels[:2]


def test_bpe_merges_the_most_frequent_pair_first():
    lines = ["ab ab ab xy"]
    tokenizer = train_tokenizer(Config(vocab=262), lines, lines)
    labels = tokenizer.tokens(range(260, 262), "source")
    assert labels == ["ab", "▁ab"]  # three pairs against one "xy"


def test_decode_stops_at_the_first_eos_and_drops_padding():
    tokenizer = ALL["bpe"]
    ids = tokenizer.encode(["two dogs", "play"], "source")
    rows = np.full((3, 40), PAD)
    rows[0, : len(ids[0])] = ids[0]
    rows[1, : len(ids[1]) + len(ids[0])] = [*ids[1], *ids[0]]
    assert tokenizer.decode(rows, "source") == ["two dogs", "play", ""]


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_printable_and_one_per_token(kind):
    (ids,) = ALL[kind].encode(["two \n\0dogs"], "source")
    labels = ALL[kind].tokens(ids, "source")
    assert len(labels) == len(ids)
    assert labels[-1] == "<eos>"
    assert all(label.isprintable() for label in labels)


def test_byte_labels_are_those_of_gpt2():
    assert len(set(BYTE_LABELS)) == 256
    assert BYTE_LABELS[ord(" ")] == "Ġ" and BYTE_LABELS[ord("\n")] == "Ċ"
    assert "".join(BYTE_LABELS[b] for b in "ä".encode()) == "Ã¤"


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tokenizer_is_one_json_that_encodes_the_same(tmp_path, kind, shared):
    tokenizer = trained(kind, shared=shared)
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.shared == shared
    assert loaded.target_vocab == tokenizer.target_vocab
    for side, lines in (("source", SOURCE), ("target", TARGET)):
        before, after = tokenizer.encode(lines, side), loaded.encode(lines, side)
        assert all(map(np.array_equal, before, after))
    json.loads((tmp_path / "tokenizer.json").read_text())


def test_separate_vocabularies_hold_only_their_own_side():
    tokenizer = trained("word", shared=False)
    (ids,) = tokenizer.encode(["a Hund"], "source")
    assert ids[1] == UNK
    (ids,) = tokenizer.encode(["a Hund"], "target")
    assert ids[0] == UNK != ids[1]


def fingerprints():
    return [ALL[kind].fingerprint for kind in KINDS if kind != "unigram"]


def test_training_is_the_same_in_every_process():
    here = "tests.data.tokenizers.test_tokenizers"
    program = f"from {here} import fingerprints\nprint(fingerprints())"
    root = Path(__file__).parents[3]
    printed = [
        subprocess.run(
            [sys.executable, "-c", program], cwd=root, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]  # fmt: skip
    assert printed == [str(fingerprints())] * 2


def test_unigram_training_is_the_same_on_every_run_on_a_corpus(data_dir):
    packed = (data_dir / "multi30k" / "train.de.gz").read_bytes()
    lines = gzip.decompress(packed).decode().split("\n")[:5000]
    cfg = Config(kind="unigram", vocab=2000)
    once, again = (train_tokenizer(cfg, lines, []) for _ in range(2))
    assert once.to_json() == again.to_json()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other"}', "null"])
def test_other_files_are_no_tokenizers(tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(DataError, match="no tokenizer file"):
        Tokenizer.load(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("kind, least", [("bpe", 260), ("character", 5)])
def test_a_vocabulary_too_small_for_its_kind_names_the_knob(kind, least):
    Config(kind=kind, vocab=least)
    with pytest.raises(ValueError, match=rf"tokenizer\.vocab={least - 1} .*{least}"):
        Config(kind=kind, vocab=least - 1)


def test_a_million_characters_are_one_line():
    line = "ab " * 333_333
    (ids,) = ALL["bpe"].encode([line], "source")
    assert ALL["bpe"].decode([ids], "source") == [line]


def test_a_published_tokenizer_and_its_file_belong_together():
    with pytest.raises(ValueError, match="'published' needs tokenizer.file=PATH"):
        vocabularies.Config(kind="published")
    with pytest.raises(ValueError, match="'published', not 'byte'"):
        vocabularies.Config(kind="byte", file="tokenizer.json")
