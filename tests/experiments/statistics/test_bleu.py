"""Statistics of translation, next to those of sacreBLEU."""

import numpy as np
import pytest
import sacrebleu
from sacrebleu.significance import PairedTest

from experiments.statistics import bleu

WORDS = "the a cat dog sat ran on under mat tree big small red old".split()


def corpora(systems, sentences=60, noise=0.3, seed=0):
    """References and systems that replace a share ``noise`` of their words."""
    rng = np.random.default_rng(seed)
    references = rng.choice(WORDS, size=(sentences, 9))

    def spoilt():
        wrong = rng.random(references.shape) < noise
        return np.where(wrong, rng.choice(WORDS, size=references.shape), references)

    return [
        [" ".join(s) for s in c] for c in (references, *(spoilt() for _ in systems))
    ]


def test_summed_statistics_score_as_the_corpus():
    references, ours = corpora("a")
    ours[3] = ""
    table = bleu.bleu_statistics(ours, references)
    assert table.shape == (60, 10)
    exact = sacrebleu.BLEU().corpus_score(ours, [references]).score
    assert bleu.bleu(table.sum(0)) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_randomisation_agrees_with_sacrebleu_where_nothing_ties(seed):
    references, ours, theirs = corpora("ab", seed=seed)
    test = PairedTest(
        [("theirs", theirs), ("ours", ours)],
        {"BLEU": sacrebleu.BLEU()},
        [references],
        n_samples=2_000,
    )
    expected = test()[1]["BLEU"][1].p_value
    tables = [bleu.bleu_statistics(side, references) for side in (ours, theirs)]
    found = bleu.paired_randomisation(*tables, np.random.default_rng(0), 2_000)
    assert found == pytest.approx(expected, abs=0.05)


def test_systems_that_differ_in_one_sentence_or_none_are_not_told_apart():
    references, ours = corpora("a")
    table = bleu.bleu_statistics(ours, references)
    other = np.concatenate([bleu.bleu_statistics(references[:1], ours[:1]), table[1:]])
    for theirs in (table, other):
        rng = np.random.default_rng(0)
        assert bleu.paired_randomisation(table, theirs, rng, trials=100) == 1


def test_hierarchical_interval_covers_seeds_and_sentences():
    references, *runs = corpora("abcdefgh")
    tables = np.array([bleu.bleu_statistics(run, references) for run in runs])

    def interval(arm, baseline):
        rng = np.random.default_rng(0)
        return bleu.hierarchical_bootstrap(arm, baseline, rng, resamples=300)

    def width(arm, baseline):
        return np.ptp(interval(arm, baseline))

    ours, theirs = tables[:4], tables[4:]
    assert interval(ours, ours) == (0, 0)
    low, high = interval(theirs, ours)
    assert interval(ours, theirs) == pytest.approx((-high, -low))
    assert width(*(np.repeat(t[:1], 4, axis=0) for t in (ours, theirs))) > 0
    only_seeds = width(*(t.sum(1, keepdims=True) for t in (ours, theirs)))
    assert width(ours, theirs) > only_seeds > 0
