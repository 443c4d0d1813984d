"""Where sentence pairs come from, behind one interface."""

from collections.abc import Sequence
from typing import NamedTuple

from tfm_jax.data import numerals, parallel, tfds
from tfm_jax.data.normalize import Normalizer

SPLITS = ("train", "valid", "test")
SOURCES = {  # name -> load(cfg, split) -> (sources, targets, report)
    "numerals": numerals.load,
    "parallel": parallel.load,
    "tfds": tfds.load,
}


class Pairs(NamedTuple):
    """Sentence pairs; entry n of each list belongs to entry n of the others."""

    source: Sequence[str]  # normalised
    target: Sequence[str]  # normalised
    references: Sequence[str] = ()  # the target as it was read, for scoring


def load_pairs(cfg, split):
    """Loads one split: (Pairs, report of what was read).

    Args:
        cfg: the data section (`tfm_jax.data.pipeline.Config`).
        split: "train", "valid" or "test"; a split that is not configured is empty.

    Raises: DataError if the data is absent, malformed or misaligned.
    """
    sources, targets, report = SOURCES[cfg.source](cfg, split)
    source_side = Normalizer(cfg.normalize, cfg.source_language)
    target_side = Normalizer(cfg.normalize, cfg.target_language)
    pairs = Pairs(
        [source_side.apply(line) for line in sources],
        [target_side.apply(line) for line in targets],
        targets,
    )
    return pairs, {"source": cfg.source, **report, "read": len(sources)}
