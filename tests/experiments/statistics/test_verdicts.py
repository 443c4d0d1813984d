import dataclasses
import json

import pytest
from scipy.stats import ttest_ind

from experiments.report import tables
from experiments.runs import cells
from experiments.statistics import answers, findings, verdicts
from experiments.study import (
    better,
    check,
    diverges,
    equivalent,
    identical,
    monotone,
    on,
    steady,
    within,
    worse,
)
from tests.experiments.report.reports import example
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
    return findings.judge(expectation, values, made)["verdict"]


YES, NO = findings.REPRODUCED, findings.NOT_REPRODUCED
UNKNOWN, LACKING = findings.UNDERPOWERED, findings.INCOMPLETE


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
    "metric, sesoi, verdict",
    [
        ("valid/nll", 0.0, NO),
        ("test/nll", 0.0, NO),  # the same score, of other text
        ("valid/other", 0.0, UNKNOWN),  # 0.1 nats say nothing of it
        ("valid/other", 0.1, NO),
        ("valid/other", 1e-6, UNKNOWN),
    ],
)
def test_what_is_too_small_to_matter_is_in_the_unit_of_the_metric(
    metric, sesoi, verdict
):
    claim = on(metric, better("a", "b", ""), sesoi=sesoi)
    assert judged(claim, a=CLOSE, b=GOOD) == verdict


def test_an_effect_of_interest_is_said_once_and_for_each_score():
    for claim, words in (
        (on("valid/accuracy", equivalent("pre", "post", "")), "give on\\(\\) a sesoi"),
        (on("valid/nll", better("pre", "post", ""), sesoi=0.5), "that of valid/nll is"),
        (on("test/nll", better("pre", "post", ""), sesoi=-1.0), "sesoi=-1.0 must be"),
    ):
        with pytest.raises(ValueError, match=words):
            study(expect=(claim,))
    study(expect=(on("valid/accuracy", equivalent("pre", "post", ""), sesoi=0.01),))


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
        return findings.judge(made.expect[0], values, made)["verdict"]

    # one-sided bounds: 0.05 ** (1 / 5) = 0.549, 0.05 ** (1 / 4) = 0.473
    assert of(5, 5) == of(7, 8) == of(8, 8) == YES
    assert of(0, 5) == of(0, 8) == NO
    assert of(2, 2) == of(4, 4) == of(0, 4) == of(4, 5) == UNKNOWN


def test_too_few_seeds_to_tell_a_divergence_say_how_many_can():
    few, enough = (study(seeds=tuple(range(n))) for n in (4, 5))
    for made, said in ((few, True), (enough, False)):
        values = {"pre": dict.fromkeys(made.seeds, 1.0) | {0: None}}
        judged = findings.judge(diverges("pre", ""), values, made)
        assert judged["verdict"] == UNKNOWN and ("5 can" in judged["detail"]) == said


@pytest.mark.parametrize(
    "low, high, verdict", [(0.5, 1.5, YES), (2, 3, NO), (1.0, 1.5, UNKNOWN)]
)
def test_within_holds_the_whole_interval(low, high, verdict):
    assert judged(within("a", low, high, ""), a=GOOD, b=BAD) == verdict


def test_the_overall_word_is_the_least_flattering_one():
    assert findings.overall([YES, YES]) == YES
    assert findings.overall([YES, UNKNOWN]) == UNKNOWN
    assert findings.overall([YES, UNKNOWN, NO]) == NO
    assert findings.overall([NO, LACKING]) == LACKING


def judged_as(text, claim, verdict):
    return dict(text=text, claim=claim, verdict=verdict, detail="n = 5")


def headline_of(judged):
    arm = dict(name="a", values={"0": 1.0}, mean=1.0, edge=False)
    return answers.headline(dict(arms=[arm], seeds=[0], expectations=judged))


def test_what_was_published_leads_whatever_comes_first():
    ours = judged_as("order is lost", "check", YES)
    theirs = judged_as("learned equals sinusoidal", "published", YES)
    for order in ([ours, theirs], [theirs, ours]):
        verdict, answer = headline_of(order)
        lead, _, rest = answer.partition(". ")
        assert verdict == YES
        assert lead == (
            "The published finding was reproduced: learned equals sinusoidal (n = 5)"
        )
        assert rest == "Check holds: order is lost (n = 5)."


@pytest.mark.parametrize(
    "theirs, ours, word, said",
    [
        (NO, YES, NO, "was not reproduced: theirs (n = 5). Check holds: ours (n = 5)."),
        (NO, NO, NO, "was not reproduced: theirs (n = 5). Check failed: ours (n = 5)."),
        (UNKNOWN, NO, answers.CHECK_FAILED, "be UNDERPOWERED: theirs (n = 5)."),
        (YES, NO, answers.CHECK_FAILED, "would be REPRODUCED: theirs (n = 5)."),
        (YES, UNKNOWN, UNKNOWN, "would be REPRODUCED: theirs (n = 5)."),
        (YES, LACKING, LACKING, "would be REPRODUCED: theirs (n = 5)."),
    ],
)
def test_a_check_is_reported_and_makes_no_verdict_better(theirs, ours, word, said):
    found = [judged_as("ours", "check", ours), judged_as("theirs", "published", theirs)]
    verdict, answer = headline_of(found)
    assert verdict == word and answer.endswith(said)
    assert "blocks the verdict" in answer or verdict == theirs == NO


def test_checks_alone_claim_no_publication():
    for ours, word in (
        (YES, answers.HOLDS),
        (NO, answers.CHECK_FAILED),
        (UNKNOWN, answers.CANNOT_TELL),
    ):
        verdict, answer = headline_of([judged_as("ours", "check", ours)])
        assert verdict == word and "ublished" not in answer


@pytest.mark.parametrize(
    ("of", "word"),
    [("has", answers.WORSE), ("lacks", answers.HOLDS), ("lacks minus has", "WORSE")],
)
def test_where_each_arm_has_a_check_nothing_is_left_open(of, word):
    """One without is compared with the baseline, and that is told."""
    words = {"has": "baseline", "lacks": "worse"}
    report = example(arms=list(words), tuned=False)
    for arm in report["arms"]:
        arm["word"] = words[arm["name"]]
    checks = [judged_as(name, "check", YES) for name in ("has", of)]
    for one in checks:
        one["effects"] = [{"of": one["text"]}]
    verdict, answer = answers.headline(report | {"expectations": checks})
    assert verdict == word and answer.count("Check holds") == 2


@pytest.mark.parametrize("verdict", answers.CHECKED)
def test_a_check_has_one_word_in_the_table_and_the_sentence(verdict):
    expectations = [judged_as("ours", "check", verdict)]
    (row,) = tables.findings({"expectations": expectations})
    _, answer = headline_of(expectations)
    assert verdict == LACKING or f"Check {row['word'].lower()}" in answer
    assert row["word"] == answers.CHECKED[verdict].upper()


def test_an_arm_at_the_edge_of_its_grid_is_compared_with_nothing():
    words_of = {
        "pre": "baseline",
        "post": "better",
        "none": "worse",
        "new": "incomplete",
    }
    for edge, words in (
        ("post", ["baseline", "at the edge", "worse", "incomplete"]),
        ("pre", ["baseline", *2 * ["baseline at the edge"], "incomplete"]),
    ):
        arms = [dict(name=a, word=w, edge=a == edge) for a, w in words_of.items()]
        verdicts._mark_edges(arms, "pre")
        assert [arm["word"] for arm in arms] == words
        verdict, answer = answers.headline(dict(arms=arms, expectations=[]))
        assert verdict == LACKING and f"What suits {edge} best lies at" in answer
    assert verdicts._untuned(better("post", "none", ""), {"none"})["verdict"] == LACKING
    assert not verdicts._untuned(better("post", "none", ""), {"pre"})


def test_a_finding_on_another_metric_names_it():
    values = {"pre": dict.fromkeys(range(3), 0.5), "post": dict.fromkeys(range(3), 0.4)}
    for metric, start in (("", "pre minus"), ("k4/accuracy", "k4/accuracy, pre minus")):
        claim = on(metric, better("pre", "post", ""), goal="max" if metric else "")
        outcome = findings.judge(claim, values, study(expect=(claim,)))
        assert outcome["detail"].startswith(start)


def test_an_expectation_is_published_unless_it_is_a_check():
    assert better("a", "b", "").claim == "published"
    assert check(better("a", "b", "")).claim == "check"
    with pytest.raises(ValueError, match="claim='ours'; choose from"):
        wrong = dataclasses.replace(better("pre", "post", ""), claim="ours")
        study(expect=(wrong,))


def noise_of(study, base, again=None, fresh=None):
    """``verdicts._noise`` of runs of the baseline: seed -> value."""
    phases = {cells.IDENTICAL: again or {}, cells.OTHER_SEEDS: fresh or {}}
    rows = [
        dict(arm=study.baseline, phase=phase, seed=seed, metric=value, status="done")
        for phase, values in phases.items()
        for seed, value in values.items()
    ]
    return verdicts._noise(rows, study, base)


@pytest.mark.parametrize(
    "first, again, verdict",
    [
        ({0: 1.5, 1: 0.0}, {0: 1.5, 1: 0.0}, YES),
        ({0: 1.5, 1: 0.0}, {0: 1.5, 1: 1e-9}, NO),
        ({0: 1.5, 1: 0.0}, {0: 1.5, 1: None}, NO),  # one of two diverged
        ({0: 1.5, 1: None}, {0: 1.5, 1: None}, YES),
        ({0: None, 1: None}, {0: None, 1: None}, UNKNOWN),
        ({0: 1.5, 1: 0.0}, {0: 1.5}, LACKING),
        ({0: 1.5, 1: 0.0}, {}, LACKING),
    ],
)
def test_determinism_is_to_the_last_bit(first, again, verdict):
    twice = study(identical=(0, 1))
    noise = noise_of(twice, first, again)
    found = findings.judge(
        identical("pre", ""), {"pre": {0: 1, 1: 1, 2: 1}}, twice, noise
    )
    assert found["verdict"] == verdict


def steadiness(base, fresh, sesoi=0.5):
    other = study(other_seeds=tuple(range(100, 100 + len(base))), sesoi=sesoi)
    noise = noise_of(other, base, fresh=fresh)
    values = {"pre": dict.fromkeys(other.seeds, 1.0)}
    return findings.judge(steady("pre", ""), values, other, noise), noise["other_seeds"]


def test_unrelated_seeds_are_not_paired():
    """Welch's interval is that of scipy, and no order of the seeds changes it."""
    base = dict(enumerate((0.1, 0.9, 0.4, 0.6)))
    values = (0.8, 0.2, 0.5, 0.5)
    found = [
        steadiness(base, dict(enumerate(order, 100)))
        for order in (values, sorted(values), sorted(values, reverse=True))
    ]
    test = ttest_ind(values, tuple(base.values()), equal_var=False)
    for _, floor in found:
        ends = floor["low"], floor["high"]
        assert ends == pytest.approx(test.confidence_interval())
    assert found[0][0] == found[1][0] == found[2][0]


def test_a_score_of_zero_counts():
    base = dict(enumerate((0.0, 0.0, 0.1, 0.1)))
    fresh = {100 + seed: value for seed, value in base.items()}
    judged, floor = steadiness(base, fresh)
    assert judged["verdict"] == YES
    assert (floor["n"], floor["n_first"], floor["mean"]) == (4, 4, 0.0)


@pytest.mark.parametrize(
    "fresh, verdict",
    [
        ({100: 0.1, 101: 0.1, 102: 0.1, 103: 0.0}, YES),
        ({100: 9.1, 101: 9.2, 102: 9.1, 103: 9.0}, NO),
        ({100: 0.1, 101: 0.1, 102: 0.1, 103: None}, UNKNOWN),
        ({100: 0.1, 101: 0.1, 102: 0.1}, LACKING),
    ],
)
def test_other_seeds_give_the_same_mean_if_all_of_them_end(fresh, verdict):
    base = dict(enumerate((0.0, 0.05, 0.1, 0.1)))
    assert steadiness(base, fresh)[0]["verdict"] == verdict


def test_environments_that_differ_are_named():
    one, other = {"jax": "0.10", "gpu": "none"}, {"jax": "0.11", "gpu": "none"}
    assert verdicts._differences([one, one]) == []
    assert verdicts._differences([one, other]) == ["jax: 0.10 | 0.11"]
    json.dumps(verdicts._differences([one, {}]))
