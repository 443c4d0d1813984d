"""Answers: the verdict of a study, and the sentences that say why."""

import math
from collections.abc import Mapping

from experiments.statistics import findings, stats
from experiments.statistics.findings import (
    CONFIDENCE,
    INCOMPLETE,
    NOT_REPRODUCED,
    REPRODUCED,
    UNDERPOWERED,
    overall,
)

BETTER, WORSE, EQUIVALENT = "BETTER", "WORSE", "EQUIVALENT"
CANNOT_TELL, CHECK_FAILED = "CANNOT TELL", "CHECK FAILED"
HOLDS, MEASURED = "HOLDS", "MEASURED"
VERDICTS = {  # of a study -> what it says
    REPRODUCED: "all that was published and is expected here was found",
    NOT_REPRODUCED: "some of it was not, or the contrary was",
    UNDERPOWERED: "these runs cannot tell whether it holds",
    BETTER: "an arm is better than the baseline",
    CANNOT_TELL: "none is shown to be better, but of some these runs cannot tell",
    EQUIVALENT: "none is better, and some differ by less than the effect of interest",
    WORSE: "all arms are worse than the baseline",
    HOLDS: "nothing was published or compared; what was checked holds",
    CHECK_FAILED: "what must hold does not, so nothing is concluded",
    MEASURED: "one arm, compared with nothing",
    INCOMPLETE: "runs are missing, or the best rate of an arm may lie beyond the grid",
}
OF_WORD = {  # word of an arm (``stats.verdict``) -> verdict on it
    "better": BETTER,
    "better" + stats.BELOW: EQUIVALENT,
    "equivalent": EQUIVALENT,
    "worse" + stats.BELOW: EQUIVALENT,
    "worse": WORSE,
}
LOST = ("diverged", "baseline diverged")
CHECKED = {
    REPRODUCED: "holds",
    NOT_REPRODUCED: "failed",
    UNDERPOWERED: "undecided",
    INCOMPLETE: "incomplete",
}


def headline(report: Mapping) -> tuple[str, str]:
    """The verdict of an analysis, and why.

    It is on what was published, or, if nothing is expected to be, on what was found:
    ``_found``. No check makes a verdict better, and one that does not hold blocks all
    but NOT REPRODUCED: a study that does not find what must be there would not find a
    difference either (assay sensitivity, ICH E10, section 1.5).
    Args: report: of ``verdicts.analyse``: arms, expectations and what they are of.
    """
    expected = report["expectations"]
    published = [e for e in expected if e.get("claim", "published") == "published"]
    checks = [e for e in expected if e not in published]
    if published:
        verdict, answer = _published(published)
    else:
        verdict, answer = _found(report)
    blocking = None
    if checks and verdict not in (NOT_REPRODUCED, INCOMPLETE):
        held = overall([check["verdict"] for check in checks])
        unknown = UNDERPOWERED if published else CANNOT_TELL
        blocked = {NOT_REPRODUCED: CHECK_FAILED, UNDERPOWERED: unknown, REPRODUCED: ""}
        if blocked := blocked.get(held, held):
            blocking = next(check for check in checks if check["verdict"] == held)
            verdict = blocked
            answer = f"{_check(blocking)} It blocks the verdict. But for it: {answer}"
    rest = (_check(check) for check in checks if check is not blocking)
    return verdict, " ".join([answer, *rest])


def _check(check):
    because = "" if check["verdict"] == REPRODUCED else f" ({check['detail']})"
    return f"Check {CHECKED[check['verdict']]}: {check['text']}{because}."


def _published(published):
    verdict = overall([e["verdict"] for e in published])
    decisive = next(e for e in published if e["verdict"] == verdict)
    lead = {
        REPRODUCED: "The published finding was reproduced",
        NOT_REPRODUCED: "The published finding was not reproduced",
        UNDERPOWERED: "These runs cannot tell",
        INCOMPLETE: "Runs are missing",
    }[verdict]
    return verdict, f"{lead}: {decisive['text']} ({decisive['detail']})."


def _found(report):
    """Of an open question: whether an arm is better than the baseline, and which.

    The verdict is the first that any arm has of BETTER, CANNOT TELL, EQUIVALENT and
    WORSE; arms that diverge have none where another has one. The arm of the best mean
    among those stands for them.
    """
    arms, baseline = report["arms"], report["baseline"]
    lack = [a["name"] for a in arms if len(a["values"]) < len(report["seeds"])]
    if lack:
        return INCOMPLETE, f"Runs are missing: runs of {', '.join(lack)} lack."
    base = next(arm for arm in arms if arm["name"] == baseline)
    others = [arm for arm in arms if arm is not base]
    if not others:
        return _alone(base, report)
    found = [_verdict(arm, base) for arm in others]
    order = (BETTER, CANNOT_TELL, EQUIVALENT, WORSE, "")
    verdict = next(word for word in order if word in found)
    arm = _best([a for a, v in zip(others, found, strict=True) if v == verdict], report)
    name, verdict = arm["name"], verdict or CANNOT_TELL
    lead = {
        BETTER: f"{name} is better than {baseline}",
        CANNOT_TELL: f"These runs cannot tell {name} from {baseline}",
        EQUIVALENT: f"{name} is equivalent to {baseline}",
        WORSE: f"{name} is worse than {baseline}",
    }[verdict]
    if verdict == WORSE and len(others) > 1:
        lead = f"{baseline} is better than all others; {name} comes closest"
    return verdict, f"{lead} ({_detail(arm, base)}). {_seen(arm, report)}"


def _verdict(arm, base):
    """On one arm; "" if most of its runs diverged, and chance may have done it."""
    if arm["word"] not in LOST:
        return OF_WORD.get(arm["word"], CANNOT_TELL)
    lost, other = arm["diverged"]["count"], base["diverged"]["count"]
    if stats.rates_differ(lost, other, arm["diverged"]["n"]) >= 1 - CONFIDENCE:
        return ""
    if arm["word"] == "baseline diverged":
        return BETTER
    return WORSE if lost > other else ""


def _best(arms, report):
    """That of the best mean; those that have none come last."""
    sign = {"min": 1, "max": -1}[report["goal"]]
    means = [arm["mean"] for arm in arms]
    costs = [math.inf if mean is None else sign * mean for mean in means]
    return arms[costs.index(min(costs))]


def _detail(arm, base):
    """The difference as the word of the arm rests on it, and what is not in it."""
    d = arm["difference"] or {"n": 0, "mean": None, "low_holm": None, "high_holm": None}
    interval = findings.interval(d["n"], d["mean"], d["low_holm"], d["high_holm"])
    detail = f"{arm['name']} minus {base['name']}: {interval}"
    lost = [(each["name"], each["diverged"]) for each in (arm, base)]
    return detail + "".join(
        f"; {name} diverged {of['count']} of {of['n']} times"
        for name, of in lost
        if of["count"]
    )


def _seen(arm, report):
    """Which arm has the best mean, and which effect would have been found."""
    best = _best(report["arms"], report)
    said = []
    if best["mean"] is not None:
        said.append(f"Best {report['metric']}: {best['name']}, {best['mean']:.4g}.")
    mde = (arm["difference"] or {}).get("mde")
    if mde is not None:
        said.append(f"Smallest effect these runs could have seen: {mde:.4g}.")
    return " ".join(said)


def _alone(arm, report):
    """One arm is compared with nothing: checks of it, or its mean."""
    checks = report["expectations"]
    if checks:
        held = "; ".join(f"{e['text']} ({e['detail']})" for e in checks)
        return HOLDS, f"What was checked holds: {held}."
    values = [value for value in arm["values"].values() if value is not None]
    p = stats.paired(values, CONFIDENCE)
    mean = findings.interval(p.n, p.mean, p.low, p.high, "runs")
    lost = arm["diverged"]
    gone = f"; {lost['count']} of {lost['n']} diverged" if lost["count"] else ""
    return MEASURED, f"{report['metric']} of {arm['name']}: {mean}{gone}."
