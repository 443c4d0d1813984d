"""Questions that a span of a text answers, as rows."""

import dataclasses

from tfm_jax.data import text_batches
from tfm_jax.data.errors import DataError
from tfm_jax.data.rows import spans


@dataclasses.dataclass(frozen=True)
class Config(text_batches.Order, spans.Config):
    """Where questions come from and how they fill rows."""

    train_files: tuple[str, ...] = ()  # JSON as SQuAD's
    valid_files: tuple[str, ...] = ()
    test_files: tuple[str, ...] = ()


def load(cfg, split, names):
    """The questions of all files: (questions, report), see `spans.read_questions`."""
    del names
    knob = f"data.{split}_files"
    if split == "train" and not cfg.train_files:
        raise DataError("data.train_files is empty; name files built as SQuAD's")
    found, report = [], {"files": {}}
    for path in getattr(cfg, f"{split}_files"):
        questions, said = spans.read_questions(path, knob=knob, misplaced=cfg.misplaced)
        found += questions
        report["files"][str(path)] = said
    return found, report


def texts(found):
    """Questions and the texts they are asked about."""
    return [
        *(question.question for question in found),
        *dict.fromkeys(question.context for question in found),
    ]


def rows(cfg, tokenizer, found, split):
    """(`TextBatch`, report), see `spans.span_rows`."""
    del split
    filled, report = spans.span_rows(tokenizer, found, cfg)
    return filled.rows, report


def change(cfg, tokenizer):
    """None: answers stay."""
