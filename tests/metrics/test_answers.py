import itertools

import numpy as np
import pytest

from tfm_jax.metrics.answers import (
    answer_scores,
    best_spans,
    exact_match,
    f1,
    normalise,
)


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("The  Cat, (a) dog!", "cat dog"),
        ("An apple's theme", "apples theme"),
        ("  ", ""),
        ("the", ""),
        ("Over-the-top", "overthetop"),
        ("U.S.A.", "usa"),
    ],
)
def test_answers_are_compared_without_case_signs_and_articles(answer, normal):
    assert normalise(answer) == normal


@pytest.mark.parametrize(
    ("answer", "accepted", "exact", "overlap"),
    [
        ("the Denver Broncos", ["Denver Broncos"], 1, 1.0),
        ("Broncos", ["Denver Broncos"], 0, 2 / 3),  # precision 1, recall 1/2
        ("Denver Broncos of Denver", ["Denver Broncos"], 0, 2 * 2 / 6),
        ("Denver Denver", ["Denver Denver Broncos", "x"], 0, 2 * 2 / 5),
        ("in 1990", ["1991", "1990"], 0, 2 / 3),  # the better of two
        ("x", ["y"], 0, 0.0),
        ("", [""], 1, 1.0),
        ("x", [""], 0, 0.0),
        ("", ["x"], 0, 0.0),
    ],
)
def test_answers_are_scored_by_words_in_common(answer, accepted, exact, overlap):
    assert exact_match(answer, accepted) == exact
    np.testing.assert_allclose(f1(answer, accepted), overlap)


def test_scores_are_means_over_questions():
    """The last one has no answer, which was seen."""
    answers = ["the cat", "red dog", "", ""]
    accepted = [("cat", "a dog"), ("dog",), ("hen",), ()]
    found = answer_scores(answers, accepted)
    assert found == {"exact_match": 0.5, "f1": (1 + 2 / 3 + 0 + 1) / 4, "questions": 4}
    assert answer_scores([], []) == {}


def test_the_likeliest_span_of_all_windows_is_found():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 2, 9))
    questions = [0, 0, 1, 1]
    inside = rng.random((4, 9)) > 0.4
    inside[:, 0] = False
    found = best_spans(logits, questions, inside, most=3)
    for question, span in enumerate(found):
        rows = [row for row in range(4) if questions[row] == question]
        scores = {
            (row, i, j): logits[row, 0, i] + logits[row, 1, j]
            for row in rows
            for i, j in itertools.product(range(9), repeat=2)
            if inside[row, i] and inside[row, j] and i <= j < i + 3
        }
        best = max(scores, key=scores.get)
        assert span[:3] == best
        nothing = min(logits[row, :, 0].sum() for row in rows)
        np.testing.assert_allclose(span.score, scores[best] - nothing)
    inside[2:] = False
    with pytest.raises(ValueError, match="question 1 has no column"):
        best_spans(logits, questions, inside)
