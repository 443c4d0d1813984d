import json

import pytest

from experiments import verdicts
from experiments.study import better, diverges, equivalent, monotone, within, worse
from tests.experiments.test_study import study

GOOD, BAD, MIXED = (1.0, 1.1, 0.9, 1.05), (2.0, 2.1, 1.9, 2.1), (0.5, 2.5, 1.0, 1.6)
CLOSE = (1.001, 1.1, 0.901, 1.049)
NEVER = (None,) * 4


def judged(expectation, sesoi=0.1, goal="min", **samples):
    values = {arm: dict(enumerate(sample)) for arm, sample in samples.items()}
    made = study(
        arms={arm: {} for arm in samples},
        baseline=next(iter(samples)),
        seeds=tuple(range(4)),
        expect=(expectation,),
        sesoi=sesoi,
        goal=goal,
    )
    return verdicts.judge(expectation, values, made)["verdict"]


YES, NO = verdicts.REPRODUCED, verdicts.NOT_REPRODUCED
UNKNOWN, LACKING = verdicts.UNDERPOWERED, verdicts.INCOMPLETE


@pytest.mark.parametrize(
    "a, b, verdict",
    [
        (GOOD, BAD, YES),
        (BAD, GOOD, NO),
        (GOOD, MIXED, UNKNOWN),
        (CLOSE, GOOD, NO),  # known to be as good as equal
        (GOOD, NEVER, YES),
        (NEVER, GOOD, NO),
        (NEVER, NEVER, NO),
        (GOOD[:3], BAD, LACKING),
        (GOOD[:1], BAD[:1], LACKING),
    ],
)
def test_better_is_reproduced_contradicted_or_not_known(a, b, verdict):
    assert judged(better("a", "b", ""), a=a, b=b) == verdict
    assert judged(worse("b", "a", ""), a=a, b=b) == verdict


def test_what_is_better_depends_on_the_goal():
    assert judged(better("a", "b", ""), goal="max", a=BAD, b=GOOD) == YES
    assert judged(better("a", "b", ""), goal="max", a=GOOD, b=BAD) == NO


@pytest.mark.parametrize(
    "a, verdict", [(CLOSE, YES), (BAD, NO), (MIXED, UNKNOWN), (CLOSE[:2], LACKING)]
)
def test_equivalent_is_shown_not_assumed(a, verdict):
    assert judged(equivalent("a", "b", ""), a=a, b=GOOD) == verdict


def test_a_wide_margin_makes_more_equivalent():
    assert judged(equivalent("a", "b", ""), sesoi=5.0, a=BAD, b=GOOD) == YES


@pytest.mark.parametrize(
    "samples, verdict",
    [
        ((BAD, GOOD, (0.1, 0.2, 0.1, 0.3)), YES),
        (((0.1, 0.2, 0.1, 0.3), GOOD, BAD), NO),
        ((BAD, GOOD, MIXED), UNKNOWN),
    ],
)
def test_monotone_is_better_at_every_step(samples, verdict):
    arms = dict(zip("abc", samples, strict=True))
    assert judged(monotone("abc", ""), **arms) == verdict


def test_divergence_needs_enough_runs_to_be_a_rule():
    def of(count, n):
        made = study(
            arms={"a": {}},
            baseline="a",
            seeds=tuple(range(n)),
            expect=(diverges("a", ""),),
        )
        values = {"a": {s: None if s < count else 1.0 for s in range(n)}}
        return verdicts.judge(made.expect[0], values, made)["verdict"]

    assert of(8, 8) == YES and of(0, 8) == NO
    assert of(2, 2) == UNKNOWN  # Clopper-Pearson: from 16 %


@pytest.mark.parametrize(
    "low, high, verdict", [(0.5, 1.5, YES), (2, 3, NO), (1.0, 1.5, UNKNOWN)]
)
def test_within_holds_the_whole_interval(low, high, verdict):
    assert judged(within("a", low, high, ""), a=GOOD, b=BAD) == verdict


def test_the_overall_word_is_the_least_flattering_one():
    assert verdicts.overall([YES, YES]) == YES
    assert verdicts.overall([YES, UNKNOWN]) == UNKNOWN
    assert verdicts.overall([YES, UNKNOWN, NO]) == NO
    assert verdicts.overall([NO, LACKING]) == LACKING


@pytest.mark.parametrize(
    "identical, verdict", [(0.0, YES), (1e-9, NO), (None, LACKING)]
)
def test_determinism_is_to_the_last_bit(identical, verdict):
    noise = {"identical": identical, "other_seeds": None}
    assert verdicts._identical(noise, study())["verdict"] == verdict


def test_environments_that_differ_are_named():
    one, other = {"jax": "0.10", "gpu": "none"}, {"jax": "0.11", "gpu": "none"}
    assert verdicts._differences([one, one]) == []
    assert verdicts._differences([one, other]) == ["jax: 0.10 | 0.11"]
    json.dumps(verdicts._differences([one, {}]))
