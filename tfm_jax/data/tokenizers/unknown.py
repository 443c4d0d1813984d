"""Tokens that a vocabulary does not know: in the splits, and in what a user asks."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

LARGE = 0.1  # of the tokens; published vocabularies on their languages stay below 0.01


def share(parts: Iterable[np.ndarray], unknown: int | None) -> float:
    """Share of tokens that are the id ``unknown``, rounded; None: of none.

    Args: parts: arrays [n] of tokens.
    """
    count = lost = 0
    for tokens in parts if unknown is not None else ():
        count, lost = count + len(tokens), lost + int(np.sum(tokens == unknown))
    return round(lost / max(count, 1), 4)


def shares(report: Mapping[str, Any]) -> dict[str, float]:
    """Share of unknown tokens by side in the report of a split; "" of one that is all.

    {} of data without text.
    """
    known = report.get("unknown_share", {})
    return known if isinstance(known, dict) else {"": known}


def check(report: Mapping[str, Any]) -> None:
    """Warns of splits in which many tokens are unknown to the tokenizer.

    Args: report: of prepared data: name of a split -> its report, in which
        ``unknown_share`` is a fraction of tokens or one fraction per side; other
        entries of ``report`` are not read.
    """
    for name, split in report.items():
        for side, value in shares(split).items() if isinstance(split, dict) else ():
            if value > LARGE:
                where = f"{side} text of the {name} split" if side else f"{name} split"
                logging.warning(
                    "%.0f %% of the tokens of the %s are unknown to the tokenizer, and "
                    "predicting the unknown token counts as correct; a larger "
                    "tokenizer.vocab has more tokens, tokenizer.kind=byte_bpe (bpe for "
                    "translations) every character",
                    *(100 * value, where),
                )


def warn(tokenizer: object, texts: Sequence[str], rows: Iterable[np.ndarray]) -> None:
    """Warns where texts that a trained model is asked about have unknown tokens.

    Args: rows: ids [T] of each text.
    """
    index = getattr(tokenizer, "unknown", None)
    if index is None:
        return
    lost = [text for text, ids in zip(texts, rows, strict=True) if index in ids]
    if lost:
        logging.warning(
            "%d of %d texts have words that the tokenizer of the run does not know, "
            "the first is %r: the model does not see what they are",
            *(len(lost), len(texts), lost[0]),
        )


def warn_of_rows(tokenizer: object, texts: Sequence[str], rows: Any) -> None:
    """The same of rows that hold padding. Args: rows: as `TextBatch`, a text each."""
    padded = zip(rows.tokens, rows.segments, strict=True)
    warn(tokenizer, texts, [ids[segments > 0] for ids, segments in padded])
