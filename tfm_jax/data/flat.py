"""Running text as one array of token ids, written by several threads."""

import collections
import concurrent.futures
import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfm_jax.data.array_files import ArrayFile
from tfm_jax.data.errors import DataError
from tfm_jax.data.progress import progress

_MOST_THREADS = 8  # each holds what the library says of a million letters, 100 MB


class Flat(NamedTuple):
    """Documents end to end.

    Attributes:
        ids: [N], of the narrowest unsigned type; with ``separated`` there is one
            separator in front of each document and one behind the last.
        lengths: [n] uint32, tokens of each document, separators not counted.
        separated: whether there are separators.
    """

    ids: np.ndarray
    lengths: np.ndarray
    separated: bool = False


def encode_documents(
    tokenizer: Any,
    chunks: Iterable[Any],
    *,
    end: int | None = None,
    characters: int = 0,
    folder: Path | None = None,
    name: str = "",
) -> tuple[Flat, dict[str, Any]]:
    """Documents as `Flat`, those without a token left out: (flat, report).

    Memory holds a few chunks, whatever their number, if there is a folder. What a
    killed process has written to it is taken over.

    Args:
        tokenizer: has ``encode(texts)``, ``vocab`` and ``fingerprint``.
        chunks: `Documents`, the same in every process.
        end: the separator; None: none.
        characters: of all chunks, for the estimate of the time left.
        folder, name: where arrays are kept and what their names begin with.
    Raises: DataError if nothing is left, or an id is outside the vocabulary.
    """
    kind = np.min_scalar_type(max(tokenizer.vocab - 1, 0))
    edge = np.array([] if end is None else [end], kind)
    begun = {"tokenizer": tokenizer.fingerprint, "end": end, "dtype": kind.name}
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(_Growing(folder, name, kind, begun))
        advance = stack.enter_context(progress("tokenising", characters))
        taken = iter(chunks)
        for _, chunk in zip(range(made.added), taken, strict=False):
            advance(sum(map(len, chunk.texts)), before=True)
        for chunk, (ids, counts) in _encoded(tokenizer, kind, taken):
            before = made.state
            if not chunk.begins:
                counts[0] += before["open"]
            closed = len(counts) - (not chunk.ends)
            held = counts[:closed] > 0
            behind = np.cumsum(counts)[:closed] - (not chunk.begins) * before["open"]
            if end is not None:
                ids = np.insert(ids, behind[held], end)
            if not made.added:
                ids = np.concatenate([edge, ids])
            state = {
                "open": int(counts[closed:].sum()),
                "documents": before["documents"] + closed,
                "kept": before["kept"] + int(held.sum()),
                "tokens": before["tokens"] + int(counts[:closed].sum()),
            }
            made.add(ids, counts[:closed][held].astype(np.uint32), state)
            advance(sum(map(len, chunk.texts)))
        count, kept = made.state["documents"], made.state["kept"]
        if not kept:
            raise DataError(f"none of {count} documents has a token")
        report = {"without_tokens": count - kept, "tokens": made.state["tokens"]}
        ids, lengths = made.arrays()
        return Flat(ids, lengths, end is not None), report


def _encoded(tokenizer, kind, chunks):
    """(chunk, (ids end to end, int64 tokens of each text)), in their order."""

    def encode(texts):
        rows = tokenizer.encode(texts)
        ids = np.concatenate([*rows, np.zeros(0, np.int32)])
        low, high = ids.min(initial=0), ids.max(initial=0)
        if low < 0 or high >= tokenizer.vocab:
            raise DataError(
                f"token ids reach from {low} to {high}, outside the vocabulary "
                f"0..{tokenizer.vocab - 1}"
            )
        return ids.astype(kind), np.array([len(row) for row in rows], np.int64)

    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    waiting: collections.deque = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for chunk in chunks:
            waiting.append((chunk, pool.submit(encode, chunk.texts)))
            if len(waiting) > threads:
                chunk, encoded = waiting.popleft()
                yield chunk, encoded.result()
        while waiting:
            chunk, encoded = waiting.popleft()
            yield chunk, encoded.result()


class _Growing:
    """The two arrays of `Flat`, and a journal by which another process goes on.

    A line of it says what an addition came to, with its sha256.

    Attributes:
        added: so many additions.
        state: what came with the last one.
    """

    def __init__(self, folder: Path | None, name: str, kind: Any, begun: dict) -> None:
        self._kinds = np.dtype(kind), np.dtype(np.uint32)
        self._paths = [
            folder and folder / f"{name}.{end}" for end in ("ids", "lengths", "journal")
        ]
        self._begun, self.added = begun, 0
        self.state = dict.fromkeys(("open", "documents", "kept", "tokens"), 0)

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self._arrays = [
                ArrayFile(path, kind)
                for path, kind in zip(self._paths, self._kinds, strict=False)
            ]
            for array in self._arrays:
                stack.callback(array.close)
            self._journal = stack.enter_context(_opened(self._paths[-1]))
            self._recover()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info):
        self._stack.close()

    def add(self, ids, lengths, state):
        parts = [
            np.ascontiguousarray(part, kind)
            for part, kind in zip((ids, lengths), self._kinds, strict=True)
        ]
        for array, part in zip(self._arrays, parts, strict=True):
            array.append(part)
        self.state, self.added = state, self.added + 1
        sizes = [part.nbytes for part in parts]
        self._note({"sizes": sizes, "sha256": _sha256(parts), "state": state})

    def arrays(self):
        """What was added, memory-mapped if there is a folder."""
        return [array.array() for array in self._arrays]

    def _note(self, said):
        self._journal.write(json.dumps(said).encode() + b"\n")
        self._journal.flush()

    def _recover(self):
        """Goes to the end of what is whole, and cuts the rest off."""
        journal, ends = self._journal, [0, 0]
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
                    self.state, self.added = said["state"], self.added + 1
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
