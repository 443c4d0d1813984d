"""Statistics of translation: BLEU of two systems on one test set, and of their seeds.

Whatever draws at random takes a ``numpy.random.Generator``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import sacrebleu
from scipy import stats

from experiments.statistics.stats import percentiles


def bleu_statistics(
    hypotheses: Sequence[str], references: Sequence[str], metric: Any = None
) -> np.ndarray:
    """Sufficient statistics of corpus BLEU, summed over sentences to score a corpus.

    Args:
        hypotheses, references: sentences. metric: ``sacrebleu.BLEU`` with its tokeniser
            and case, sacreBLEU's defaults if None.
    Returns: [sentences, 10] int: both lengths, 4 n-gram matches, 4 n-gram totals.
    """
    metric = metric or sacrebleu.BLEU()
    scores = [
        metric.corpus_score([hypothesis], [[reference]])
        for hypothesis, reference in zip(hypotheses, references, strict=True)
    ]
    return np.array([[s.sys_len, s.ref_len, *s.counts, *s.totals] for s in scores])


def bleu(sums: np.ndarray) -> float:
    """BLEU (0 to 100, sacreBLEU's default smoothing) of [10] summed statistics."""
    hypothesis, reference, *counts = (int(value) for value in sums)
    return sacrebleu.BLEU.compute_bleu(
        counts[:4], counts[4:], hypothesis, reference, smooth_method="exp"
    ).score


def paired_randomisation(
    arm: np.ndarray, baseline: np.ndarray, rng: Any, trials: int = 10_000
) -> float:
    """Two-sided p of swapping the two systems' sentences at random.

    Covers the choice of test sentences, not the training seed. A swap that changes
    nothing counts as extreme as what was observed. ``sacrebleu.significance`` leaves it
    out, and so calls two identical systems different (jhclark/multeval#5).
    Source: Riezler & Maxwell 2005 (approximate randomisation).
    Args: arm, baseline: [sentences, 10] of ``bleu_statistics``, of one seed.
    """
    table = np.concatenate([arm, baseline])
    places = np.arange(len(table)).reshape(2, len(arm))

    def distance(ours, theirs):
        return abs(bleu(table[ours].sum(0)) - bleu(table[theirs].sum(0)))

    test = stats.permutation_test(
        tuple(places),
        distance,
        permutation_type="samples",
        alternative="greater",
        n_resamples=trials,
        batch=100,
        rng=rng,
    )
    return float(test.pvalue)


def hierarchical_bootstrap(
    arm: np.ndarray,
    baseline: np.ndarray,
    rng: Any,
    confidence: float = 0.95,
    resamples: int = 1_000,
) -> Any:
    """Percentile ``Interval`` of the mean BLEU difference over seeds and sentences.

    Redraws seeds, which stay paired, then sentences: one draw serves all seeds of both
    systems, as the test set does. Too narrow for few seeds, as every bootstrap is: the
    t interval over seeds decides. Source: Owen 2007, doi:10.1214/07-AOAS122.
    Args: arm, baseline: [seeds, sentences, 10] of ``bleu_statistics``.
    """
    systems = np.stack([arm, baseline])
    _, seeds, sentences, _ = systems.shape
    drawn = []
    for _ in range(resamples):
        picked = rng.integers(seeds, size=seeds)
        times = rng.multinomial(sentences, np.full(sentences, 1 / sentences))
        sums = np.einsum("abst,s->abt", systems, times)
        ours, theirs = np.apply_along_axis(bleu, -1, sums)
        drawn.append((ours - theirs)[picked].mean())
    return percentiles(drawn, confidence)
