"""Where sentence pairs come from, behind one interface."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tfm_jax.data.errors import DataError
from tfm_jax.data.sources import numerals, text_files, tfds
from tfm_jax.data.tokenizers.normalize import Normalizer

TEXT_SCORES = ("bleu", "bleu_tokenized", "chrf", "exact_match")


class Source(NamedTuple):
    """Where pairs come from.

    Attributes:
        load: (cfg, split) -> (sources, targets, report).
        scores: of TEXT_SCORES, those that mean something for its translations.
    """

    load: Callable
    scores: tuple[str, ...] = TEXT_SCORES


SOURCES = {
    # a word or few, without the four in a row that BLEU counts
    "numerals": Source(numerals.load, ("chrf", "exact_match")),
    "parallel": Source(text_files.load),
    "tfds": Source(tfds.load),
}


class Pairs(NamedTuple):
    """Sentence pairs; entry n of each list belongs to entry n of the others."""

    source: Sequence[str]  # normalised
    target: Sequence[str]  # normalised
    references: Sequence[str] = ()  # the target as it was read, for scoring


def load_pairs(cfg: Any, split: str, names: Any = None) -> tuple[Pairs, dict[str, Any]]:
    """Loads one split: (Pairs, report of what was read).

    Args:
        cfg: the data section (`tfm_jax.data.rows.pairs.Config`).
        split: "train", "valid" or "test"; a split that is not configured is empty.

    Of a held-out split are left out those whose source has fewer words, separated by
    spaces, than ``heldout_words_least``, or more than ``heldout_words_most``.

    Raises: DataError if the data is absent, malformed or misaligned, or if no pair of a
        held-out split has so many words.
    """
    del names  # there are no labels
    sources, targets, report = SOURCES[cfg.source].load(cfg, split)
    source_side = Normalizer(cfg.normalize, cfg.source_language)
    target_side = Normalizer(cfg.normalize, cfg.target_language)
    pairs = Pairs(
        [source_side.apply(line) for line in sources],
        [target_side.apply(line) for line in targets],
        targets,
    )
    report = {"source": cfg.source, **report, "read": len(sources)}
    return (pairs if split == "train" else _of_length(cfg, split, pairs)), report


def _of_length(cfg, split, pairs):
    """Held-out pairs whose source has as many words as are asked for."""
    least, most = cfg.heldout_words_least, cfg.heldout_words_most or math.inf
    words = [len(line.split()) for line in pairs.source]
    kept = [n for n, count in enumerate(words) if least <= count <= most]
    if words and not kept:
        raise DataError(
            f"data.heldout_words_least={least}, data.heldout_words_most={most}: no "
            f"source of {split} is so long; they have {min(words)} to {max(words)} "
            "words"
        )
    return Pairs(*([side[n] for n in kept] for side in pairs))
