"""Tokenizers that models were published with, as one document each."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from tfm_jax import bounded_json
from tfm_jax.data.errors import DataError
from tfm_jax.data.tokenizers import vocabulary_settings
from tfm_jax.data.tokenizers.foreign import called, is_id

BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ALBERT_SPECIAL = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
END_OF_TEXT = "<|endoftext|>"
# special tokens of the published classes by transformers' names, in their order
BERT_NAMES = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
GPT2_NAMES = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
END_OF_WORD = "</w>"  # GPT-1


def wordpiece(
    vocab: Mapping[str, int],
    *,
    lowercase: bool = True,
    special: Sequence[str] = BERT_SPECIAL,
    unknown: str = "[UNK]",
    **normalizer: Any,
) -> tokenizers.Tokenizer:
    """BERT's tokenizer of a vocabulary: a `tokenizers.Tokenizer`.

    Source: Devlin et al. 2019, arXiv:1810.04805, section 3.1, and the released
    tokenization.py: control characters go, Chinese characters and punctuation are
    words, lower-casing takes the accents too; then the longest piece first.
    Deviates: a word of more than 100 characters is unknown, 200 in the release.
    """
    if unknown not in vocab:
        raise DataError(f"a WordPiece vocabulary needs {unknown}")
    rules = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token=unknown))
    rules.normalizer = bert_normalizer(lowercase, **normalizer)
    rules.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rules.decoder = decoders.WordPiece(prefix="##")
    return _with_special(rules, special)


def bert_normalizer(lowercase: bool, **others: Any) -> Any:
    """The normalisation that `wordpiece` does; others: of the library's class."""
    return normalizers.BertNormalizer(lowercase=lowercase, **others)


def unigram(
    pieces: Sequence[tuple[str, float]],
    *,
    lowercase: bool = True,
    special: Any = ALBERT_SPECIAL,
) -> tokenizers.Tokenizer:
    """ALBERT's tokenizer of (piece, log probability) pairs: a `tokenizers.Tokenizer`.

    Source: Kudo 2018, arXiv:1804.10959; Lan et al. 2020, arXiv:1909.11942, section 4.1,
    and the released tokenization.py: accents go, white space is one mark in front of a
    word, then the likeliest split. Deviates: the normalisation table that
    SentencePiece's files also hold is left out.
    """
    rules = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=1))
    steps = [normalizers.Replace(quotes, '"') for quotes in ("``", "''")]
    steps += [normalizers.NFKD(), normalizers.StripAccents()]
    steps += [normalizers.Lowercase()] if lowercase else []
    rules.normalizer = normalizers.Sequence(steps)
    mark = dict(replacement="▁", prepend_scheme="always")
    rules.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**mark)]
    )
    rules.decoder = decoders.Metaspace(**mark)
    return _with_special(rules, special)


def byte_bpe(
    vocab: Mapping[str, int],
    merges: Any,
    *,
    special: Any = (END_OF_TEXT,),
    prefix_space: bool = False,
) -> tokenizers.Tokenizer:
    """GPT-2's byte-level BPE: a `tokenizers.Tokenizer`.

    Source: Radford et al. 2019, section 2.2, and the released encoder.py.
    Deviates: no.
    """
    rules = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    rules.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    rules.decoder = decoders.ByteLevel()
    return _with_special(rules, special)


def character_bpe(
    vocab: Mapping[str, int], merges: Any, *, special: Any = ("<unk>",)
) -> tokenizers.Tokenizer:
    """GPT-1's BPE of lower-cased words: a `tokenizers.Tokenizer`.

    Source: Radford et al. 2018, section 4.1.  Deviates: BERT's rules split words,
    where the release used spaCy's, as transformers does without that library.
    """
    model = models.BPE(
        vocab=vocab, merges=merges, unk_token="<unk>", end_of_word_suffix=END_OF_WORD
    )
    rules = tokenizers.Tokenizer(model)
    rules.normalizer = bert_normalizer(True)
    rules.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rules.decoder = decoders.BPEDecoder(suffix=END_OF_WORD)
    return _with_special(rules, special)


def _with_special(rules, special):
    known = rules.get_vocab()
    tokens = [
        tokenizers.AddedToken(token, special=True, normalized=False)
        for token in special
        if token in known or token == END_OF_TEXT
    ]
    rules.add_special_tokens(tokens)
    return rules


class Layout(NamedTuple):
    """Files that together are a tokenizer, and how they are read."""

    names: tuple[str, ...]
    read: object  # paths -> document


def read(path: str | Path) -> dict[str, Any]:
    """The tokenizer of a file or a folder, as plain data.

    Raises: DataError if nothing is found there, or it is damaged.
    """
    if path.is_file():
        return _read_json(path)
    for layout in LAYOUTS:
        paths = [path / name for name in layout.names]
        if all(one.is_file() for one in paths):
            return layout.read(*paths)
    known = "; ".join(" and ".join(layout.names) for layout in LAYOUTS)
    raise DataError(f"there is no tokenizer in {path}; looked for {known}")


def _read_json(path):
    try:
        return bounded_json.read(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not JSON that is read here: {error}") from error


def _read_text(path):
    try:
        return bounded_json.read_bytes(path).decode("utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _read_wordpiece(path):
    lines = _read_text(path).split("\n")
    if not lines[-1]:
        lines.pop()
    vocab = {line.removesuffix("\r"): index for index, line in enumerate(lines)}
    beside = vocabulary_settings.read(path.parent)
    how = {
        "lowercase": beside.choice("do_lower_case", True),
        "strip_accents": beside.choice("strip_accents", None),
        "handle_chinese_chars": beside.choice("tokenize_chinese_chars", True),
        "unknown": beside.token("unk_token", "[UNK]"),
    }
    return _document(path, wordpiece, beside, BERT_NAMES, vocab, **how)


def _read_bpe(vocab_path, merges_path):
    vocab = _read_json(vocab_path)
    if not isinstance(vocab, dict) or not all(map(is_id, vocab.values())):
        raise DataError(f"{vocab_path}: this is no vocabulary of words and ids")
    lines = _read_text(merges_path).split("\n")
    merges = [tuple(line.split()) for line in lines if not line.startswith("#version")]
    merges = [merge for merge in merges if merge]
    beside = vocabulary_settings.read(vocab_path.parent)
    if any(token.endswith(END_OF_WORD) for token in vocab):
        names = {"unk_token": "<unk>"}
        return _document(merges_path, character_bpe, beside, names, vocab, merges)
    space = beside.choice("add_prefix_space", False)
    parts = merges_path, byte_bpe, beside, GPT2_NAMES, vocab, merges
    return _document(*parts, prefix_space=space)


def _document(path, build, beside, names, *arguments, **settings):
    """What ``build`` makes, with the tokens that are named and added ``beside``."""
    what = f"{path}: this is no vocabulary"
    made = called(build, *arguments, special=(), what=what, **settings)
    for token in beside.added(names):
        called(made.add_tokens, [token], what=what)
    return json.loads(made.to_str())


LAYOUTS = (  # the first that is complete counts
    Layout(("tokenizer.json",), _read_json),
    Layout(("vocab.txt",), _read_wordpiece),  # BERT, ELECTRA
    Layout(("vocab.json", "merges.txt"), _read_bpe),  # GPT-1, GPT-2, GPT-Neo
    Layout(("encoder.json", "vocab.bpe"), _read_bpe),  # GPT-2 as first released
)
