"""Answers: the verdict of a study, and the sentences that say why."""

import math
from collections.abc import Mapping, Sequence

from experiments.statistics import findings, stats
from experiments.statistics.findings import (
    CONFIDENCE,
    INCOMPLETE,
    NOT_REPRODUCED,
    REPRODUCED,
    UNDERPOWERED,
    overall,
)
from experiments.study import FEWEST_SEEDS

BETTER, WORSE, EQUIVALENT = "BETTER", "WORSE", "EQUIVALENT"
CANNOT_TELL, CHECK_FAILED = "CANNOT TELL", "CHECK FAILED"
HOLDS, MEASURED = "HOLDS", "MEASURED"
VERDICTS = {  # of a study -> what it says
    REPRODUCED: "All published findings that the study expects were found.",
    NOT_REPRODUCED: "One of them is contradicted.",
    UNDERPOWERED: "No contradiction; of one, or of a check, these runs cannot tell.",
    BETTER: "An arm is better than the baseline.",
    CANNOT_TELL: "None is better; of one, or of a check, these runs cannot tell.",
    EQUIVALENT: "None is better, and the differences of some are too small to matter.",
    WORSE: "All arms are worse than the baseline.",
    HOLDS: "No finding is published; each arm has a check, and all of them hold.",
    MEASURED: "One arm, compared with nothing.",
    CHECK_FAILED: "What must be there was not found, so nothing is concluded.",
    INCOMPLETE: "Runs are missing, or a tuned value is at the edge of what was tried.",
}
OF_WORD = {  # word of an arm (``stats.verdict``) -> verdict on it
    "better": BETTER,
    stats.NEGLIGIBLY + "better": EQUIVALENT,
    "equivalent": EQUIVALENT,
    stats.NEGLIGIBLY + "worse": EQUIVALENT,
    "worse": WORSE,
}
TOLD = (BETTER, EQUIVALENT, WORSE)
LOST = ("diverged", "baseline diverged")
CHECKED = {
    REPRODUCED: "holds",
    NOT_REPRODUCED: "failed",
    UNDERPOWERED: "undecided",
    INCOMPLETE: "incomplete",
}


def at_the_edge(arms: Sequence[str], searched: bool) -> str:
    """What is to be done where ``arms`` are best at the end of a range, or a grid."""
    more = "try more points, or wider ranges" if searched else "widen the grid"
    best = f"What suits {', '.join(arms)} best lies at the edge of what was tried"
    return f"{best}; {more}"


def headline(report: Mapping) -> tuple[str, str]:
    """The verdict of an analysis, and why.

    It is on what was published, or, if nothing is expected to be, on what was found:
    ``leading``. No check makes a verdict better, and one that does not hold blocks all
    but NOT REPRODUCED: a study that does not find what must be there would not find a
    difference either (assay sensitivity, ICH E10, section 1.5).
    Args: report: of ``verdicts.analyse``, but for its verdict and answer.
    """
    arms, expected = report["arms"], report["expectations"]
    if edges := [arm["name"] for arm in arms if arm["edge"]]:
        return INCOMPLETE, f"{at_the_edge(edges, bool(report.get('search')))}."
    published = [e for e in expected if e.get("claim", "published") == "published"]
    checks = [e for e in expected if e not in published]
    held = overall([check["verdict"] for check in checks]) if checks else REPRODUCED
    blocked = {NOT_REPRODUCED: CHECK_FAILED, INCOMPLETE: INCOMPLETE}
    blocked[UNDERPOWERED] = UNDERPOWERED if published else CANNOT_TELL
    if not published and not is_open(report):
        return blocked.get(held, HOLDS), " ".join(map(_check, checks))
    verdict, lead, said = _published(published) if published else _found(report)
    answer, blocking = lead + said, None
    if held in blocked and verdict not in (NOT_REPRODUCED, INCOMPLETE):
        blocking = next(check for check in checks if check["verdict"] == held)
        blocks = f"{_check(blocking)} It blocks the verdict, which would be {verdict}"
        verdict, answer = blocked[held], f"{blocks}: {said}"
    rest = [_check(check) for check in checks if check is not blocking]
    return verdict, " ".join([answer, *rest])


def is_open(report: Mapping) -> bool:
    """Whether arms are there for no finding, and for no check of their own."""
    arms, expected = report["arms"], report["expectations"]
    if any(e.get("claim", "published") == "published" for e in expected):
        return False
    alone = {effect["of"] for e in expected for effect in e.get("effects", ())}
    checked = len(arms) == 1 or {arm["name"] for arm in arms} <= alone
    return not (expected and checked)


def _check(check):
    return f"Check {CHECKED[check['verdict']]}: {check['text']} ({check['detail']})."


def _published(published):
    verdict = overall([e["verdict"] for e in published])
    decisive = next(e for e in published if e["verdict"] == verdict)
    lead = {
        REPRODUCED: "The published finding was reproduced",
        NOT_REPRODUCED: "The published finding was not reproduced",
        UNDERPOWERED: "These runs cannot tell",
        INCOMPLETE: "Runs are missing",
    }[verdict]
    detail, could = decisive["detail"], decisive.get("detectable")
    if verdict == UNDERPOWERED and could:
        detail += f"; {could}"
    return verdict, f"{lead}: ", f"{decisive['text']} ({detail})."


def leading(report: Mapping) -> tuple[str, dict | None]:
    """Of an open question: the verdict, and the arm that stands for it.

    The verdict is the first that any arm has of BETTER, CANNOT TELL, EQUIVALENT and
    WORSE; arms that diverge have none where another has one. The arm of the best mean
    among those stands for them; none where runs are missing, or nothing is compared.
    """
    arms, baseline = report["arms"], report["baseline"]
    base = next(arm for arm in arms if arm["name"] == baseline)
    others = [arm for arm in arms if arm is not base]
    if any(len(arm["values"]) < len(report["seeds"]) for arm in arms):
        return INCOMPLETE, None
    if not others:
        return MEASURED, None
    level = _level(report)
    verdicts = [of_arm(arm, base, level) for arm in others]
    order = (BETTER, CANNOT_TELL, EQUIVALENT, WORSE, "")
    verdict = next(word for word in order if word in verdicts)
    arm = _best(
        [a for a, v in zip(others, verdicts, strict=True) if v == verdict], report
    )
    return verdict or CANNOT_TELL, arm


def _found(report):
    """The verdict of ``leading``, and why."""
    arms, baseline = report["arms"], report["baseline"]
    base = next(arm for arm in arms if arm["name"] == baseline)
    verdict, arm = leading(report)
    if verdict == INCOMPLETE:
        short = [a["name"] for a in arms if len(a["values"]) < len(report["seeds"])]
        return INCOMPLETE, "Runs are missing: ", f"some of {', '.join(short)}."
    if arm is None:
        return _alone(base, report)
    name, word = arm["name"], arm["word"]
    if verdict == CANNOT_TELL:
        lead = f"These runs cannot tell {name} from {baseline}"
    elif verdict == WORSE and len(arms) > 2:
        lead = f"None is as good as {baseline}; {name} comes closest"
    elif word == "equivalent":
        lead = f"{name} is equivalent to {baseline}"
    else:
        lead = f"{name} is {verdict.lower() if word in LOST else word} than {baseline}"
    detail = _detail(arm, base)
    if verdict == EQUIVALENT and report["sesoi"]:
        detail += f", margin ±{report['sesoi']:g}"
    return verdict, "", f"{lead} ({detail}). {_seen(arm, verdict, report)}"


def of_arm(arm: Mapping, base: Mapping, level: float = 1 - CONFIDENCE) -> str:
    """On one arm; "" if most of its runs diverged, and chance may have done it."""
    if arm["word"] not in LOST:
        return OF_WORD.get(arm["word"], CANNOT_TELL)
    lost, other = arm["diverged"]["count"], base["diverged"]["count"]
    if stats.rates_differ(lost, other, arm["diverged"]["n"]) >= level:
        return ""
    if arm["word"] == "baseline diverged":
        return BETTER
    return WORSE if lost > other else ""


def _best(arms, report):
    """That of the best mean; one that lost a seed loses against any that lost fewer."""
    sign = {"min": 1, "max": -1}[report["goal"]]

    def cost(arm):
        mean = math.inf if arm["mean"] is None else sign * arm["mean"]
        return arm["diverged"]["count"], mean

    return min(arms, key=cost)


def _detail(arm, base):
    """The difference, with the interval on which the arm's word rests."""
    d = arm["difference"] or dict.fromkeys(("mean", "low_holm", "high_holm")) | {"n": 0}
    interval = findings.interval(d["n"], d["mean"], d["low_holm"], d["high_holm"])
    detail = f"{arm['name']} minus {base['name']}: {interval}"
    if d.get("tests", 1) > 1:
        detail += f", adjusted for {d['tests']} arms"
    return detail + "".join(map(_lost, (arm, base)))


def _lost(arm):
    of = arm["diverged"]
    times = f"{of['count']} of {of['n']} times"
    return f"; {arm['name']} diverged {times}" if of["count"] else ""


def _seen(arm, verdict, report):
    """Which arm has the best mean, and which effect would have been found."""
    best, said = _best(report["arms"], report), []
    if best["mean"] is not None:
        mean = f"{best['name']}, {best['mean']:.4g} ({best['word']})"
        said.append(f"Best {report['metric']}: {mean}.")
    difference = arm["difference"] or {"n": 0, "mde": None}
    if difference["mde"] is not None:
        seen = f"{difference['mde']:.2g}"
        said.append(f"Smallest effect these runs could have seen: {seen}.")
    elif difference["n"] < FEWEST_SEEDS:
        said.append(f"Fewer than {FEWEST_SEEDS} pairs tell no effect from none.")
    if verdict == CANNOT_TELL and not report["sesoi"]:
        said.append("No effect of interest is given, so none is called equivalent.")
    return " ".join(said)


def _level(report):
    """Of a single test, at the look that was taken if there are several."""
    return (report.get("looks") or {}).get("nominal", 1 - CONFIDENCE)


def _alone(arm, report):
    """One arm, compared with nothing."""
    values = [value for value in arm["values"].values() if value is not None]
    p = stats.paired(values, 1 - _level(report))
    mean = findings.interval(p.n, p.mean, p.low, p.high, "runs")
    return MEASURED, "", f"{report['metric']} of {arm['name']}: {mean}{_lost(arm)}."
