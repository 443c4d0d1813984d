"""Labelled texts put to a language model in words, and how often it is right."""

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfm_jax.config import ConfigError
from tfm_jax.data.errors import DataError
from tfm_jax.data.sources import tables
from tfm_jax.decode.prompting import Answers, Example, Prompting, answer
from tfm_jax.runs import saved
from tfm_jax.runs.log import counted


class Result(NamedTuple):
    """What came out.

    Attributes:
        queries: with their true labels. names: of the labels. answers: to the queries.
        summary: ``accuracy``, and what always saying the commonest label would reach,
            ``majority``; ``queries`` and ``examples`` as counts, and ``scoring``.
    """

    queries: list[Example]
    names: tuple[str, ...]
    answers: Answers
    summary: dict


def read_examples(
    path: str | Path, *, table: str = "columns", columns: str = "", knob: str
) -> list[Example]:
    """The labelled texts of a tab-separated file; those without a label are left out.

    Args:
        table: "columns": a text and its label, without a header; or a key of
            ``tables.GLUE``.
        columns: "TEXT,LABEL" or "TEXT,SECOND,LABEL" of any other table: names of its
            header, or numbers from 0 if it has none.
        knob: names the setting in messages.
    Raises: DataError, ConfigError.
    """
    if table not in ("columns", *tables.GLUE):
        legal = ", ".join(("columns", *tables.GLUE))
        raise ConfigError(f"table={table!r}; choose from ({legal})")
    named = columns.split(",") if columns else ["0", "1"]
    if len(named) not in (2, 3) or not all(named) or (columns and table != "columns"):
        raise ConfigError(
            f"columns={columns!r}; write TEXT,LABEL or TEXT,SECOND,LABEL, and no table"
        )
    cfg = tables.Config(
        table=table,
        first_column=named[0],
        second_column="".join(named[1:-1]),
        label_column=named[-1],
        header=not all(name.isdecimal() for name in named),
        train_files=(str(path),),
    )
    if cfg.layout().scores:
        raise ConfigError(f"table={table!r} has numbers, and no labels to choose from")
    try:
        labelled, _ = tables.load_labelled(cfg, "train")
    except DataError as error:
        raise DataError(f"{knob}: {error}") from error
    seconds = labelled.seconds or [""] * len(labelled.firsts)
    rows = zip(labelled.firsts, seconds, labelled.labels, labelled.known, strict=True)
    return [
        Example(text, labelled.names[label], second)
        for text, second, label, known in rows
        if known
    ]


def few_shot(
    run: saved.Saved,
    queries: Sequence[Example],
    examples: Sequence[Example],
    how: Prompting,
    names: Sequence[str] = (),
) -> Result:
    """Puts ``queries`` to a causal language model, behind some of ``examples``.

    Args:
        queries, examples: lists of ``Example``.
        names: the labels to choose from; by default all that occur, sorted.
    Raises: ValueError, see ``prompting.answer``.
    """
    names = tuple(names) or tuple(sorted({e.label for e in (*queries, *examples)}))
    rows = len(queries) * (1 if how.scoring == "generated" else len(names))
    with counted(rows) as done:
        answers = answer(
            *(run.model, run.params, run.tokenizer, queries, examples, names, how),
            start=saved.separator(run),
            on_batch=done,
        )
    right = [
        place >= 0 and names[place] == query.label
        for place, query in zip(answers.chosen, queries, strict=True)
    ]
    commonest = collections.Counter(query.label for query in queries).most_common(1)
    summary = {
        "accuracy": float(np.mean(right)) if right else None,
        "majority": commonest[0][1] / len(queries) if queries else None,
        "queries": len(queries),
        "examples": how.examples,
        "scoring": how.scoring,
    }
    return Result(list(queries), names, answers, summary)
