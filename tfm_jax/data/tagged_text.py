"""Sentences with a tag for every word, as rows."""

import dataclasses

from tfm_jax.data import text_batches
from tfm_jax.data.errors import DataError
from tfm_jax.data.rows import framing, tagging
from tfm_jax.knobs import bounded, choice


@dataclasses.dataclass(frozen=True)
class Config(text_batches.Order):
    """Where tagged sentences come from and how they fill rows."""

    train_files: tuple[str, ...] = ()  # a word a line, blank lines between sentences
    valid_files: tuple[str, ...] = ()
    test_files: tuple[str, ...] = ()
    word_column: int = bounded(0, 0)
    tag_column: int = bounded(-1, -1)  # -1: the last
    labels: tuple[str, ...] = ()  # tags in order; (): the training split's, O first
    length: int = bounded(128, 3, 2**24)  # tokens of a row, special ones included
    overlong: str = choice(("drop", "keep", "error"), "keep")  # keep: cut
    frame: str = choice(framing.FRAMES, "bert")
    invalid_utf8: str = choice(("error", "replace"), "error")


def load(cfg, split, names):
    """((sentences, names of tags), report), see `tagging.read_columns`."""
    knob = f"data.{split}_files"
    if split == "train" and not cfg.train_files:
        raise DataError("data.train_files is empty; name files of columns")
    tagged, report = tagging.read_columns(
        getattr(cfg, f"{split}_files"), knob=knob, word=cfg.word_column,
        tag=cfg.tag_column, invalid_utf8=cfg.invalid_utf8,
    )  # fmt: skip
    names = names or cfg.labels or tagging.tag_names(tagged)
    return (tagged, names), report | {"labels": list(names)}


def texts(found):
    """The sentences, a space between words."""
    return [" ".join(words) for words in found[0].words]


def rows(cfg, tokenizer, found, split):
    """(`TextBatch`, report), see `tagging.tagged_rows`."""
    del split
    filled, _, report = tagging.tagged_rows(
        tokenizer, *found, cfg.length, overlong=cfg.overlong, frame=cfg.frame
    )
    return filled, report


def change(cfg, tokenizer):
    """None: tags stay."""
