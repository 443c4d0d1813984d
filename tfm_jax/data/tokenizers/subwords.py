"""Tokenizers of running text as the pre-trained models publish them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from tfm_jax import bounded_json
from tfm_jax.data.errors import DataError
from tfm_jax.data.tokenizers import foreign, published
from tfm_jax.data.tokenizers.bilingual import BYTE_LABELS

_CANNOT = "the tokenizer cannot encode a text"
_BYTE_OF_LABEL = {label: byte for byte, label in enumerate(BYTE_LABELS)}


class TextTokenizer:
    """Turns texts into ids, and ids back into texts; ``vocab`` ids in all.

    The file format is the ``tokenizer.json`` of published models. Special tokens are
    known by their spelling, ``tokenizer.special["[MASK]"]``; encoding adds none, and
    no text can produce one.

    Deviates: paddings and truncations that a file asks for are left out, rows are
    made elsewhere; so is BPE dropout, the same text always gives the same ids.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Args: document: a ``tokenizer.json`` as plain data."""
        document = {**document} if isinstance(document, dict) else document
        if isinstance(document, dict) and isinstance(document.get("model"), dict):
            document |= {"padding": None, "truncation": None}
            if document["model"].get("dropout"):
                document["model"] = {**document["model"], "dropout": None}
        self._rules = foreign.rules(document)
        self._document = document
        self._rules.encode_special_tokens = True  # read them as any other text
        ids = self._rules.get_vocab(with_added_tokens=True).values()
        self.vocab = max(ids, default=-1) + 1
        self.special = {
            token.content: index
            for index, token in sorted(self._rules.get_added_tokens_decoder().items())
            if token.special
        }
        self._opens, self._closes = _word_edges(self._document, self._labels())

    @property
    def unknown(self) -> int | None:
        """The id of what the vocabulary does not know; None if it knows everything."""
        model = self._document["model"]
        index = model.get("unk_id")
        return (
            self._rules.token_to_id(model.get("unk_token") or "")
            if index is None
            else index
        )

    def ids_of(self, *names: str) -> list[int]:
        """The id of each special token; one that is absent is a DataError."""
        for name in names:
            if name not in self.special:
                known = ", ".join(self.special) or "none"
                raise DataError(
                    f"the tokenizer has no special token {name!r}; it has {known}"
                )
        return [self.special[name] for name in names]

    def with_special(self, names: Sequence[str]) -> "TextTokenizer":
        """This tokenizer, or one that has the ``names`` it lacks as its last ids."""
        absent = [name for name in names if name not in self.special]
        if not absent:
            return self
        rules = tokenizers.Tokenizer.from_str(self.to_json())
        rules.add_special_tokens(
            [tokenizers.AddedToken(n, special=True, normalized=False) for n in absent]
        )
        return TextTokenizer(json.loads(rules.to_str()))

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Each text as int32 ids.

        Raises: DataError if the vocabulary lacks a character and an unknown token.
        """
        encodings = foreign.called(
            self._rules.encode_batch_fast,
            list(texts),
            add_special_tokens=False,
            what=_CANNOT,
        )
        rows = [np.array(encoding.ids, np.int32) for encoding in encodings]
        if self._document.get("pre_tokenizer") is None:
            self._check_complete(texts, rows)
        return rows

    def encode_with_offsets(
        self, texts: Sequence[str]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Each text as (ids [T], offsets [T, 2]), int32.

        Token t is ``text[slice(*offsets[t])]``, without white space in front.
        """
        encodings = foreign.called(
            self._rules.encode_batch,
            list(texts),
            add_special_tokens=False,
            what=_CANNOT,
        )
        rows = []
        for text, encoding in zip(texts, encodings, strict=True):
            offsets = np.array(encoding.offsets, np.int32).reshape(-1, 2)
            for edges in offsets:
                while edges[0] < edges[1] and text[edges[0]].isspace():
                    edges[0] += 1
            rows.append((np.array(encoding.ids, np.int32), offsets))
        return rows

    def decode(self, rows: Any, *, special: bool = False) -> list[str]:
        """Each row of ids as a text, with special tokens spelled out or without."""
        rows = [np.asarray(row).tolist() for row in rows]
        return self._rules.decode_batch(rows, skip_special_tokens=not special)

    def tokens(self, ids: Any) -> list[str]:
        """The vocabulary's own label of every id; "" for an id without one."""
        return [self._rules.id_to_token(int(index)) or "" for index in ids]

    def unspelled(self, rows: int) -> tuple[int, ...]:
        """The ids below ``rows`` that no token has: they only fill a table up."""
        named = {*self._rules.get_vocab(with_added_tokens=True).values()}
        return tuple(index for index in range(rows) if index not in named)

    def word_starts(self, ids: np.ndarray) -> np.ndarray:
        """Whether a word starts at each token: bool like ``ids`` [..., T].

        Source: the marks the vocabularies carry: "##" inside of words (BERT), "▁" or
        a space in front (SentencePiece, GPT-2), "</w>" behind (GPT-1).
        Deviates: signs that are neither letter nor digit are words of their own where
        no mark says so.
        """
        ids = np.asarray(ids)
        starts = self._opens[ids]
        starts[..., 1:] |= self._closes[ids[..., :-1]]
        starts[..., :1] = True
        return starts

    def _labels(self):
        return self.tokens(range(self.vocab))

    def _check_complete(self, texts, rows):
        """Single characters without an unknown token: the library drops others."""
        model = self._document["model"]
        if model.get("merges") != [] or model.get("unk_token"):
            return
        for text, row in zip(texts, rows, strict=True):
            if len(row) != len(text):
                absent = sorted({*text} - {*self._labels()})
                raise DataError(f"the tokenizer does not know {absent}")

    @property
    def fingerprint(self) -> str:
        """sha256 of the vocabulary and rules, hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """One canonical JSON text; equal tokenizers give equal texts."""
        return json.dumps(self._document, sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "TextTokenizer":
        """The tokenizer of a ``tokenizer.json``. Raises: DataError if it is none."""
        try:
            document = bounded_json.loads(text)
        except ValueError as error:
            raise DataError(f"this is no tokenizer.json: {error}") from error
        return cls(document)

    def save(self, path: str | Path) -> None:
        """Writes a ``tokenizer.json`` that other libraries read too."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "TextTokenizer":
        """Reads a ``tokenizer.json``, or the folder of a published model.

        Nothing in the files is ever executed. Raises: DataError.
        """
        document = published.read(Path(path))
        try:
            return cls(document)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error


def _word_edges(document, labels):
    """Two bool [V]: the token opens a word; the token after it opens one."""
    model = document["model"]
    suffix = model.get("end_of_word_suffix")
    if suffix and isinstance(suffix, str):
        return (
            np.zeros(len(labels), bool),
            np.array([label.endswith(suffix) for label in labels], bool),
        )
    prefix = model.get("continuing_subword_prefix")
    if prefix and isinstance(prefix, str):
        inside = np.array([label.startswith(prefix) for label in labels], bool)
        return ~inside, np.zeros(len(labels), bool)
    if "ByteLevel" in json.dumps(document.get("pre_tokenizer")):
        labels = [_spelled(label) for label in labels]
    opens = [label.startswith("▁") or _sign(label[:1]) for label in labels]
    closes = [_sign(label[-1:]) and label != "▁" for label in labels]
    return np.array(opens, bool), np.array(closes, bool)


def _sign(character):
    return bool(character) and not (character.isalnum() or character == "\ufffd")


def _spelled(label):
    """A byte-level label as text, U+FFFD for a part of a character."""
    codes = [_BYTE_OF_LABEL.get(character) for character in label]
    if None in codes:
        return label  # a token added later, such as <|endoftext|>
    return bytes(codes).decode("utf-8", errors="replace")
