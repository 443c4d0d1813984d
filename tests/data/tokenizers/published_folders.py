"""Texts and small trained tokenizers, and folders as models are published in."""

import functools
import json
from pydoc_data import topics

from tfm_jax.data.tokenizers.vocabularies import train_text_tokenizer

AWKWARD = [
    "", " ", "  two  spaces ", "\n\n\ttabs\r\n", "I'm we'LL they've O'Neil's 'tis",
    "naïve façade Ångström É e\u0301 ﬁ ß İstanbul", "数据 and 日本語。", "한국어 토큰",
    "a\u00a0b\u200bc\u2028d\u0085e\ufeff", "nul\0byte \x1b[0m", "👩\u200d👧 🇩🇪 𝔘𝔫",
    "x" * 250, "3.14159 1,000,000 v2.0-rc1", "\ufffd", "\u0300 alone", "…—“q”",
    "##ing ▁word Ġword </w>", "def f(x):\n    return x**2  # ok",
    "[CLS] not special [MASK] <|endoftext|> [UNK]",
]  # fmt: skip


@functools.cache
def corpus():
    """The first texts on Python's own language, shortened."""
    return [topics.topics[name][:3000] for name in sorted(topics.topics)[:40]]


@functools.cache
def tokenizer(kind, **settings):
    """A tokenizer trained on `corpus`."""
    return train_text_tokenizer(kind, corpus(), **{"vocab": 600, **settings})


def bpe_files(trained):
    """The vocabulary and merges of a trained byte-level BPE."""
    model = json.loads(trained.to_json())["model"]
    vocab = {**model["vocab"], "<|endoftext|>": trained.special["<|endoftext|>"]}
    return vocab, [tuple(merge) for merge in model["merges"]]


def write_gpt2(folder, trained, names=("vocab.json", "merges.txt")):
    """Lays ``trained`` out as GPT-2's files are."""
    vocab, merges = bpe_files(trained)
    (folder / names[0]).write_text(json.dumps(vocab), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / names[1]).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_bert(folder, trained, **settings):
    """Lays ``trained`` out as BERT's files are."""
    lines = trained.tokens(range(trained.vocab))
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
