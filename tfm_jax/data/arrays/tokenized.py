"""Tokenised documents in memory-mapped arrays, written by several threads."""

import collections
import concurrent.futures
import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfm_jax.data.arrays.files import ArrayFile, ending
from tfm_jax.data.errors import DataError
from tfm_jax.data.progress import progress

_MOST_THREADS = 8  # each holds what the library says of a million letters, 100 MB


class TokenizedDocuments(NamedTuple):
    """Documents end to end.

    Attributes:
        ids: [N], of the narrowest unsigned type; with ``separated`` there is one
            separator in front of each document and one behind the last.
        lengths: [n] uint32, tokens of each document, separators not counted.
        separated: whether there are separators.
        sentences: int64, where each sentence begins in the tokens of all documents, and
            the end; None: documents are not divided.
        sentence_counts: [n] uint32, sentences of each document.
    """

    ids: np.ndarray
    lengths: np.ndarray
    separated: bool = False
    sentences: np.ndarray | None = None
    sentence_counts: np.ndarray | None = None


def encode_documents(
    tokenizer: Any,
    chunks: Iterable[Any],
    *,
    end: int | None = None,
    split: Callable | None = None,
    characters: int = 0,
    folder: Path | None = None,
    name: str = "",
) -> tuple[TokenizedDocuments, dict[str, Any]]:
    """(`TokenizedDocuments`, report): those without a token are left out.

    Memory holds a few chunks, whatever their number, if there is a folder. What a
    killed process has written to it is taken over.

    Args:
        tokenizer: has ``encode(texts)``, ``vocab`` and ``fingerprint``.
        chunks: `Documents`, the same in every process.
        end: the separator; None: none.
        split: chunks -> (chunk, the sentences of each of its texts), which are
            tokenised one by one; None: each text is one.
        characters: of all chunks, for the estimate of the time left.
        folder, name: where arrays are kept and what their names begin with.
    Raises: DataError if nothing is left, or an id is outside the vocabulary.
    """
    kind = np.min_scalar_type(max(tokenizer.vocab - 1, 0))
    edge = np.array([] if end is None else [end], kind)
    kinds = {"ids": kind, "lengths": np.uint32}
    if split:
        kinds |= {"sentences": np.int64, "sentence_counts": np.uint32}
    begun = {"tokenizer": tokenizer.fingerprint, "end": end, "dtype": kind.name}
    begun["arrays"] = [*kinds]
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(GrowingArrays(folder, name, kinds, begun))
        advance = stack.enter_context(progress("tokenising", characters))
        taken = iter((split or _undivided)(chunks))
        for _, (chunk, _) in zip(range(made.added), taken, strict=False):
            advance(sum(map(len, chunk.texts)), before=True)
        for chunk, (ids, sizes, owners) in _encoded(tokenizer, kind, taken):
            before, count = made.state, len(chunk.texts)
            tokens = np.bincount(owners, sizes, count).astype(np.int64)
            filled = sizes > 0
            sentences = np.bincount(owners[filled], minlength=count)
            within = tokens.cumsum()  # of this chunk alone
            if not chunk.begins:
                tokens[0] += before["open"]
                sentences[0] += before["open_sentences"]
            closed = count - (not chunk.ends)
            held = tokens[:closed] > 0
            if end is not None:
                ids = np.insert(ids, within[:closed][held], end)
            if not made.added:
                ids = np.concatenate([edge, ids])
            changes = {
                "documents": closed,
                "kept": held.sum(),
                "tokens": tokens[:closed].sum(),
                "sentences": filled.sum(),
                "without_tokens": (~filled).sum(),
            }
            state = {name: before[name] + int(x) for name, x in changes.items()}
            state["open"] = int(tokens[closed:].sum())
            state["open_sentences"] = int(sentences[closed:].sum())
            ends = before["tokens"] + before["open"] + sizes[filled].cumsum()
            if not made.added:
                ends = np.append(0, ends)
            arrays = ids, tokens[:closed][held], ends, sentences[:closed][held]
            made.add(arrays[: len(kinds)], state)
            advance(sum(map(len, chunk.texts)))
        count, kept = made.state["documents"], made.state["kept"]
        if not kept:
            wanted = "a sentence with a token" if split else "a token"
            raise DataError(f"none of {count} documents has {wanted}")
        report = {"without_tokens": count - kept, "tokens": made.state["tokens"]}
        if split:
            report |= {
                "documents": kept,
                "without_sentences": count - kept,
                "sentences": made.state["sentences"],
                "without_tokens": made.state["without_tokens"],
            }
        ids, lengths, *divided = made.arrays()
        return TokenizedDocuments(ids, lengths, end is not None, *divided), report


def _undivided(chunks):
    return ((chunk, [[text] for text in chunk.texts]) for chunk in chunks)


def _encoded(tokenizer, kind, chunks):
    """(chunk, (ids end to end, int64 tokens of each sentence, its text)), in order."""

    def encode(texts):
        rows = tokenizer.encode([sentence for text in texts for sentence in text])
        ids = np.concatenate([*rows, np.zeros(0, np.int32)])
        low, high = ids.min(initial=0), ids.max(initial=0)
        if low < 0 or high >= tokenizer.vocab:
            raise DataError(
                f"token ids reach from {low} to {high}, outside the vocabulary "
                f"0..{tokenizer.vocab - 1}"
            )
        owners = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        return ids.astype(kind), np.array([*map(len, rows)], np.int64), owners

    for (chunk, _), encoded in in_parallel(lambda item: encode(item[1]), chunks):
        yield chunk, encoded


def in_parallel(
    function: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[tuple[Any, Any]]:
    """(item, what a function makes of it) in order, a few ahead, by several threads."""
    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    waiting: collections.deque = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) > threads:
                item, made = waiting.popleft()
                yield item, made.result()
        while waiting:
            item, made = waiting.popleft()
            yield item, made.result()


class GrowingArrays:
    """Arrays that grow, and a journal of what was added.

    By it another process goes on: a line tells of an addition, with its sha256.

    Attributes:
        added: so many additions.
        state: what came with the last one.
    """

    def __init__(
        self, folder: Path | None, name: str, kinds: dict[str, Any], begun: dict
    ) -> None:
        self._kinds, self._begun, self.added = kinds, begun, 0
        self._path = folder and folder / name
        self.state: dict = collections.defaultdict(int)

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self._arrays = [
                ArrayFile(self._path and ending(self._path, name), kind)
                for name, kind in self._kinds.items()
            ]
            for array in self._arrays:
                stack.callback(array.close)
            journal = _opened(self._path and ending(self._path, "journal"))
            self._journal = stack.enter_context(journal)
            self._recover()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info):
        self._stack.close()

    def add(self, arrays: Sequence[np.ndarray], state: dict) -> None:
        """Appends to each array. Args: state: plain JSON."""
        parts = [
            np.ascontiguousarray(part, kind)
            for part, kind in zip(arrays, self._kinds.values(), strict=True)
        ]
        for array, part in zip(self._arrays, parts, strict=True):
            array.append(part)
        self.state, self.added = state, self.added + 1
        sizes = [part.nbytes for part in parts]
        self._note({"sizes": sizes, "sha256": _sha256(parts), "state": state})

    def arrays(self) -> list[np.ndarray]:
        """What was added, memory-mapped if there is a folder."""
        return [array.array() for array in self._arrays]

    def _note(self, said):
        self._journal.write(json.dumps(said).encode() + b"\n")
        self._journal.flush()

    def _recover(self):
        """Goes to the end of what is whole, and cuts the rest off."""
        journal, ends = self._journal, [0] * len(self._arrays)
        lines = iter(journal.read().split(b"\n")[:-1])
        if next(lines, b"") == json.dumps(self._begun).encode():
            whole = len(json.dumps(self._begun)) + 1
            for line in lines:
                try:
                    said = json.loads(line)
                    parts = [
                        array.read(end, size)
                        for array, end, size in zip(
                            self._arrays, ends, said["sizes"], strict=True
                        )
                    ]
                    if _sha256(parts) != said["sha256"]:
                        break
                    self.state, self.added = {**said["state"]}, self.added + 1
                    ends = [e + len(p) for e, p in zip(ends, parts, strict=True)]
                    whole += len(line) + 1
                except (ValueError, LookupError, TypeError):
                    break
            journal.seek(whole)
            journal.truncate()
        else:
            journal.seek(0)
            journal.truncate()
            self._note(self._begun)
        for array, end in zip(self._arrays, ends, strict=True):
            array.truncate(end)


def _opened(path):
    if path is None:
        return io.BytesIO()
    path.touch()
    return open(path, "r+b")


def _sha256(parts):
    sha256 = hashlib.sha256()
    for part in parts:
        sha256.update(part)
    return sha256.hexdigest()
