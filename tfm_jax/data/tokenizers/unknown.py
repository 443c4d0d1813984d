"""Tokens that a vocabulary does not know, as a share of the text of each split."""

import logging

import numpy as np

LARGE = 0.1  # of the tokens; published vocabularies on their languages stay below 0.01


def share(tokens: np.ndarray, unknown: int | None) -> float:
    """Share of ``tokens`` [n] that are the id ``unknown``, rounded; None: of none."""
    tokens = np.asarray(tokens)
    if unknown is None or not tokens.size:
        return 0.0
    return round(float(np.mean(tokens == unknown)), 4)


def check(report: dict, name: str) -> None:
    """Warns where the shares in the report of a split are large.

    Args: report: with ``unknown_share``: a number, or one a side. name: of the split.
    """
    shares = report["unknown_share"]
    shares = shares if isinstance(shares, dict) else {"": shares}
    for side, value in shares.items():
        if value > LARGE:
            where = f"{side} text of the {name} split" if side else f"{name} split"
            logging.warning(
                "%.0f %% of the tokens of the %s are unknown to the tokenizer; "
                "tokenizer.kind=byte_bpe (bpe for translations) knows every character",
                *(100 * value, where),
            )
