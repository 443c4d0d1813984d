"""Sentences with a tag for every word, from files of columns."""

from typing import NamedTuple

import numpy as np

from tfm_jax.data.errors import DataError
from tfm_jax.data.rows import framing
from tfm_jax.data.sources.text_files import column_count, read_lines

_DOCUMENT = "-DOCSTART-"  # a line of its own between the articles of CoNLL-2003


class Tagged(NamedTuple):
    """Sentences of one split; each has as many tags as words."""

    words: list[list[str]]
    tags: list[list[str]]


def read_columns(
    paths, *, knob="data.train_files", word=0, tag=-1, invalid_utf8="error"
):
    """Sentences from files of a word a line, blank lines between: (Tagged, report).

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
        sentence = []
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
    return Tagged(words, tags), report


def _tagged(columns):
    return bool(columns) and columns[0] != _DOCUMENT


def tag_names(tagged):
    """All tags in order: "O" first, the rest sorted."""
    found = {tag for tags in tagged.tags for tag in tags}
    return tuple(sorted(found, key=lambda tag: (tag != "O", tag)))


def tagged_rows(tokenizer, tagged, names, length, *, overlong="keep", frame="bert"):
    """A row per sentence, its tags asked for at the first token of each word.

    Args:
        tokenizer: a `TextTokenizer`.
        tagged: the sentences.
        names: all tags in order; labels are places in it.
        length: T.
        overlong: "keep" cuts a sentence that does not fit at its end, "drop" leaves it
            out, "error" refuses.
        frame: a name in `framing.FRAMES`.

    Source: Devlin et al. 2019, arXiv:1810.04805, section 5.3.
    Returns: (`TextBatch` with ``labels`` [R, T], kept [R], report); ``kept`` numbers
        the sentences that have a row. Words that a cut or the tokenizer's
        normalisation took away have no label and are counted.
    Raises: DataError for a tag that is not in ``names``, or nothing left.
    """
    place = {name: number for number, name in enumerate(names)}
    texts = [" ".join(words) for words in tagged.words]
    room = framing.room(length, pair=False)
    rows, labels, kept, lost = [], [], [], 0
    too_long = 0
    encoded = tokenizer.encode_with_places(texts)
    for number, (ids, places) in enumerate(encoded):
        unknown = [tag for tag in tagged.tags[number] if tag not in place]
        if unknown:
            raise DataError(
                f"sentence {number + 1} has the tag {unknown[0]!r}; choose from "
                f"({', '.join(names)})"
            )
        if len(ids) > room:
            too_long += 1
            if overlong == "error":
                raise DataError(
                    f"sentence {number + 1} has {len(ids)} tokens, {room} fit; "
                    f"data.overlong=drop leaves it out"
                )
            if overlong == "drop":
                continue
        first, word = first_tokens(tagged.words[number], places[:room])
        row = np.full(length, -1, np.int32)
        row[1 + first] = [place[tagged.tags[number][index]] for index in word]
        lost += len(tagged.words[number]) - len(word)
        rows.append(ids[:room])
        labels.append(row)
        kept.append(number)
    if not kept:
        raise DataError(
            f"none of {len(texts)} sentences is left, {too_long} longer than "
            f"data.length={length}"
        )
    labels = np.stack(labels)
    batch = framing.frame_rows(
        rows, None, framing.frame_ids(tokenizer, frame), length
    )._replace(labels=np.maximum(labels, 0), weights=(labels >= 0).astype(np.float32))
    report = {
        "overlong": {"policy": overlong, "sentences": too_long},
        "kept": len(kept),
        "words_without_label": lost,
    }
    return batch, np.array(kept), report


def first_tokens(words, places):
    """(columns of first tokens, their words) of words joined by single spaces."""
    ends = np.cumsum([len(word) + 1 for word in words])
    real = np.flatnonzero(places[:, 1] > places[:, 0])
    word_of = np.searchsorted(ends, places[real, 0], side="right")
    word, index = np.unique(word_of, return_index=True)
    return real[index], word
