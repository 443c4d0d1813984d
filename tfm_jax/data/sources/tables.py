"""Texts with a label each, or pairs of texts, from tables; the columns of GLUE."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfm_jax.data.errors import DataError
from tfm_jax.data.policies import invalid_utf8_knob, sift
from tfm_jax.data.sources import tfds
from tfm_jax.data.sources.text_files import column_count, read_lines
from tfm_jax.knobs import knob


class Table(NamedTuple):
    """Where a tab-separated file holds what; columns by name, or number from 0."""

    first: str
    second: str  # "": single texts
    label: str
    names: tuple[str, ...] = ()  # the labels in order
    header: bool = True
    scores: bool = False  # the label is a number to predict, not a name


_ENTAILED = ("entailment", "not_entailment")
GLUE = {  # Wang et al. 2019, arXiv:1804.07461: the files as distributed
    "cola": Table("3", "", "1", ("0", "1"), header=False),
    "sst2": Table("sentence", "", "label", ("0", "1")),
    "mrpc": Table("#1 String", "#2 String", "Quality", ("0", "1")),
    "qqp": Table("question1", "question2", "is_duplicate", ("0", "1")),
    "stsb": Table("sentence1", "sentence2", "score", scores=True),
    "mnli": Table(
        "sentence1", "sentence2", "gold_label",
        ("entailment", "neutral", "contradiction"),
    ),
    "qnli": Table("question", "sentence", "label", _ENTAILED),
    "rte": Table("sentence1", "sentence2", "label", _ENTAILED),
    "wnli": Table("sentence1", "sentence2", "label", ("0", "1")),
}  # fmt: skip
GLUE_TESTS = {"cola": Table("sentence", "", "label", ("0", "1"))}  # other columns
UNLABELLED = ("-1", "-1.0")  # how TFDS marks the examples of hidden test sets


@dataclasses.dataclass(frozen=True)
class Config:
    """Where labelled texts come from."""

    ROLE = "training"

    source: str = knob("tsv", "where labelled texts come from", choices=("tsv", "tfds"))
    table: str = knob(
        "columns",
        "columns of the files, or a set of GLUE; tfds: columns, its features",
        choices=("columns", *GLUE),
    )
    first_column: str = knob("0", "number or name of the column of texts")
    second_column: str = knob("", 'that of second texts; "": single texts')
    label_column: str = knob("1", "number or name of the column of labels")
    labels: tuple[str, ...] = knob(
        (), "in order; (): those of the training split, sorted", role="architecture"
    )
    header: bool = knob(False, "the first line names the columns")
    scores: bool = knob(False, "labels are numbers to predict", role="architecture")
    train_files: tuple[str, ...] = knob(
        (), "source=tsv: text files of tab-separated columns"
    )
    valid_files: tuple[str, ...] = knob((), "of the validation split; () is absent")
    test_files: tuple[str, ...] = knob((), "of the test split; () is absent")
    tfds_name: str = tfds.name_knob("glue/sst2")
    tfds_data_dir: str = tfds.data_dir_knob()
    tfds_train: str = tfds.train_knob()
    tfds_valid: str = knob("validation", 'its validation split; "": absent')
    tfds_test: str = knob("test", 'its test split; "": absent')
    invalid_utf8: str = invalid_utf8_knob()
    malformed: str = knob(
        "error",
        "what a line with other columns than most gets",
        choices=("error", "drop"),
    )

    READ_WITH = {
        ("source", ("tsv",)): (
            "train_files",
            "valid_files",
            "test_files",
            "invalid_utf8",
            "malformed",
            "table",
            "header",
        ),
        ("source", ("tfds",)): tfds.KNOBS,
        ("table", ("columns",)): (
            "first_column",
            "second_column",
            "label_column",
            "labels",
            "header",
            "scores",
        ),
        ("scores", (False,)): ("labels",),
    }

    def __post_init__(self):
        if self.source == "tfds" and self.table != "columns":
            raise ValueError(
                "data.source='tfds' needs data.table='columns' with the names of "
                "features in data.first_column and the like"
            )

    def layout(self, split: str = "train") -> Table:
        """The `Table` of the files of a split."""
        if self.table != "columns":
            other = GLUE_TESTS if split == "test" else {}
            return other.get(self.table, GLUE[self.table])
        return Table(
            self.first_column, self.second_column, self.label_column, self.labels,
            self.header, self.scores,
        )  # fmt: skip


class Labelled(NamedTuple):
    """Examples of one split; entry n of each list belongs to entry n of the others."""

    firsts: list
    seconds: list | None
    labels: np.ndarray  # [n] int32 indices in ``names``, or float32 scores; 0: unknown
    known: np.ndarray  # [n] bool
    names: tuple[str, ...]  # () for scores


def load_labelled(cfg: Any, split: str, names: Any = None) -> tuple:
    """The examples of one split: (Labelled, report of what was read).

    Args:
        cfg: a Config.
        split: "train", "valid" or "test"; one that is not configured is empty.
        names: the labels in order; None: those of the config, or all there are.

    Raises: DataError for a missing or damaged file, a row that has not as many columns
        as the header or most others, or a label that is unknown or no number.
    """
    table = cfg.layout(split)
    columns, origins, report = _COLUMNS[cfg.source](cfg, split, table)
    firsts, seconds, labels = columns
    known = np.array([label is not None for label in labels], bool)
    if table.scores:
        values, names = _scores(labels, origins), ()
    else:
        names = tuple(names or table.names or in_order({*labels} - {None}))
        values = numbers_of(labels, origins, names)
    labelled = Labelled(firsts, seconds, values, known, names)
    report |= {"read": len(firsts), "labels": list(names)}
    return labelled, {**report, "unlabelled": int((~known).sum())}


def _read_tsv(cfg, split, table):
    """((firsts, seconds, labels), where each is from, report)."""
    knob = f"data.{split}_files"
    if split == "train" and not cfg.train_files:
        raise DataError("data.train_files is empty; name .tsv files")
    rows, origins, files, malformed = [], [], {}, 0
    for path in getattr(cfg, knob.removeprefix("data.")):
        lines, files[str(path)] = read_lines(path, knob, cfg.invalid_utf8)
        cells = [line.split("\t") for line in lines]
        header = cells.pop(0) if table.header and cells else None
        chosen = [
            _column(
                name, header, path, optional=split == "test" and name == table.label
            )
            for name in (table.first, table.second, table.label)
        ]
        needed = 1 + max(c for c in chosen if c is not None)
        width = len(header) if header else column_count(cells, needed)
        first = 2 if table.header else 1
        wrong = {"malformed": [len(row) != width for row in cells]}

        def clause(_, n, path=path, cells=cells, width=width, first=first):
            return (
                f"{path}: line {n + first} has {len(cells[n])} tab-separated columns; "
                f"expected {width}"
            )

        keep, report = sift(cfg, wrong, "line", clause=clause)
        malformed += report["malformed"]["lines"]
        for number in np.flatnonzero(keep):
            row = cells[number]
            rows.append([None if c is None else row[c] for c in chosen])
            origins.append(f"{path}: line {number + first}")
    report = {"policy": cfg.malformed, "lines": malformed}
    return _sides(rows, table), origins, {"files": files, "malformed": report}


def _column(name, header, path, *, optional):
    if not name:
        return None
    if header is None:
        if not name.isdecimal():
            raise DataError(f"column {name!r} is no number, and data.header is false")
        return int(name)
    if name not in header:
        if optional:
            return None
        raise DataError(f"{path} has no column {name!r}; it has {', '.join(header)}")
    return header.index(name)


def _read_tfds(cfg, split, table):
    wanted = [name for name in (table.first, table.second, table.label) if name]
    *columns, report = tfds.load_features(cfg, split, wanted)
    labels = [None if str(x) in UNLABELLED else str(x) for x in columns[-1]]
    seconds = columns[1] if table.second else [None] * len(labels)
    origins = [f"{cfg.tfds_name} {split}: example {n}" for n in range(len(labels))]
    return _sides(zip(columns[0], seconds, labels, strict=True), table), origins, report


_COLUMNS = {"tsv": _read_tsv, "tfds": _read_tfds}


def _sides(rows, table):
    firsts, seconds, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return list(firsts), list(seconds) if table.second else None, list(labels)


def in_order(labels: Iterable[str]) -> list[str]:
    """Names of labels by size if all are integers, else by the alphabet."""
    numbers = all(label.lstrip("-").isdecimal() for label in labels)
    return sorted(labels, key=int) if numbers else sorted(labels)


def numbers_of(
    labels: Iterable[str | None], origins: Iterable[str], names: Sequence[str]
) -> np.ndarray:
    """Indices of labels in ``names`` [n] int32; 0 of None, which is unknown.

    Args: origins: where each is from. Raises: DataError for one that is no name.
    """
    place: dict[str | None, int] = {name: n for n, name in enumerate(names)}
    for label, where in zip(labels, origins, strict=True):
        if label is not None and label not in place:
            raise DataError(
                f"{where} has the label {label!r}; choose from ({', '.join(names)})"
            )
    return np.array([place.get(label, 0) for label in labels], np.int32)


def _scores(labels, origins):
    values = np.zeros(len(labels), np.float32)
    for number, (label, where) in enumerate(zip(labels, origins, strict=True)):
        try:
            values[number] = 0 if label is None else float(label)
        except ValueError as error:
            raise DataError(f"{where} has the score {label!r}, no number") from error
        if not math.isfinite(values[number]):
            raise DataError(f"{where} has the score {label!r}, not finite")
    return values
