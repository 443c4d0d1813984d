"""Where sentence pairs come from, behind one interface."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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

    Raises: DataError if the data is absent, malformed or misaligned.
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
    return pairs, {"source": cfg.source, **report, "read": len(sources)}
