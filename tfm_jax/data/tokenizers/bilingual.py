"""Text to token ids and back: characters, bytes, words, BPE or unigram pieces."""

import collections
import dataclasses
import hashlib
import itertools
import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from tfm_jax import bounded_json
from tfm_jax.data.errors import DataError
from tfm_jax.data.tokenizers import foreign
from tfm_jax.data.tokenizers.training_texts import with_short_words
from tfm_jax.knobs import check_numbers, knob

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIAL_LABELS = ("<pad>", "<bos>", "<eos>", "<unk>")
FORMAT = "tfm_jax tokenizer 1"

# The printable stand-in of every byte in byte-level vocabularies.
# Source: Radford et al. 2019, GPT-2 encoder.py, bytes_to_unicode.
_PRINTABLE = {*range(33, 127), *range(161, 173), *range(174, 256)}
_OTHERS = itertools.count(256)
BYTE_LABELS = [chr(b if b in _PRINTABLE else next(_OTHERS)) for b in range(256)]
_BYTE_OF_LABEL = {label: byte for byte, label in enumerate(BYTE_LABELS)}


def _characters(cfg, lines):
    return _counted(cfg, itertools.chain.from_iterable(lines))


def _words(cfg, lines):
    return _counted(cfg, itertools.chain.from_iterable(map(str.split, lines)))


def _counted(cfg, items):
    """The most frequent items with ids 1..; ties in code point order; 0 is unknown."""
    counts = collections.Counter(items)
    counts.pop(SPECIAL_LABELS[UNK], None)  # a corpus may hold it already: same id
    kept = [item for item, count in counts.items() if count >= cfg.min_frequency]
    kept.sort(key=lambda item: (-counts[item], item))
    kept = kept[: cfg.vocab - len(SPECIAL_LABELS)]
    return {item: index for index, item in enumerate([SPECIAL_LABELS[UNK], *kept])}


def _train_character(cfg, lines):
    vocab = _characters(cfg, lines)
    model = models.BPE(vocab=vocab, merges=[], unk_token=SPECIAL_LABELS[UNK])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def _train_word(cfg, lines):
    model = models.WordLevel(_words(cfg, lines), unk_token=SPECIAL_LABELS[UNK])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def _train_byte(cfg, lines):
    del cfg, lines  # 256 bytes are 256 bytes
    vocab = {label: byte for byte, label in enumerate(BYTE_LABELS)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _train_pieces(lines, model, trainer):
    """Pieces of space-separated words, on bytes: no text is out of vocabulary."""
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.Prepend(" ")  # the first word like any other
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "merged_with_next"),
            pre_tokenizers.ByteLevel(False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def _train_bpe(cfg, lines):
    trainer = trainers.BpeTrainer(
        vocab_size=cfg.vocab - len(SPECIAL_LABELS),
        min_frequency=cfg.min_frequency,
        initial_alphabet=BYTE_LABELS,
        show_progress=False,
    )
    return _train_pieces(lines, models.BPE(), trainer)


def _train_unigram(cfg, lines):
    trainer = trainers.UnigramTrainer(
        vocab_size=cfg.vocab - len(SPECIAL_LABELS),
        initial_alphabet=BYTE_LABELS,
        show_progress=False,
    )
    tokenizer = _train_pieces(lines, models.Unigram(), trainer)
    pieces = json.loads(tokenizer.to_str())["model"]["vocab"]
    tokenizer.model = models.Unigram(in_order(pieces))
    return tokenizer


def in_order(pieces: Any) -> list:
    """Pieces of a unigram trainer, without the accidents of a run: (piece, score).

    The trainer visits words in hash order: scores differ in the last digits, and the
    bytes it appends for completeness, below all others, swap places.
    """
    floor = min((score for piece, score in pieces if len(piece) > 1), default=0.0)
    scores = {piece: round(score, 6) for piece, score in pieces}
    appended = sorted(piece for piece, score in pieces if score < floor)
    for rank, piece in enumerate(appended, start=1):
        scores[piece] = round(floor - rank * 1e-4, 6)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


KINDS = {
    "character": _train_character,
    "byte": _train_byte,
    "word": _train_word,
    "bpe": _train_bpe,  # Sennrich et al. 2016, arXiv:1508.07909, on bytes
    "unigram": _train_unigram,  # Kudo 2018, arXiv:1804.10959, on bytes
}
WITH_UNKNOWN = ("character", "word")  # id 0 of the library is its unknown token
READ_WHOLE = ("byte", *WITH_UNKNOWN)  # they count, or need no text
ON_BYTES = ("byte", "bpe", "unigram")


@dataclasses.dataclass(frozen=True)
class Config:
    """How text becomes tokens; trained on the training split alone."""

    kind: str = knob("bpe", "what tokens are and how they are learnt", choices=KINDS)
    vocab: int = knob(
        8000,
        "at most this many tokens, special ones included; not for bytes",
        low=1,
        high=2**24,
    )
    shared: bool = knob(True, "one vocabulary for both languages")
    min_frequency: int = knob(
        1, "rarer characters, words or merges are left out", low=1
    )

    READ_WITH = {
        ("kind", tuple(kind for kind in KINDS if kind != "byte")): ("vocab",),
        ("kind", ("character", "word", "bpe")): ("min_frequency",),
    }

    def __post_init__(self):
        least = len(SPECIAL_LABELS) + (256 if self.kind in ON_BYTES else 1)
        if self.vocab < least:
            raise ValueError(
                f"tokenizer.vocab={self.vocab} must be at least {least} for "
                f"tokenizer.kind={self.kind!r}"
            )
        check_numbers(self, "tokenizer")


class Tokenizer:
    """Turns lines into ids that end in EOS, and ids back into lines.

    ``byte``, ``bpe`` and ``unigram`` give every text back exactly; ``character``
    every text of known characters; ``word`` the words joined by one space. Special
    tokens have ids but no spelling: no line of text can produce PAD, BOS or EOS.

    Attributes:
        kind: a key of KINDS. shared: one vocabulary for both sides.
        first_id: of the library's own ids, which begin at 0.
        source_vocab, target_vocab: number of ids.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Args: document: what `save` writes, as plain data."""
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise DataError(f"this is no tokenizer file of format {FORMAT!r}")
        self._document = document
        lacking = {"kind", "source", "target"} - set(document)
        if lacking or document["kind"] not in tuple(KINDS):
            raise DataError(f"this is no tokenizer file of format {FORMAT!r}")
        self.kind = document["kind"]
        self.shared = document["target"] is None
        source = target = foreign.rules(document["source"])
        if not self.shared:
            target = foreign.rules(document["target"])
        self._sides = {"source": source, "target": target}
        self.first_id = UNK if self.kind in WITH_UNKNOWN else UNK + 1
        self.source_vocab = self.first_id + source.get_vocab_size()
        self.target_vocab = self.first_id + target.get_vocab_size()

    def encode(self, lines: Sequence[str], side: str) -> list[np.ndarray]:
        """Each line as int32 ids ending in EOS; side is "source" or "target"."""
        encodings = foreign.called(
            self._sides[side].encode_batch_fast,
            lines,
            add_special_tokens=False,
            what="the tokenizer cannot encode a line",
        )
        end = EOS - self.first_id
        return [
            np.array([*encoding.ids, end], np.int32) + self.first_id
            for encoding in encodings
        ]

    def decode(self, rows: Any, side: str) -> list[str]:
        """Each row of ids as a line, up to its first EOS; UNK reads "<unk>"."""
        rows = [np.asarray(row) for row in rows]
        rows = [row[: np.argmax(row == EOS)] if EOS in row else row for row in rows]
        pieces = [(row[row >= self.first_id] - self.first_id).tolist() for row in rows]
        lines = self._sides[side].decode_batch(pieces, skip_special_tokens=False)
        if self.kind in ("bpe", "unigram"):
            return [line.removeprefix(" ") for line in lines]
        return lines

    def unspelled(self, rows: int) -> tuple[int, ...]:
        """The ids below ``rows`` that no translation has: PAD, BOS and no token's."""
        return (PAD, BOS, *range(self.target_vocab, rows))

    def tokens(self, ids: Any, side: str) -> list[str]:
        """A printable label for every id, for plots and logs; "▁" is a space."""
        return [self._label(int(index), self._sides[side]) for index in ids]

    def _label(self, index, side):
        if index < len(SPECIAL_LABELS):
            return SPECIAL_LABELS[index]
        label = side.id_to_token(index - self.first_id)
        if self.kind in ON_BYTES:
            codes = [_BYTE_OF_LABEL.get(character) for character in label]
            if None not in codes:
                label = bytes(codes).decode("utf-8", errors="backslashreplace")
        label = label.replace(" ", "▁")
        return label if label.isprintable() else repr(label)[1:-1]

    @property
    def fingerprint(self) -> str:
        """sha256 of the vocabulary and rules, hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """One canonical JSON text; equal tokenizers give equal texts."""
        return json.dumps(self._document, sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Tokenizer":
        """The tokenizer that `to_json` wrote. Raises: DataError if it is none."""
        try:
            document = bounded_json.loads(text)
        except ValueError as error:
            raise DataError(f"this is no tokenizer file: {error}") from error
        return cls(document)

    def save(self, path: str | Path) -> None:
        """Writes the JSON file."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Reads the JSON file; nothing in it is ever executed."""
        try:
            return cls.from_json(bounded_json.read_bytes(path))
        except OSError as error:
            raise DataError(f"cannot read {path}: {error}") from error
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error


def train_tokenizer(
    cfg: Any, source_lines: Iterable[str], target_lines: Iterable[str]
) -> "Tokenizer":
    """Trains a Tokenizer; pass the lines of the training split only.

    The same on every run, with one reservation: which of several equally good pieces
    "unigram" keeps is chance. It shows on a few lines of text, not on a corpus.
    """
    train = KINDS[cfg.kind]
    if cfg.shared:
        sides = (train(cfg, itertools.chain(source_lines, target_lines)), None)
    else:
        sides = (train(cfg, source_lines), train(cfg, target_lines))
    source, target = (side and json.loads(side.to_str()) for side in sides)
    return Tokenizer(
        {"format": FORMAT, "kind": cfg.kind, "source": source, "target": target}
    )


def make(cfg: Config, pairs: Any) -> "Tokenizer":
    """The tokenizer that the section describes.

    Args: pairs: a `bitext.Bitext`, of which most kinds read but a sample.
    """
    pairs = pairs if cfg.kind in READ_WHOLE else pairs.sample()
    sides = (map(operator.itemgetter(side), pairs) for side in (0, 1))
    return train_tokenizer(cfg, *map(with_short_words, sides))
