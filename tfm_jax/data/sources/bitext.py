"""Where sentence pairs come from, behind one interface."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from tfm_jax.data.errors import DataError
from tfm_jax.data.sources import numerals, text_files, tfds
from tfm_jax.data.sources.mechanisms import examples as mechanisms
from tfm_jax.data.sources.running_text import PART
from tfm_jax.data.sources.text_files import Texts
from tfm_jax.data.tokenizers import training_texts
from tfm_jax.data.tokenizers.normalize import Normalizer

TEXT_SCORES = ("bleu", "bleu_tokenized", "chrf", "exact_match")


class Source(NamedTuple):
    """Where pairs come from.

    Attributes:
        load: (cfg, split) -> (sources, targets, report); sides are iterated anew.
        scores: of TEXT_SCORES, those that mean something for its translations.
    """

    load: Callable
    scores: tuple[str, ...] = TEXT_SCORES


def _mechanisms(cfg, split):
    examples, report = mechanisms.load(cfg.mechanism, split, ends=True)
    sources, targets = _unzipped(example.pair for example in examples)
    return sources, targets, report


SOURCES = {
    # a word or few, without the four in a row that BLEU counts
    "mechanisms": Source(_mechanisms, ("exact_match",)),
    "numerals": Source(numerals.load, ("chrf", "exact_match")),
    "parallel": Source(text_files.load),
    "tfds": Source(tfds.load),
}


class Pairs(NamedTuple):
    """Sentence pairs; entry n of each list belongs to entry n of the others."""

    source: Sequence[str]  # normalised
    target: Sequence[str]  # normalised
    references: Sequence[str] = ()  # the target as it was read, for scoring


class Bitext:
    """Normalised sentence pairs, (source, target), made anew by each iteration.

    Attributes:
        source, target: the sides as they were read.
    """

    def __init__(
        self,
        source: Texts,
        target: Texts,
        normalize: Sequence[Callable[[str], str]] = (str, str),
        keeps: Sequence[Callable[[tuple[str, str]], bool]] = (),
    ) -> None:
        """Args.

        source, target: texts that can be iterated again.
        normalize: what is done to the lines of each side.
        keeps: whether a normalised pair is one of them, as each of these says.
        """
        self.source, self.target = source, target
        self._normalize, self._keeps = normalize, keeps

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return self._normalized(zip(self.source, self.target, strict=True))

    def where(self, keeps: Callable[[tuple[str, str]], bool]) -> "Bitext":
        """Those of the pairs that a function keeps."""
        every = *self._keeps, keeps
        return Bitext(self.source, self.target, self._normalize, every)

    def lists(self) -> tuple[list[str], list[str]]:
        """All sources and all targets."""
        return _unzipped(self)

    @property
    def characters(self) -> int:
        """Of both sides as they were read."""
        return sum(sum(map(len, side)) for side in (self.source, self.target))

    def sample(self) -> "Bitext":
        """Of more than twice MOST characters, pairs at equal distances of so many."""
        total, most = self.characters, 2 * training_texts.MOST
        if total <= most:
            return self
        pairs, measured = itertools.tee(zip(self.source, self.target, strict=True))
        sizes = (len(source) + len(target) for source, target in measured)
        chosen = itertools.compress(pairs, training_texts.evenly(sizes, total, most))
        source, target = _unzipped(chosen)
        return Bitext(source, target, self._normalize, self._keeps)

    def _normalized(self, pairs):
        source, target = self._normalize
        pairs = ((source(one), target(other)) for one, other in pairs)
        for keeps in self._keeps:
            pairs = filter(keeps, pairs)
        return pairs


def pieces(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[list[str], list[str]]]:
    """The same pairs, (sources, targets), some with about PART characters at once."""
    held, size = [], 0
    for pair in pairs:
        held.append(pair)
        size += len(pair[0]) + len(pair[1]) + 1
        if size >= PART:
            yield _unzipped(held)
            held, size = [], 0
    if held:
        yield _unzipped(held)


def _unzipped(pairs):
    sides: tuple[list[str], list[str]] = ([], [])
    for pair in pairs:
        for side, line in zip(sides, pair, strict=True):
            side.append(line)
    return sides


def load_bitext(cfg: Any, split: str) -> tuple[Bitext, dict[str, Any]]:
    """Loads one split: (`Bitext`, report of what was read).

    Args:
        cfg: the data section (`tfm_jax.data.rows.pairs.Config`).
        split: "train", "valid" or "test"; a split that is not configured is empty.

    Raises: DataError if the data is absent, malformed or misaligned.
    """
    sources, targets, report = SOURCES[cfg.source].load(cfg, split)
    languages = cfg.source_language, cfg.target_language
    normalize = [Normalizer(cfg.normalize, language).apply for language in languages]
    report = {"source": cfg.source, **report, "read": len(sources)}
    return Bitext(sources, targets, normalize), report


def load_pairs(cfg: Any, split: str) -> tuple[Pairs, dict[str, Any]]:
    """The same, read into memory at once: (Pairs, report).

    Of a held-out split are left out those whose source has fewer words, separated by
    spaces, than ``heldout_words_least``, or more than ``heldout_words_most``.

    Raises: DataError, too, if no pair of a held-out split has so many words.
    """
    bitext, report = load_bitext(cfg, split)
    pairs = Pairs(*bitext.lists(), [*bitext.target])
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
