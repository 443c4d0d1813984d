"""No arm gains by losing seeds, and an arm has one word everywhere."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.statistics import findings, verdicts
from experiments.statistics.findings import NOT_REPRODUCED as NO
from experiments.statistics.findings import REPRODUCED as YES
from experiments.statistics.findings import UNDERPOWERED as UNKNOWN
from experiments.study import better, equivalent, monotone, within, worse
from tests.experiments.test_study import study

SESOI = 0.3
GAPS = {  # arm minus baseline at each of five seeds
    "far better": (-1.0, -1.1, -0.9, -1.05, -1.0),
    "a little better": (-0.1, -0.11, -0.09, -0.1, -0.1),
    "equal": (0.01, -0.02, 0.01, 0.0, 0.01),
    "far worse": (1.0, 1.1, 0.9, 1.05, 1.0),
    "mixed": (1.0, -2.0, 0.5, -0.5, 1.0),
}


def of(a, b, goal="min", sesoi=SESOI, expect=None, **others):
    """The word of ``a`` against the baseline ``b``, and ``judge`` of an expectation."""
    values = {"a": a, "b": b, **others}
    made = study(
        arms={arm: {} for arm in values},
        baseline="b",
        seeds=tuple(range(len(b))),
        expect=(expect or better("a", "b", ""),),
        sesoi=sesoi,
        goal=goal,
    )
    samples = {arm: dict(enumerate(sample)) for arm, sample in values.items()}

    def judged(expectation):
        return findings.judge(expectation, samples, made)["verdict"]

    compared = verdicts._compare(samples, [arm for arm in values if arm != "b"], made)
    return compared["a"]["word"], judged


def states(n):
    """Every way for two arms to lose some of ``n`` seeds."""
    kept = itertools.product(itertools.product((True, False), repeat=2), repeat=n)
    return [tuple(zip(*each, strict=True)) for each in kept]


def lose(values, kept):
    return tuple(v if k else None for v, k in zip(values, kept, strict=True))


CASES = [(3, name, goal) for name in GAPS for goal in ("min", "max")]
CASES += [(4, "far better", "min"), (4, "equal", "max")]


@pytest.mark.parametrize("n, gaps, goal", CASES)
def test_no_word_favours_the_arm_that_lost_more_seeds(n, gaps, goal):
    """Every way for two arms to lose some of their seeds."""
    sign = 1 if goal == "min" else -1
    b = [sign * (0.5 + 0.1 * seed) for seed in range(n)]
    a = [x + sign * gap for x, gap in zip(b, GAPS[gaps], strict=False)]
    for kept in states(n):
        arm, base = lose(a, kept[0]), lose(b, kept[1])
        more = arm.count(None) - base.count(None)
        word, judged = of(arm, base, goal)
        if more:
            assert word != "equivalent" and "negligibly" not in word, kept
            for pair in (("a", "b"), ("b", "a")):
                assert judged(equivalent(*pair, "")) != YES, kept
        if more > 0:
            assert not word.startswith("better"), kept
            assert judged(better("a", "b", "")) != YES, kept
            assert judged(monotone(("b", "a"), "")) != YES, kept
            assert judged(worse("a", "b", "")) != NO, kept
        if more < 0:
            assert not word.startswith("worse"), kept
            assert judged(worse("a", "b", "")) != YES, kept
            assert judged(better("a", "b", "")) != NO, kept
        if None in arm:
            assert judged(within("a", -9, 9, "")) != YES, kept


@pytest.mark.parametrize("lost", [(0, 1), (3, 4), (0, 2, 4)])
def test_three_good_seeds_of_five_reproduce_nothing(lost):
    b = (1.0, 1.1, 0.9, 1.0, 1.05)
    arm = [x + gap for x, gap in zip(b, GAPS["far better"], strict=True)]
    assert of(arm, b)[1](better("a", "b", "")) == YES
    for seed in lost:
        arm[seed] = None
    word, judged = of(arm, b)
    assert word == ("undecided" if len(lost) == 2 else "diverged")
    assert judged(better("a", "b", "")) == judged(monotone(("b", "a"), "")) == UNKNOWN


@pytest.mark.parametrize("n, verdict", [(1, UNKNOWN), (2, UNKNOWN), (3, NO), (5, NO)])
def test_two_arms_of_which_all_runs_diverge_are_compared_from_three_seeds_on(
    n, verdict
):
    _, judged = of([None] * n, [None] * n)
    assert judged(better("a", "b", "")) == judged(worse("a", "b", "")) == verdict


def test_seeds_that_both_lose_are_left_out():
    b = (1.0, 1.1, 0.9, None, None)
    for name, verdict in {"far better": YES, "equal": NO, "far worse": NO}.items():
        a = [None if x is None else x + g for x, g in zip(b, GAPS[name], strict=True)]
        assert of(a, b)[1](better("a", "b", "")) == verdict


def test_losing_more_of_its_seeds_never_helps_an_arm():
    """Of the five seeds of an arm that is better, one after the other diverges."""
    order = [YES, UNKNOWN, NO]
    b = (1.0, 1.1, 0.9, 1.0, 1.05)
    arm = [x + gap for x, gap in zip(b, GAPS["far better"], strict=True)]
    found = []
    for seed in range(5):
        found.append(of(arm, b)[1](better("a", "b", "")))
        arm[seed] = None
    found.append(of(arm, b)[1](better("a", "b", "")))
    assert found == sorted(found, key=order.index)
    assert found[0] == YES and found[-1] == NO  # Fisher: 0 and 5 of 5, p = 0.008


WORDS = {  # of an arm -> what may become of: it is better, worse, equivalent
    "better": ({YES}, {NO}, {NO, UNKNOWN}),
    "negligibly better": ({YES}, {NO}, {YES}),
    "worse": ({NO}, {YES}, {NO, UNKNOWN}),
    "negligibly worse": ({NO}, {YES}, {YES}),
    "equivalent": ({NO}, {NO}, {YES}),
    "no difference detected": ({UNKNOWN},) * 3,
    "undecided": ({UNKNOWN},) * 3,
    "anecdotal": ({UNKNOWN},) * 3,
    "diverged": ({NO, UNKNOWN}, {YES, NO, UNKNOWN}, {NO, UNKNOWN}),
    "baseline diverged": ({YES, UNKNOWN}, {NO, UNKNOWN}, {NO, UNKNOWN}),
}
VALUES = st.none() | st.integers(-20, 20).map(lambda i: i / 8)
PAIRS = st.integers(3, 6).flatmap(
    lambda n: st.tuples(*2 * [st.lists(VALUES, min_size=n, max_size=n)])
)
CLOSE = st.lists(st.integers(-2, 2).map(lambda i: 1 + i / 8), min_size=5, max_size=5)


@settings(deadline=None)
@given(PAIRS | st.tuples(CLOSE, CLOSE), st.sampled_from(["min", "max"]))
def test_the_table_and_the_findings_tell_one_story(pair, goal):
    word, judged = of(*pair, goal)
    claims = (better("a", "b", ""), worse("a", "b", ""), equivalent("a", "b", ""))
    for claim, allowed in zip(claims, WORDS[word], strict=True):
        assert judged(claim) in allowed, (word, claim.kind)
    mirrored, _ = of(*pair[::-1], goal)
    turned = {"better": "worse", "worse": "better"}
    if {word, mirrored} <= WORDS.keys() - {"diverged", "baseline diverged"}:
        *rest, last = word.split()
        assert mirrored.split() == [*rest, turned.get(last, last)]


@settings(deadline=None, max_examples=50)
@given(PAIRS, st.integers(1, 6), st.sampled_from([better, equivalent]))
def test_arms_that_are_added_change_no_word_of_a_finding(pair, count, claim):
    n, expect = len(pair[0]), claim("a", "b", "")
    others = {f"other{i}": [1.0 + i * s for s in range(n)] for i in range(count)}
    assert of(*pair, expect=expect)[0] == of(*pair, expect=expect, **others)[0]


def test_arms_without_a_finding_are_adjusted_for_their_number():
    b = (1.0, 1.1, 0.9, 1.0, 1.05)
    gaps = (0.5, 2.0, 1.0, 1.5, 0.2)  # p = 0.025
    tried = {f"c{i}": [x + g for x, g in zip(b, gaps, strict=True)] for i in range(4)}
    a = tried["c0"]
    assert of(a, b, expect=worse("a", "b", ""), **tried)[0] == "worse"
    word, _ = of(a, b, expect=better("c0", "c1", ""), **tried)
    assert word == "no difference after Holm"


def test_one_more_seed_never_turns_worse_into_equivalent():
    """A small and certain difference is both, and its word says both."""
    gaps = (0.004, 0.001, 0.008, 0.003, 0.005, -0.004)
    for n in (4, 5, 6):
        b = [1.0] * n
        word, judged = of([x + g for x, g in zip(b, gaps, strict=False)], b, sesoi=0.02)
        assert judged(equivalent("a", "b", "")) == YES
        assert word in ("negligibly worse", "equivalent")
