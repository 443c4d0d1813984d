"""Vocabulary files with settings beside them tokenise as the published classes do."""

import json

import pytest

from tests.data.tokenizers.published_folders import (
    AWKWARD,
    corpus,
    tokenizer,
    write_bert,
    write_gpt2,
)
from tfm_jax.data.errors import DataError
from tfm_jax.data.tokenizers.subwords import TextTokenizer

PLAIN = {"add_special_tokens": False, "split_special_tokens": True}
TOKEN = dict(lstrip=False, normalized=False, rstrip=False, single_word=False)
CONFIG, MAP = "tokenizer_config.json", "special_tokens_map.json"
ADDED = "added_tokens.json"
BERT = {  # files beside vocab.txt
    "nothing": {},
    "accents stay": {CONFIG: {"strip_accents": False}},
    "case stays, accents go": {CONFIG: dict(do_lower_case=False, strip_accents=True)},
    "nothing said of accents": {CONFIG: dict(do_lower_case=False, strip_accents=None)},
    "Chinese is not split": {CONFIG: {"tokenize_chinese_chars": False}},
    "added": {ADDED: {"new": 600, "Wörd": 601}},
    "added out of order": {ADDED: {"Wörd": 601, "new": 600}},
    "added and special": {
        ADDED: {"[E1]": 600, "new": 601},
        MAP: {"additional_special_tokens": ["[E1]", "[E2]"]},
    },
    "named otherwise": {MAP: {"cls_token": "[E1]", "sep_token": "[E2]"}},
    "named by objects": {
        MAP: {
            "mask_token": dict(TOKEN, content="[MASK]", lstrip=True),
            "unk_token": dict(TOKEN, content="[UNK]"),
        }
    },
    "listed": {
        CONFIG: {
            "added_tokens_decoder": {
                "0": dict(TOKEN, content="[PAD]", special=True),
                "600": dict(TOKEN, content="new", special=False),
                "601": dict(TOKEN, content="[E1]", special=True),
            },
            "do_lower_case": True,
        },
        ADDED: {"unread": 600},
    },
}
GPT2 = {  # files beside vocab.json and merges.txt
    "nothing": {},
    "a space in front": {CONFIG: {"add_prefix_space": True}},
    "added": {ADDED: {"new": 600}, MAP: {"pad_token": "<|pad|>"}},
    "named": {MAP: {"bos_token": "<s>", "eos_token": dict(TOKEN, content="</s>")}},
}
TEXTS = ["a new Wörd, renewed [E1] ", "<|pad|>new<s>", *AWKWARD, *corpus()[:3]]


def compared(folder, files, name):
    transformers = pytest.importorskip("transformers")
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content))
    theirs = getattr(transformers, name).from_pretrained(folder)
    ours = TextTokenizer.load(folder)
    expected = [theirs(text, **PLAIN)["input_ids"] for text in TEXTS]
    assert [ids.tolist() for ids in ours.encode(TEXTS)] == expected
    assert ours.vocab == len(theirs)
    known = theirs.added_tokens_decoder.items()
    assert ours.special == {token.content: n for n, token in known if token.special}
    return expected


@pytest.mark.parametrize("variant", BERT)
def test_bert_vocabularies_are_read_as_transformers_reads_them(variant, tmp_path):
    folder = write_bert(tmp_path, tokenizer("wordpiece"))
    found = compared(folder, BERT[variant], "BertTokenizer")
    if variant in ("accents stay", "added"):  # so that the settings are seen
        assert found != [ids.tolist() for ids in tokenizer("wordpiece").encode(TEXTS)]


@pytest.mark.parametrize("variant", GPT2)
def test_gpt2_vocabularies_are_read_as_transformers_reads_them(variant, tmp_path):
    folder = write_gpt2(tmp_path, tokenizer("byte_bpe"))
    compared(folder, GPT2[variant], "GPT2Tokenizer")


@pytest.mark.parametrize(
    "file, content, message",
    [
        (CONFIG, {"strip_accents": "no"}, "strip_accents='no' must be true or false"),
        (CONFIG, [], "holds a list, not an object"),
        (CONFIG, {"added_tokens_decoder": []}, "added_tokens_decoder is no object"),
        (CONFIG, {"added_tokens_decoder": {"x": "y"}}, "has the id 'x'"),
        (CONFIG, {"added_tokens_decoder": {"1": 5}}, "'5' is no token"),
        (ADDED, {"new": 4_000_000_000}, "has the id '4000000000'"),
        (ADDED, {"new": -1}, "has the id '-1'"),
        (ADDED, {"": 600}, "'' is no token"),
        (MAP, {"cls_token": 3}, "'3' is no token"),
        (MAP, {"additional_special_tokens": "[E1]"}, "is no list of tokens"),
        (MAP, {"unk_token": "[NO]"}, r"needs \[NO\]"),
    ],
)
def test_settings_that_are_none_are_refused(file, content, message, tmp_path):
    write_bert(tmp_path, tokenizer("wordpiece"))
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        TextTokenizer.load(tmp_path)
