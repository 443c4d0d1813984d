"""Sentences with a tag for every word, from files of columns."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tfm_jax.data.errors import DataError
from tfm_jax.data.policies import invalid_utf8_knob
from tfm_jax.data.sources.text_files import column_count, read_lines
from tfm_jax.knobs import knob

_DOCUMENT = "-DOCSTART-"  # a line of its own between the articles of CoNLL-2003


@dataclasses.dataclass(frozen=True)
class Config:
    """Where tagged sentences come from."""

    ROLE = "training"

    train_files: tuple[str, ...] = knob(
        (), "a word a line, blank lines between sentences"
    )
    valid_files: tuple[str, ...] = knob((), "of the validation split; () is absent")
    test_files: tuple[str, ...] = knob((), "of the test split; () is absent")
    word_column: int = knob(0, "number of the column of words", low=0)
    tag_column: int = knob(-1, "number of the column of tags; -1: the last", low=-1)
    labels: tuple[str, ...] = knob(
        (), "tags in order; (): the training split's, O first", role="architecture"
    )
    invalid_utf8: str = invalid_utf8_knob()


class Tagged(NamedTuple):
    """Sentences of one split; each has as many tags as words."""

    words: list[list[str]]
    tags: list[list[str]]
    names: tuple[str, ...]  # all tags in order


def load_tagged(cfg: Any, split: str, names: Any = None) -> tuple:
    """The sentences of one split: (Tagged, report of what was read).

    Args: names: the tags in order; None: those of the config, or all there are.
    """
    if split == "train" and not cfg.train_files:
        raise DataError("data.train_files is empty; name files of columns")
    words, tags, report = read_columns(
        getattr(cfg, f"{split}_files"), knob=f"data.{split}_files",
        word=cfg.word_column, tag=cfg.tag_column, invalid_utf8=cfg.invalid_utf8,
    )  # fmt: skip
    names = tuple(names or cfg.labels or tag_names(tags))
    return Tagged(words, tags, names), report | {"labels": list(names)}


def read_columns(
    paths: Sequence[str],
    *,
    knob: str = "data.train_files",
    word: int = 0,
    tag: int = -1,
    invalid_utf8: str = "error",
) -> tuple:
    """(words, tags, report) of files of a word a line, blank lines between sentences.

    Columns are separated by spaces or tabs, as in the files of CoNLL-2000 and 2003.

    Args:
        paths: plain or gzipped files.
        knob: names the setting in messages.
        word: the column of the word.
        tag: the column of the tag; -1 is the last.
        invalid_utf8: "error" or "replace".

    Raises: DataError for a missing or damaged file, or a line with other columns than
        most.
    """
    words, tags, files = [], [], {}
    for path in paths:
        lines, files[str(path)] = read_lines(path, knob, invalid_utf8)
        rows = [
            [column for column in line.replace("\t", " ").split(" ") if column]
            for line in lines
        ]
        needed = 1 + max(word, tag, 1 if tag < 0 else 0)
        width = column_count(filter(_tagged, rows), needed)
        sentence: list[tuple[str, str]] = []
        for number, columns in enumerate([*rows, []], start=1):
            if not _tagged(columns):
                if sentence:
                    words.append([word for word, _ in sentence])
                    tags.append([tag for _, tag in sentence])
                sentence = []
                continue
            if len(columns) != width:
                raise DataError(
                    f"{path}: line {number} has {len(columns)} columns; expected "
                    f"{width}, as most lines have or data.word_column={word} and "
                    f"data.tag_column={tag} need"
                )
            sentence.append((columns[word], columns[tag]))
    report = {"files": files, "sentences": len(words), "words": sum(map(len, words))}
    report["read"] = len(words)
    return words, tags, report


def _tagged(columns):
    return bool(columns) and columns[0] != _DOCUMENT


def tag_names(tags: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """All tags in order: "O" first, the rest sorted."""
    distinct = {tag for sentence in tags for tag in sentence}
    return tuple(sorted(distinct, key=lambda tag: (tag != "O", tag)))
