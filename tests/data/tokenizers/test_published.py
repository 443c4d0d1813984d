"""Folders that transformers writes, of the tokenizers of this project's families."""

import json

import numpy as np
import pytest
import tokenizers
import transformers
from tokenizers import models, pre_tokenizers, trainers

from tests.data.tokenizers.published_folders import (
    AWKWARD,
    bpe_files,
    corpus,
    tokenizer,
)
from tfm_jax.data.tokenizers.subwords import TextTokenizer

PLAIN = {"add_special_tokens": False, "split_special_tokens": True}
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def bert(kind):
    ours = tokenizer("wordpiece")
    labels = ours.tokens(range(ours.vocab))
    return kind(vocab={label: number for number, label in enumerate(labels)})


def gpt2(kind):
    vocab, merges = bpe_files(tokenizer("byte_bpe"))
    return kind(vocab=vocab, merges=merges)


def albert(kind):
    rules = tokenizers.Tokenizer(models.Unigram())
    rules.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<pad>", "<unk>", *BERT[2:]], unk_token="<unk>",
        show_progress=False,
    )  # fmt: skip
    rules.train_from_iterator([text.lower() for text in corpus()], trainer)
    pieces = json.loads(rules.to_str())["model"]["vocab"]
    # scores that JSON keeps exactly and that leave no ties, which chance would decide
    scores = np.round(-np.sqrt(np.arange(len(pieces)) + 2.0) * 1024) / 1024
    named = zip(pieces, scores.tolist(), strict=True)
    return kind(vocab=[(piece, score) for (piece, _), score in named])


def gpt1(kind):
    rules = tokenizers.Tokenizer(
        models.BPE(unk_token="<unk>", end_of_word_suffix="</w>")
    )
    rules.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>"], end_of_word_suffix="</w>",
        show_progress=False,
    )  # fmt: skip
    rules.train_from_iterator([text.lower() for text in corpus()], trainer)
    model = json.loads(rules.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return kind(vocab=model["vocab"], merges=merges)


MAKERS = {
    "BertTokenizer": bert,
    "ElectraTokenizer": bert,
    "AlbertTokenizer": albert,
    "OpenAIGPTTokenizer": gpt1,
    "GPT2Tokenizer": gpt2,
    "RobertaTokenizer": gpt2,
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_saved_tokenizer_of_transformers_encodes_the_same_here(tmp_path, name):
    theirs = MAKERS[name](getattr(transformers, name))
    theirs.save_pretrained(tmp_path)
    ours = TextTokenizer.load(tmp_path)
    texts = [*AWKWARD, *corpus()[:10]]
    expected = [theirs(text, **PLAIN)["input_ids"] for text in texts]
    assert [ids.tolist() for ids in ours.encode(texts)] == expected
    special = dict(zip(theirs.all_special_tokens, theirs.all_special_ids, strict=True))
    assert ours.special == special
    assert ours.vocab == len(theirs)
    with_places = ours.encode_with_offsets(texts)
    assert [ids.tolist() for ids, _ in with_places] == expected


@pytest.mark.parametrize("name", ["AlbertTokenizer", "OpenAIGPTTokenizer"])
def test_words_start_where_their_marks_say(tmp_path, name):
    theirs = MAKERS[name](getattr(transformers, name))
    theirs.save_pretrained(tmp_path)
    ours = TextTokenizer.load(tmp_path)
    text = "the expressions are evaluated"
    (ids,) = ours.encode([text])
    assert ours.word_starts(ids).sum() == 4
    assert len(ids) > 4
