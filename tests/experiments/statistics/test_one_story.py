"""One screen tells one story: the words beside arms, the verdict and its sentence.

Intervals, margins, seeds, lost seeds, goals, further arms and kinds of expectation are
enumerated; what the report prints of each is compared with itself.
"""

import collections
import dataclasses
import itertools
import re

import numpy as np
from scipy.stats import t

from experiments.statistics import answers, findings, verdicts
from experiments.study import (
    better,
    check,
    diverges,
    equivalent,
    monotone,
    within,
    worse,
)
from tests.experiments.test_study import study

UNIT = 0.1
MEANS = (-3, -1.2, -0.4, 0, 0.4, 1.2, 3)  # of the difference; as all of these in UNIT
HALVES = (0, 0.3, 1, 2, 4)  # half the width of its 95 % interval
MARGINS = (0, 1, 2)
LOST = {  # seeds, of five, that the arm and the baseline lose
    "none": ((), ()),
    "arm": ((0,), ()),
    "baseline": ((), (0,)),
    "the same": ((0,), (0,)),
    "different ones": ((0,), (1,)),
    "most of the arm": ((0, 1, 2), ()),
    "most of the baseline": ((), (0, 1, 2)),
    "all of the arm": (range(5), ()),
    "all of the baseline": ((), range(5)),
    "all": (range(5), range(5)),
}
OTHERS = {  # a third arm: difference to the baseline, spread
    "": None,
    "good": (-5 * UNIT, 0.01),
    "bad": (5 * UNIT, 0.01),
    "noisy": (0.0, 3.0),
}
EXPECTED = [
    (),
    (better("a", "b", "a wins"),),
    (worse("a", "b", "a loses"),),
    (monotone(("b", "a"), "ever better"),),
    (diverges("a", "a diverges"),),
    (within("a", -9, 9, "a is small"),),
    (within("a", 8, 9, "a is large"),),
    (better("a", "b", "a wins"), worse("a", "b", "a loses")),
]
EQUAL = [(equivalent("a", "b", "a equals b"),)]
UNKNOWN = {"no difference detected", "no difference after Holm", "undecided"}
UNKNOWN |= {"anecdotal"}
SMALL = {"equivalent", "negligibly better", "negligibly worse"}
GONE = {"diverged", "baseline diverged"}
CLAIMED = {  # kind and arms -> what "a" is said to be against "b"
    ("better", ("a", "b")): "better",
    ("monotone", ("b", "a")): "better",
    ("better", ("b", "a")): "worse",
}


def sample(n, mean, half, goal):
    """The baseline, and an arm worse by mean +- half, its 95 % interval."""
    shape = np.arange(n) - (n - 1) / 2
    spread = half * np.sqrt(n) / t.ppf(0.975, n - 1) / shape.std(ddof=1)
    base = 1 + 0.25 * np.cos(np.arange(n))
    sign = 1 if goal == "min" else -1
    return base, base + sign * (mean + spread * shape)


def cases():
    """(seeds, goal, mean, half, margin, lost, other)"""
    every = list(itertools.product(MEANS, HALVES, MARGINS))
    for shape in every:
        yield 5, "min", *shape, "none", ""
    for shape in every[::2]:
        yield 3, "max", *shape, "none", ""
    for shape in every[::7]:
        yield 2, "min", *shape, "none", ""
        for other in OTHERS:
            yield 5, "max", *shape, "none", other
    for mean, lost, goal in itertools.product(MEANS[::2], LOST, ("min", "max")):
        yield 5, goal, mean, 0.3, 1, lost, ""
        yield 5, goal, mean, 0.3, 1, lost, "bad"


def screens():
    """What ``verdicts.analyse`` makes of each case and expectation."""
    for n, goal, mean, half, margin, lost, other in cases():
        base, arm = sample(n, mean * UNIT, half * UNIT, goal)
        of_arm, of_base = LOST[lost]
        values = {"b": lose(base, of_base), "a": lose(arm, of_arm)}
        if other:
            shift, spread = OTHERS[other]
            values["c"] = lose(base + shift + spread * np.sin(7.0 * np.arange(n)), ())
        made = study(
            arms={name: {} for name in values},
            baseline="b",
            seeds=tuple(range(n)),
            sesoi=margin * UNIT,
            goal=goal,
            expect=(),
        )
        known = {}  # arms by those that are tested alone, which is what takes time
        for expect in EXPECTED + EQUAL * (margin > 0):
            for claim in [tuple, lambda e: tuple(map(check, e))][: 1 + bool(expect)]:
                asked = dataclasses.replace(made, expect=claim(expect))
                alone = frozenset(findings.planned(asked))
                if alone not in known:
                    known[alone] = arms_of(values, asked)
                yield analysed(values, asked, known[alone])


def lose(values, seeds):
    return {i: None if i in seeds else float(v) for i, v in enumerate(values)}


def arms_of(values, made):
    compared = verdicts._compare(values, [arm for arm in values if arm != "b"], made)
    return [
        {"name": arm, "edge": False, **verdicts._alone(values[arm]), **compared[arm]}
        for arm in values
    ]


def analysed(values, made, arms):
    report = {
        "arms": arms,
        "expectations": [
            {"text": e.text, "claim": e.claim, "kind": e.kind, "arms": e.arms}
            | findings.judge(e, values, made)
            for e in made.expect
        ],
        **{name: getattr(made, name) for name in ("seeds", "metric", "goal", "sesoi")},
        "baseline": "b",
    }
    verdict, answer = answers.headline(report)
    return report | {"verdict": verdict, "answer": answer}


def contradictions(report):
    """Whatever two places of the screen do not agree in."""
    yield from itertools.chain.from_iterable(
        _beside(arm, report) for arm in report["arms"][1:]
    )
    yield from itertools.chain.from_iterable(
        _of_finding(e, report) for e in report["expectations"]
    )
    yield from _of_checks(report)
    if all(e["claim"] == "check" for e in report["expectations"]):
        yield from _of_open(report)
    else:
        yield from _of_published(report)


def _beside(arm, report):
    """The word of an arm and the interval printed beside it."""
    word, d, margin = arm["word"], arm["difference"], report["sesoi"] or 1e-300
    lost = arm["diverged"]["count"] or report["arms"][0]["diverged"]["count"]
    if d is None or d["low_holm"] is None:
        if word not in UNKNOWN | GONE:
            yield f"{word} without an interval"
        return
    sign = 1 if report["goal"] == "min" else -1
    low, high = sorted(sign * d[end] for end in ("low_holm", "high_holm"))
    side = "better" if high < 0 else "worse" if low > 0 else ""
    small = -margin < low and high < margin
    if side not in word and word not in {"undecided"} | GONE:
        yield f"{word} beside an interval that is {side}"
    if not side and word not in {"equivalent"} | UNKNOWN | GONE:
        yield f"{word} beside an interval that includes 0"
    if (word in SMALL) != small and not lost:
        yield f"{word} beside an interval that is small: {small}"


def _of_finding(e, report):
    """The word of an arm and what became of an expectation of it."""
    word, verdict = report["arms"][1]["word"], e["verdict"]
    said = f"{word}, but {e['text']}: {verdict}"
    if e["kind"] in ("better", "monotone"):
        known = CLAIMED[e["kind"], e["arms"]]
        legal = {
            findings.REPRODUCED: word.endswith(known),
            findings.NOT_REPRODUCED: word not in UNKNOWN and not word.endswith(known),
            findings.UNDERPOWERED: word in UNKNOWN,
        }
        if not legal[verdict] and word not in GONE:
            yield said
    if e["kind"] == "equivalent":
        legal = {
            findings.REPRODUCED: word in SMALL,
            findings.NOT_REPRODUCED: word in {"better", "worse"} | GONE,
            findings.UNDERPOWERED: word in UNKNOWN | GONE
            or f"{word}, by less or by more than the margin" in e["detail"],
        }
        if not legal[verdict]:
            yield said
    if e["kind"] == "diverges" and verdict != findings.UNDERPOWERED:
        if (verdict == findings.REPRODUCED) != (word == "diverged"):
            yield said


def _of_checks(report):
    """A check that does not hold blocks; all are listed with the word they have."""
    checks = [e for e in report["expectations"] if e["claim"] == "check"]
    held = {e["verdict"] for e in checks} <= {findings.REPRODUCED}
    if not held and report["verdict"] not in (
        answers.CHECK_FAILED,
        answers.CANNOT_TELL,
        findings.UNDERPOWERED,
        findings.NOT_REPRODUCED,
    ):
        yield f"{report['verdict']} with a check that does not hold"
    if held and report["verdict"] == answers.CHECK_FAILED:
        yield f"{report['verdict']}, and none did"
    for e in checks:
        said = f"Check {answers.CHECKED[e['verdict']]}: {e['text']} ({e['detail']})."
        if report["answer"].count(said) != 1:
            yield f"not said once: {said}"


def _of_open(report):
    words, verdict = {arm["word"] for arm in report["arms"][1:]}, report["verdict"]
    legal = {
        answers.BETTER: words & {"better", "baseline diverged"},
        answers.CANNOT_TELL: not words & {"better"},
        answers.EQUIVALENT: words & SMALL and words <= SMALL | {"worse"} | GONE,
        answers.WORSE: words <= {"worse"} | GONE,
        answers.CHECK_FAILED: True,
    }
    blocked = "blocks the verdict" in report["answer"]
    if not legal.get(verdict) and not blocked:
        yield f"{verdict} of {words}"
    if "REPRODUCED" in verdict or "ublished" in report["answer"]:
        yield f"{verdict} without a publication"
    (sentence,) = re.fullmatch(
        r"(?:Check .* would be [A-Z ]+: )?(.*?)(?: Check .*)?", report["answer"]
    ).groups()
    (arm,) = (a for a in report["arms"][1:] if f"({a['name']} minus b: " in sentence)
    d = arm["difference"] or dict(n=0, mean=None, low_holm=None, high_holm=None)
    shown = findings.interval(d["n"], d["mean"], d["low_holm"], d["high_holm"])
    if f"{arm['name']} minus b: {shown}" not in sentence:
        yield "another interval in the sentence than beside the arm"
    said = sentence.partition(" (")[0]
    if arm["word"] in SMALL | {"better", "worse"} and not said.startswith("None is"):
        if f"{arm['name']} is {arm['word']} " not in said:
            yield f"{said}, but {arm['word']}"
    if (
        arm["word"] in UNKNOWN
        and said != f"These runs cannot tell {arm['name']} from b"
    ):
        yield f"{said}, but {arm['word']}"
    best = re.search(r"Best valid/nll: (\w), \S+ \(([^)]*)\)", sentence)
    if best and best[2] != next(
        a["word"] for a in report["arms"] if a["name"] == best[1]
    ):
        yield f"{best[0]}, which is not the word beside it"


def _of_published(report):
    became = [e["verdict"] for e in report["expectations"]]
    if report["verdict"] != findings.overall(became):
        yield f"{report['verdict']} of {became}"


def test_no_two_stories_on_one_screen():
    told = collections.Counter()
    for report in screens():
        assert list(contradictions(report)) == [], report
        told[report["verdict"]] += 1
    never = {findings.INCOMPLETE, answers.HOLDS, answers.MEASURED}
    assert told.keys() == answers.VERDICTS.keys() - never
