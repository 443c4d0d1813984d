"""Byte-level BPE and WordPiece against transformers and against the definitions."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from tests.data.tokenizers.published_folders import (
    AWKWARD,
    bpe_files,
    corpus,
    tokenizer,
    write_bert,
    write_gpt2,
)
from tfm_jax.data.errors import DataError
from tfm_jax.data.tokenizers.bilingual import BYTE_LABELS
from tfm_jax.data.tokenizers.subwords import TextTokenizer
from tfm_jax.data.tokenizers.vocabularies import TRAINERS, train_text_tokenizer

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = {"add_special_tokens": False, "split_special_tokens": True}
# Radford et al. 2019, encoder.py
GPT2_WORDS = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)


def reference_bpe(text, vocab, merges):
    """GPT-2's encoding from its definition: the best-ranked pair first, everywhere."""
    regex = pytest.importorskip("regex")
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    ids = []
    for word in regex.findall(GPT2_WORDS, text):
        pieces = [BYTE_LABELS[byte] for byte in word.encode()]
        while True:
            pairs = [p for p in itertools.pairwise(pieces) if p in ranks]
            if not pairs:
                break
            left, right = min(pairs, key=ranks.get)
            joined, index = [], 0
            while index < len(pieces):
                if pieces[index : index + 2] == [left, right]:
                    joined.append(left + right)
                    index += 2
                else:
                    joined.append(pieces[index])
                    index += 1
            pieces = joined
        ids += [vocab[piece] for piece in pieces]
    return ids


@given(text=TEXT | st.sampled_from(AWKWARD))
@settings(max_examples=200)
def test_byte_bpe_is_gpt2s_definition(text):
    vocab, merges = bpe_files(tokenizer("byte_bpe"))
    (ids,) = tokenizer("byte_bpe").encode([text])
    assert ids.tolist() == reference_bpe(text, vocab, merges)
    assert tokenizer("byte_bpe").decode([ids]) == [text]


def test_byte_bpe_is_transformers_gpt2():
    ours = tokenizer("byte_bpe")
    vocab, merges = bpe_files(ours)
    theirs = transformers.GPT2Tokenizer(vocab=vocab, merges=merges)
    texts = [*AWKWARD, *corpus()]
    expected = [theirs(text, **PLAIN)["input_ids"] for text in texts]
    assert [ids.tolist() for ids in ours.encode(texts)] == expected
    assert theirs.eos_token_id == ours.special["<|endoftext|>"] == ours.vocab - 1


@pytest.mark.parametrize("lowercase", [True, False])
def test_wordpiece_is_transformers_bert_in_both_of_its_forms(tmp_path, lowercase):
    ours = tokenizer("wordpiece", lowercase=lowercase)
    folder = write_bert(tmp_path, ours)
    vocab = {token: n for n, token in enumerate(ours.tokens(range(ours.vocab)))}
    fast = transformers.BertTokenizer(vocab=vocab, do_lower_case=lowercase)
    slow = BertTokenizerLegacy(folder / "vocab.txt", do_lower_case=lowercase)
    texts = [*AWKWARD, *corpus()]
    found = [ids.tolist() for ids in ours.encode(texts)]
    assert found == [fast(text, **PLAIN)["input_ids"] for text in texts]
    for text, ids in zip(texts, found, strict=True):
        if "[CLS]" in text:
            continue  # the old code never splits the spelling of a special token
        assert ids == slow.convert_tokens_to_ids(
            slow.tokenize(text, split_special_tokens=True)
        ), text


@pytest.mark.parametrize("lowercase", [True, False])
def test_unigram_is_transformers_albert(lowercase):
    ours = tokenizer("unigram", lowercase=lowercase)
    pieces = json.loads(ours.to_json())["model"]["vocab"]
    theirs = transformers.AlbertTokenizer(
        vocab=[tuple(piece) for piece in pieces], do_lower_case=lowercase
    )
    texts = [*AWKWARD, *corpus()]
    expected = [theirs(text, **PLAIN)["input_ids"] for text in texts]
    assert [ids.tolist() for ids in ours.encode(texts)] == expected
    assert [*ours.special.values()] == [0, 1, 2, 3, 4]
    text = "the same words again"
    assert ours.decode(ours.encode([text])) == [text]


@given(text=TEXT)
@example(text="[CLS] [MASK]<|endoftext|> [UNK]")
@settings(max_examples=100)
@pytest.mark.parametrize("kind", [k for k in TRAINERS if k != "character"])
def test_no_text_can_produce_a_special_token(kind, text):
    ours = tokenizer(kind)
    (ids,) = ours.encode([text])
    assert ids.dtype == np.int32
    unknown = {ours.special.get(name) for name in ("[UNK]", "<unk>")}
    special = set(ours.special.values()) - unknown
    assert not special & set(ids.tolist())
    assert (ids < ours.vocab).all()


@pytest.mark.parametrize("kind", TRAINERS)
def test_the_vocabulary_is_as_large_as_asked_and_saves_as_tokenizer_json(
    tmp_path, kind
):
    ours = tokenizer(kind)
    if kind in ("byte_bpe", "wordpiece", "unigram"):
        assert ours.vocab == 600
    ours.save(tmp_path / "tokenizer.json")
    loaded = TextTokenizer.load(tmp_path)
    assert loaded.fingerprint == ours.fingerprint
    assert loaded.special == ours.special
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json")
    )
    for text in corpus()[:5]:
        (ids,) = loaded.encode([text])
        assert ids.tolist() == theirs(text, **PLAIN)["input_ids"]


def test_special_tokens_have_the_ids_of_the_published_models():
    bert = tokenizer("wordpiece").special
    assert list(bert) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert list(bert.values()) == [0, 1, 2, 3, 4]
    assert tokenizer("wordpiece").ids_of("[SEP]", "[CLS]") == [3, 2]
    with pytest.raises(DataError, match=r"no special token '\[MASK\]'; it has <\|endo"):
        tokenizer("byte_bpe").ids_of("[MASK]")


def test_characters_are_those_of_nanogpts_shakespeare(data_dir):
    import gzip

    packed = (data_dir / "tinyshakespeare" / "input.txt.gz").read_bytes()
    text = gzip.decompress(packed).decode()
    ours = train_text_tokenizer("character", [text])
    assert ours.vocab == 65
    (ids,) = ours.encode([text])
    assert len(ids) == 1_115_394
    assert ours.tokens(range(65)) == sorted(set(text))
    assert ours.decode([ids]) == [text]


def test_an_unknown_character_is_an_error_and_not_dropped():
    ours = train_text_tokenizer("character", ["abc"])
    assert [row.tolist() for row in ours.encode(["cab", ""])] == [[2, 0, 1], []]
    with pytest.raises(DataError, match=r"does not know \['京'\]"):
        ours.encode(["ab京"])


@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe"])
def test_places_point_at_the_text_of_each_token(kind):
    ours = tokenizer(kind)
    text = "  Naïve   dogs don't\n bark "
    ((ids, places),) = ours.encode_with_offsets([text])
    assert ids.tolist() == ours.encode([text])[0].tolist()
    words = {text[start:end] for start, end in places}
    assert not any(word[:1].isspace() for word in words)
    covered = {index for start, end in places for index in range(start, end)}
    assert {text[index] for index in set(range(len(text))) - covered} <= {" ", "\n"}


@pytest.mark.parametrize(
    "kind, text, words",
    [
        ("wordpiece", "unbelievable dogs!", ["unbelievable", "dogs", "!"]),
        ("byte_bpe", "unlike dogs(x)!", ["unlike", " dogs", "(", "x", ")", "!"]),
        ("byte", "ab cdé", ["ab", " ", "cdé"]),
        ("character", "ab cd", ["ab", " ", "cd"]),
    ],
)
def test_words_start_where_the_vocabulary_marks_them(kind, text, words):
    ours = tokenizer(kind)
    (ids,) = ours.encode([text])
    starts = ours.word_starts(ids)
    assert starts.dtype == bool
    found = [ours.decode([part])[0] for part in np.split(ids, np.flatnonzero(starts))]
    assert found[1:] == words


def test_word_starts_follow_gpt1s_and_sentencepieces_marks():
    vocab = {"<unk>": 0, "lo": 1, "w</w>": 2, "er</w>": 3}
    gpt1 = TextTokenizer(
        {
            "version": "1.0", "added_tokens": [], "normalizer": None,
            "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": None,
            "decoder": None,
            "model": {
                "type": "BPE", "vocab": vocab, "merges": [], "unk_token": "<unk>",
                "end_of_word_suffix": "</w>",
            },
        }
    )  # fmt: skip
    assert gpt1.word_starts([1, 2, 1, 1, 3]).tolist() == [1, 0, 1, 0, 0]
    pieces = [["<unk>", 0.0], ["▁lo", -1.0], ["w", -1.0], ["▁", -1.0], [",", -1.0]]
    albert = TextTokenizer(
        {
            "version": "1.0", "added_tokens": [], "normalizer": None,
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁"},
            "post_processor": None, "decoder": None,
            "model": {"type": "Unigram", "unk_id": 0, "vocab": pieces},
        }
    )  # fmt: skip
    assert albert.word_starts([1, 2, 4, 3, 2]).tolist() == [1, 0, 1, 1, 0]


@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe", "unigram"])
def test_training_is_the_same_in_every_process(kind):
    program = (
        "from tests.data.tokenizers.published_folders import tokenizer\n"
        f"print(tokenizer({kind!r}).fingerprint)"
    )
    root = Path(__file__).parents[3]
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=root, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "3"}, capture_output=True,
    ).stdout.strip()  # fmt: skip
    assert printed == tokenizer(kind).fingerprint


@pytest.mark.parametrize("kind, least", [("byte_bpe", 257), ("character", 3)])
def test_a_vocabulary_too_small_names_the_knob(kind, least):
    train_text_tokenizer(kind, ["abc"], vocab=least)
    with pytest.raises(DataError, match=rf"tokenizer\.vocab={least - 1} .* {least} "):
        train_text_tokenizer(kind, ["abc"], vocab=least - 1)


def test_gpt2s_files_in_both_namings_are_the_same_tokenizer(tmp_path):
    ours = tokenizer("byte_bpe")
    for names in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
        folder = tmp_path / names[0]
        folder.mkdir()
        loaded = TextTokenizer.load(write_gpt2(folder, ours, names))
        assert loaded.special == ours.special and loaded.vocab == ours.vocab
        for one, two in zip(ours.encode(AWKWARD), loaded.encode(AWKWARD), strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("lowercase", [True, False])
def test_berts_vocabulary_file_and_its_setting_are_read(tmp_path, lowercase):
    ours = tokenizer("wordpiece", lowercase=lowercase)
    settings = {} if lowercase else {"do_lower_case": False}
    loaded = TextTokenizer.load(write_bert(tmp_path, ours, **settings))
    assert loaded.special == ours.special
    for one, two in zip(ours.encode(corpus()), loaded.encode(corpus()), strict=True):
        np.testing.assert_array_equal(one, two)


def test_gpt1s_files_are_read_as_transformers_reads_them(tmp_path):
    vocab = {"<unk>": 0}
    for token in [*"abdgosw", *(f"{c}</w>" for c in "abdgosw"), "do", "dog</w>"]:
        vocab[token] = len(vocab)
    merges = [("d", "o"), ("do", "g</w>")]
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nd o\ndo g</w>\n")
    loaded = TextTokenizer.load(tmp_path)
    theirs = transformers.OpenAIGPTTokenizer(vocab=vocab, merges=merges)
    for text in ("Dogs do a dog", "wag, bad"):
        assert loaded.encode([text])[0].tolist() == theirs(text, **PLAIN)["input_ids"]


def test_padding_truncation_and_bpe_dropout_of_a_file_do_not_act(tmp_path):
    document = json.loads(tokenizer("byte_bpe").to_json())
    document["truncation"] = {
        "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0
    }  # fmt: skip
    document["model"]["dropout"] = 0.5
    loaded = TextTokenizer(document)
    text = corpus()[0]
    assert loaded.encode([text])[0].tolist() == (
        tokenizer("byte_bpe").encode([text])[0].tolist()
    )
    assert loaded.fingerprint == tokenizer("byte_bpe").fingerprint


@pytest.mark.parametrize(
    "files, message",
    [
        ({}, "no tokenizer in .*looked for tokenizer.json; vocab.txt"),
        ({"tokenizer.json": "{"}, "tokenizer.json is not JSON"),
        ({"tokenizer.json": "[]"}, "it has no model"),
        ({"tokenizer.json": '{"model": {"type": "Nope"}}'}, "no tokenizer.json"),
        ({"vocab.txt": "a\nb\n"}, r"needs \[UNK\]"),
        ({"vocab.json": "{}", "merges.txt": "a b\n"}, "no vocabulary"),
    ],
)
def test_what_is_no_tokenizer_is_said_so(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        TextTokenizer.load(tmp_path)
