"""Tokenizers of running text: published ones, and their kinds trained on texts."""

import collections
import dataclasses
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from tfm_jax.data.errors import DataError
from tfm_jax.data.tokenizers import published
from tfm_jax.data.tokenizers.bilingual import BYTE_LABELS, in_order
from tfm_jax.data.tokenizers.subwords import TextTokenizer
from tfm_jax.data.tokenizers.training_texts import sample, with_short_words
from tfm_jax.knobs import check_numbers, knob

Tokenizer = TextTokenizer
UNKNOWN = "[UNK]"  # of kind=word, as of BERT
ALPHABET = 1000  # rarer characters are unknown to WordPiece, as in BERT's vocabularies


def _train_wordpiece(texts, vocab, special, min_frequency, lowercase):
    """Merges the most frequent pair; ids are the same on every run.

    The library's trainer numbers the "##" characters in hash order, so they are named
    beforehand.
    """
    normalizer = published.bert_normalizer(lowercase)
    splitter = pre_tokenizers.BertPreTokenizer()
    texts = [normalizer.normalize_str(text) for text in texts]
    words = collections.Counter(
        word for text in texts for word, _ in splitter.pre_tokenize_str(text)
    )
    counts = collections.Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    rare = set(ranked[ALPHABET:])
    texts = [text.translate(dict.fromkeys(map(ord, rare), " ")) for text in texts]
    kept = [word for word in words if not rare.intersection(word)]
    first = sorted({word[0] for word in kept})
    inside = sorted({f"##{character}" for word in kept for character in word[1:]})
    named = [*special, *first, *inside]
    _check_room("wordpiece", vocab, len(named))
    rules = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    rules.pre_tokenizer = splitter
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab, min_frequency=min_frequency, special_tokens=named,
        show_progress=False,
    )  # fmt: skip
    rules.train_from_iterator(texts, trainer, length=len(texts))
    return published.wordpiece(rules.get_vocab(), lowercase=lowercase, special=special)


def _train_unigram(texts, vocab, special, min_frequency, lowercase):
    """The likeliest pieces; a character beyond ALPHABET is unknown."""
    del min_frequency  # pieces have probabilities
    texts = list(texts)
    rules = published.unigram([("", 0.0), ("", 0.0)], lowercase=lowercase, special=())
    spelled = [rules.normalizer.normalize_str(text) for text in texts]
    counts = collections.Counter(itertools.chain.from_iterable(spelled))
    rare = sorted(counts, key=lambda character: (-counts[character], character))
    absent = dict.fromkeys(map(ord, rare[ALPHABET:]), " ")
    spelled = [text.translate(absent) for text in spelled]
    alphabet = {*itertools.chain.from_iterable(spelled), "▁"}
    _check_room("unigram", vocab, len(special) + len(alphabet))
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab - len(special), show_progress=False
    )
    rules.train_from_iterator(spelled, trainer, length=len(spelled))
    pieces = in_order(json.loads(rules.to_str())["model"]["vocab"])
    pieces = [(token, 0.0) for token in special] + pieces
    return published.unigram(pieces, lowercase=lowercase, special=special)


def _train_byte_bpe(texts, vocab, special, min_frequency, lowercase):
    del lowercase  # GPT-2 keeps the case
    _check_room("byte_bpe", vocab, len(special) + 256)
    rules = published.byte_bpe({}, [], special=())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - len(special), min_frequency=min_frequency,
        initial_alphabet=BYTE_LABELS, show_progress=False,
    )  # fmt: skip
    rules.train_from_iterator(texts, trainer, length=len(texts))
    rules.add_special_tokens(_tokens(special))
    return rules


def _train_byte(texts, vocab, special, min_frequency, lowercase):
    del texts, vocab, min_frequency, lowercase  # 256 bytes are 256 bytes
    ids = {label: byte for byte, label in enumerate(BYTE_LABELS)}
    rules = tokenizers.Tokenizer(models.BPE(vocab=ids, merges=[]))
    rules.pre_tokenizer = pre_tokenizers.ByteLevel(False, use_regex=False)
    rules.decoder = decoders.ByteLevel()
    rules.add_special_tokens(_tokens(special))
    return rules


def _train_character(texts, vocab, special, min_frequency, lowercase):
    """Every character of the texts in code point order, as nanoGPT's example."""
    del min_frequency, lowercase
    characters = set()
    for text in texts:  # one at a time, of any number
        characters.update(text)
    _check_room("character", vocab, len(characters) + len(special))
    ids = {character: index for index, character in enumerate(sorted(characters))}
    rules = tokenizers.Tokenizer(models.BPE(vocab=ids, merges=[]))
    rules.decoder = decoders.Fuse()
    rules.add_special_tokens(_tokens(special))
    return rules


def _train_word(texts, vocab, special, min_frequency, lowercase):
    """The most frequent words between white space; ties in code point order."""
    del lowercase  # the case is kept
    counts = collections.Counter(itertools.chain.from_iterable(map(str.split, texts)))
    kept = [w for w, n in counts.items() if n >= min_frequency and w not in special]
    kept.sort(key=lambda word: (-counts[word], word))
    _check_room("word", vocab, len(special) + 1)
    named = [UNKNOWN, *kept[: vocab - len(special)]]
    ids = {word: index for index, word in enumerate(named)}
    rules = tokenizers.Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    rules.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    rules.add_special_tokens(_tokens(special))
    return rules


def _tokens(special):
    return [tokenizers.AddedToken(t, special=True, normalized=False) for t in special]


def _check_room(kind, vocab, least):
    if vocab < least:
        raise DataError(
            f"tokenizer.vocab={vocab} must be at least {least} for "
            f"tokenizer.kind={kind!r}: special tokens and single characters"
        )


TRAINERS = {  # kind -> (how it is trained, its special tokens)
    "byte": (_train_byte, (published.END_OF_TEXT,)),
    "character": (_train_character, ()),
    "word": (_train_word, (UNKNOWN,)),
    "byte_bpe": (_train_byte_bpe, (published.END_OF_TEXT,)),
    "wordpiece": (_train_wordpiece, published.BERT_SPECIAL),
    "unigram": (_train_unigram, published.ALBERT_SPECIAL),
}
READ_WHOLE = ("byte", "character", "word")  # others: a sample of many texts


def train_text_tokenizer(
    kind: str,
    texts: Iterable[str],
    *,
    vocab: int = 8000,
    special: Sequence[str] | None = None,
    min_frequency: int = 1,
    lowercase: bool = True,
) -> TextTokenizer:
    """A TextTokenizer of at most ``vocab`` tokens; pass texts of the training split.

    Args:
        kind: a name in TRAINERS.
        texts: strings.
        vocab: the most tokens, special ones included; not for bytes.
        special: special tokens; None: those of the published models of that kind.
            First of all ids for "wordpiece" and "unigram", last for the others.
        min_frequency: pairs seen less often are not merged.
        lowercase: for "wordpiece" and "unigram", as BERT's uncased models and ALBERT.

    Raises: DataError if the vocabulary has no room for every single character.
    """
    if kind not in TRAINERS:
        raise DataError(f"tokenizer.kind={kind!r}; choose from ({', '.join(TRAINERS)})")
    train, usual = TRAINERS[kind]
    special = usual if special is None else tuple(special)
    texts = texts if kind in READ_WHOLE else list(texts)
    rules = train(texts, vocab, special, min_frequency, lowercase)
    return TextTokenizer(json.loads(rules.to_str()))


@dataclasses.dataclass(frozen=True)
class Config:
    """What a token is; trained on the training split unless it is published."""

    kind: str = knob(
        "byte_bpe",
        "what tokens are and how they are learnt; published: read from a file",
        choices=(*TRAINERS, "published"),
    )
    vocab: int = knob(
        8_000, "at most, special tokens included; not for bytes", low=1, high=2**24
    )
    min_frequency: int = knob(
        1, "rarer characters, words or merges are left out", low=1
    )
    lowercase: bool = knob(True, "text in lower case; kind=wordpiece and unigram")
    special: tuple[str, ...] = knob((), "further special tokens of the vocabulary")
    file: str = knob(
        "", "kind=published: tokenizer.json, or a folder with a vocabulary"
    )

    READ_WITH = {
        ("kind", tuple(kind for kind in TRAINERS if kind != "byte")): ("vocab",),
        ("kind", ("word", "byte_bpe", "wordpiece")): ("min_frequency",),
        ("kind", ("wordpiece", "unigram")): ("lowercase",),
    }

    def __post_init__(self):
        check_numbers(self, "tokenizer")
        if self.kind == "published" and not self.file:
            raise ValueError("tokenizer.kind='published' needs tokenizer.file=PATH")
        if self.kind != "published" and self.file:
            raise ValueError(
                f"tokenizer.file={self.file!r} belongs to tokenizer.kind='published', "
                f"not {self.kind!r}"
            )


def make(cfg: Config, texts: Iterable[str]) -> TextTokenizer:
    """The tokenizer that the section describes, trained on ``texts`` if it must be."""
    if cfg.kind == "published":
        path = Path(cfg.file)
        if not path.exists():
            raise DataError(f"tokenizer.file={cfg.file!r} does not exist")
        return TextTokenizer(published.read(path))
    _, usual = TRAINERS[cfg.kind]
    return train_text_tokenizer(
        cfg.kind,
        with_short_words(texts if cfg.kind in READ_WHOLE else sample(texts)),
        vocab=cfg.vocab,
        special=(*usual, *cfg.special),
        min_frequency=cfg.min_frequency,
        lowercase=cfg.lowercase,
    )
