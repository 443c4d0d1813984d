"""Prediction targets of masked language models, and what stands in their place."""

import bisect
import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from tfm_jax.data.arrays.files import new_files
from tfm_jax.data.arrays.mapped_rows import AT_ONCE, rows_of
from tfm_jax.data.batch import MaskedBatch
from tfm_jax.knobs import check_numbers, knob

_STREAM = 1  # keeps the draws apart from those that order rows


@dataclasses.dataclass(frozen=True)
class Config:
    """How many tokens are predicted, which, and what stands in their place.

    BERT as they are; ALBERT ngrams=3 of whole_words; ELECTRA mask=0.85, random=0.
    """

    mask_rate: float = knob(0.15, "of a row's tokens, special ones counted")
    most: int = knob(
        20, "prediction targets of a row at most; 77 for rows of 512", low=1, high=2**24
    )
    mask: float = knob(0.8, "of the prediction targets become the mask token")
    random: float = knob(0.1, "become any token of the vocabulary; the rest stay")
    whole_words: bool = knob(False, "all of a word or nothing of it")
    ngrams: int = knob(1, "words at once, at most", low=1, high=2**16)
    draw: str = knob(
        "dynamic",
        "dynamic: other targets in every epoch",
        choices=("dynamic", "static"),
    )
    copies: int = knob(
        10,
        "draw=static: how often each row is there, masked otherwise",
        low=1,
        high=2**16,
    )

    READ_WITH = {("draw", ("static",)): ("copies",)}

    def __post_init__(self):
        if not 0 < self.mask_rate <= 1:
            raise ValueError(
                f"data.masking.mask_rate={self.mask_rate} must be above 0, at most 1"
            )
        if min(self.mask, self.random) < 0 or self.mask + self.random > 1 + 1e-9:
            raise ValueError(
                f"data.masking.mask={self.mask} and data.masking.random={self.random} "
                f"must be shares that do not exceed 1 together"
            )
        check_numbers(self, "data.masking")


class Masker:
    """Rows to masked rows, drawn anew in every epoch; masked rows stay as they are.

    Source: Devlin et al. 2019, arXiv:1810.04805, section 3.1, and the released
    create_pretraining_data.py: a number per row and not a chance per token; never a
    special token; a random token may be any, also the right or a special one. Words
    at once with a chance of 1/n for n: Lan et al. 2020, arXiv:1909.11942, section 4.1.
    Deviates: [UNK] counts as special, BERT's code may mask it; words at once never
    reach across a special token, as ALBERT's code lets them; ELECTRA's code draws with
    replacement, so that it masks a few less.
    """

    def __init__(self, cfg: Any, tokenizer: Any, mask_token: str = "[MASK]") -> None:
        """Args: tokenizer: a `TextTokenizer` that has ``mask_token``."""
        self.cfg = cfg
        (self._mask,) = tokenizer.ids_of(mask_token)
        self._vocab = tokenizer.vocab
        self._special = np.zeros(tokenizer.vocab, bool)
        self._special[list(tokenizer.special.values())] = True
        self._word_starts = tokenizer.word_starts
        self._upto = np.cumsum(1 / np.arange(1, cfg.ngrams + 1)).tolist()

    def __call__(self, batch: MaskedBatch, seeds: Any) -> MaskedBatch:
        """Sets ``labels``, ``weights`` and ``target_positions``, and masks the tokens.

        Args:
            batch: a `MaskedBatch` with whole texts.
            seeds: [B, ...] integers; equal ones draw the same for equal rows.
        """
        if batch.labels is not None:
            return batch
        shape = len(batch.tokens), self.cfg.most
        tokens = batch.tokens.copy()
        positions, labels = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        weights = np.zeros(shape, np.float32)
        candidates = (batch.segments > 0) & ~self._special[batch.tokens]
        starts = np.ones_like(candidates)
        if self.cfg.whole_words:
            starts = self._word_starts(batch.tokens)
        for row, seed in enumerate(seeds):
            rng = np.random.default_rng([*map(int, seed), _STREAM])
            count = self._count(np.count_nonzero(batch.segments[row]))
            chosen = self._choose(candidates[row], starts[row], count, rng)
            size = len(chosen)
            positions[row, :size] = chosen
            labels[row, :size] = batch.tokens[row, chosen]
            weights[row, :size] = 1
            tokens[row, chosen] = self._seen(labels[row, :size], rng)
        return batch._replace(
            tokens=tokens, labels=labels, weights=weights, target_positions=positions
        )

    def _count(self, length):
        return min(self.cfg.most, max(1, round(self.cfg.mask_rate * length)))

    def _choose(self, candidate, starts, count, rng):
        """Target positions, in order, from bool [T] what may be and what starts."""
        columns = np.flatnonzero(candidate)
        if self.cfg.ngrams == 1 and not self.cfg.whole_words:
            chosen = rng.permutation(columns)[:count]
            return np.sort(chosen)
        first = starts[columns] | (np.diff(columns, prepend=-2) > 1)
        begins = columns[first].tolist()
        ends = (columns[np.roll(first, -1)] + 1).tolist()  # before the next, or last
        chosen = set()
        for word, chance in zip(
            rng.permutation(len(begins)).tolist(),
            rng.random(len(begins)).tolist(),
            strict=True,
        ):
            if len(chosen) >= count:
                break
            span = self._span(begins, ends, word, chance)
            while span and ends[word + span - 1] - begins[word] > count - len(chosen):
                span -= 1  # fewer words if there is less room, maybe none
            if span:
                columns = range(begins[word], ends[word + span - 1])
                if chosen.isdisjoint(columns):
                    chosen.update(columns)
        return np.array(sorted(chosen), np.int64)

    def _span(self, begins, ends, word, chance):
        """How many words from ``word`` on, of those that follow without a gap."""
        most = 1
        while (
            most < self.cfg.ngrams
            and word + most < len(begins)
            and begins[word + most] == ends[word + most - 1]
        ):
            most += 1
        upto = self._upto[:most]  # 1, 1 + 1/2, 1 + 1/2 + 1/3, ...
        return bisect.bisect(upto, chance * upto[-1]) + 1

    def _seen(self, labels, rng):
        fate = rng.random(len(labels))
        random = rng.integers(self._vocab, size=len(labels))
        becomes_random = fate < self.cfg.mask + self.cfg.random
        seen = np.where(becomes_random, random, labels)
        return np.where(fate < self.cfg.mask, self._mask, seen)


def masked_copies(
    rows: MaskedBatch, masker: Masker, seed: int, path: Path | None = None
) -> MaskedBatch:
    """Every row ``copies`` times with masks of its own, for good: a `MaskedBatch`.

    Args:
        rows: of `MaskedRows`.
        path: folder, and what the names of files begin with; None: in memory.

    Source: Devlin et al. 2019's create_pretraining_data.py, dupe_factor.
    """
    whole = rows_of(rows)
    count, length = rows.shape
    kinds = {name: array.dtype for name, array in whole.arrays.items()}
    kinds["labels"] = kinds["rows"]
    kinds["target_positions"] = np.min_scalar_type(length)
    kinds["target_counts"] = np.min_scalar_type(masker.cfg.most)
    at_once = max(AT_ONCE // length, 1)
    with new_files(path, kinds) as files:
        for copy, first in itertools.product(
            range(masker.cfg.copies), range(0, count, at_once)
        ):
            some = np.arange(first, min(first + at_once, count))
            masked = masker(whole.take(some), [(seed, copy, row) for row in some])
            files["rows"].append(masked.tokens[masked.segments > 0])
            files["offsets"].append_totals(masked.segments.sum(1))
            files["labels"].append(masked.labels.ravel())
            files["target_positions"].append(masked.target_positions.ravel())
            files["target_counts"].append(masked.weights.sum(1))
            for name in kinds.keys() & {"second", "pair_labels"}:
                files[name].append(whole.arrays[name][some])
        arrays = {name: file.array() for name, file in files.items()}
    settings = whole.settings | {"most": masker.cfg.most}
    return type(whole)(arrays, settings).fields()
