"""The analysis of a study: differences, verdicts and what became of the expectation."""

import statistics
from datetime import UTC, datetime

import numpy as np

from experiments import registration
from experiments.costs import sizes
from experiments.plan import Plan
from experiments.runs import outcomes
from experiments.runs.cells import FINAL, FINISHED, IDENTICAL, OTHER_SEEDS
from experiments.statistics import (
    answers,
    findings,
    measured,
    power,
    search,
    stats,
)
from experiments.statistics.findings import (
    CONFIDENCE,
    INCOMPLETE,
    UNDERPOWERED,
    judge,
)
from experiments.statistics.sequential import look_of
from experiments.study import CLAIMS, Expectation, Study


def analyse(plan: Plan) -> dict:
    """All that the report says, as plain JSON; computed from run directories alone.

    Source of the statistics: see ``stats``; every arm is compared with the
    baseline on pairs of equal seeds; ``findings.planned`` says what is adjusted.
    """
    study, rows = plan.study, plan.rows()
    chosen, sized = plan.chosen, plan.sizes
    values = outcomes.values_of(study, plan.finals)
    others = [arm for arm in study.arms if arm != study.baseline]
    compared = _compare(values, others, study)
    arms = [
        {
            "name": arm,
            "overrides": dict(study.arms[arm]),
            "chosen": chosen.get(arm, {}),
            "edge": arm in plan.edges,
            **_alone(values[arm]),
            **compared[arm],
            **_cost(rows, arm, sized[arm], plan),
        }
        for arm in study.arms
    ]
    _mark_edges(arms, study.baseline)
    noise = _noise(rows, study, values[study.baseline])
    edges = {arm["name"] for arm in arms if arm["edge"]}
    by_metric = outcomes.values_by_metric(study, plan.finals)
    kept = registration.compared(plan)
    judged = [
        stated(e, study) | became | power.of_expectation(e, study, by_metric)
        for e, became in zip(study.expect, _judged(plan, noise, edges), strict=True)
    ]
    judged.sort(key=lambda e: CLAIMS.index(e["claim"]))  # what was published leads
    environments = outcomes.environments(plan.runs)
    report = {
        "name": plan.name,
        "scale": plan.scale,
        "question": " ".join(plan.question.split()),
        "source": " ".join(plan.source.split()),
        "caveat": _caveat(plan),
        "expectations": judged,
        "metric": study.metric,
        "goal": study.goal,
        "match": study.match,
        "unit": next((c.costly.workload.counted for c in plan.cells()), "tokens"),
        "sesoi": study.sesoi,
        "solved": study.solved,
        "baseline": study.baseline,
        "seeds": list(study.seeds),
        "tune_seeds": list(study.tune_seeds),
        "fixed_rate": study.fixed_rate,
        "looks": _looks(plan),
        "detectable": _detectable(study, by_metric, kept),
        "exploratory": kept["changes"],
        "noise": noise,
        "arms": arms,
        "runs": rows,
        "curves": outcomes.curves(study, plan.runs),
        "measured": measured.curves(study, plan.runs),
        "tuning": list(plan.trials),
        "search": search.analyse(study, plan.trials),
        "environment": environments[-1] if environments else {},
        "conditions": measured.conditions(plan.runs),
        "mixed_environments": _differences(environments),
        "excluded": [
            {"id": r["id"], "reason": r["status"]}
            for r in rows
            if r["status"] not in FINISHED
        ],
        "commands": [plan.command],
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    verdict, answer = answers.headline(report)
    return report | {"verdict": verdict, "answer": answer}


def decided(plan: Plan) -> bool:
    """Whether nothing is left that more seeds could tell.

    That is every expectation, and of an open question also every arm, by the intervals
    of this look alone: what an earlier one told must hold. It is not for seeds to move
    an optimum off the edge of its grid, so that such a study is done.
    """
    study, values = plan.study, outcomes.values_of(plan.study, plan.finals)
    if plan.edges:
        return True
    noise = _noise(plan.rows(), study, values[study.baseline])
    if any(e["verdict"] == UNDERPOWERED for e in _judged(plan, noise, ())):
        return False
    others = [arm for arm in study.arms if arm != study.baseline]
    if study.published or not others:
        return True
    compared = _compare(values, others, study)
    arms = {arm: _alone(values[arm]) | compared[arm] for arm in study.arms}
    level = look_of(study).nominal(1 - CONFIDENCE)
    return all(
        answers.of_arm(arms[arm], arms[study.baseline], level) in answers.TOLD
        for arm in others
    )


def _judged(plan, noise, edges):
    study, judged = plan.study, []
    for e in study.expect:
        values = outcomes.values_of(study, plan.finals, e)
        judged.append(_untuned(e, edges) or judge(e, values, study, noise))
    return judged


def stated(expectation: Expectation, study: Study) -> dict:
    """An expectation as it stands in the report."""
    bounds = [expectation.low, expectation.high]
    return {
        "text": expectation.text,
        "claim": expectation.claim,
        "kind": expectation.kind,
        "metric": expectation.metric or study.metric,
        "goal": expectation.goal or study.goal,
        "sesoi": study.sesoi_of(expectation),
        "bounds": bounds if expectation.kind == "within" else [],
        "reported": list(expectation.reported),
    }


def _looks(plan):
    """Of a group-sequential study: looks planned and taken, alpha spent; else None."""
    look, alpha = look_of(plan.study), 1 - CONFIDENCE
    ended = all(run.status.finished for run in plan.finals)
    if not plan.study.looks:
        return None
    taken = look.number if ended else look.number - 1
    return {
        "planned": list(look.planned),
        "taken": taken,
        "nominal": look.nominal(alpha),
        "spent": look._replace(number=taken).spent(alpha) if taken else 0.0,
        "decided": ended and decided(plan),
    }


def _mark_edges(arms, baseline):
    """What is compared with an arm that has not been tuned to its end has no word."""
    edge = next(arm["edge"] for arm in arms if arm["name"] == baseline)
    for arm in arms:
        if (arm["edge"] or edge) and arm["word"] not in ("baseline", "incomplete"):
            arm["word"] = "at the edge" if arm["edge"] else "baseline at the edge"


def _untuned(expectation, edges):
    if named := [arm for arm in expectation.arms if arm in edges]:
        detail = f"optimum of {', '.join(named)} at the edge of what was tried"
        return {"verdict": INCOMPLETE, "detail": detail, "effects": []}
    return None


def _caveat(plan):
    study, count = plan.study, _count_caveat(plan.study, plan.sizes)
    caveats = study.caveat, *plan.caveats, _rate_caveat(study), count
    return " ".join(filter(None, caveats))


def _rate_caveat(study):
    if study.tune or study.fixed_rate or study.probe:
        return ""
    return "No learning rate was tuned: each arm has that of its configuration."


def _count_caveat(study, measured):
    counts = {size.get("count", 1) for size in measured.values()}
    if study.match != "flops" or counts == {sizes.COUNT}:
        return ""
    return "FLOPs are XLA's count, which takes the body of a loop once."


def _detectable(study, values, kept):
    """See ``power``; before the runs with what was assumed when they were planned."""
    assumed = kept.get("assumed", {"source": "", "sd": {}})
    return {
        "power": power.POWER,
        "source": assumed["source"],
        "before": power.before(study, assumed["sd"]),
        "after": power.after(study, values, power.comparisons(study)),
    }


def _by_seed(rows, arm, phase):
    """Seed -> metric, None where the run diverged; unfinished runs are left out."""
    return {
        r["seed"]: r["metric"]
        for r in rows
        if (r["arm"], r["phase"]) == (arm, phase) and r["status"] in FINISHED
    }


def _compare(values, others, study):
    """Arm -> word and difference; Holm over the arms no expectation compares."""
    base = values[study.baseline]
    pairs = {arm: findings.pairs(values[arm], base) for arm in others}
    alone = findings.planned(study)
    families = [[arm] for arm in others if arm in alone]
    families.append([arm for arm in others if arm not in alone])
    compared = {study.baseline: {"word": "baseline", "difference": None}}
    look = look_of(study)
    terms = findings.Terms(study.goal, study.sesoi, look)
    for family in families:
        samples = [pairs[arm].differences for arm in family]
        nominal = [look.paired(d, CONFIDENCE).p for d in samples]
        p_values = [look.p_value(p) for p in nominal]
        samples = [
            [] if p is None else d for d, p in zip(samples, nominal, strict=True)
        ]
        adjusted = stats.holm(p_values)
        intervals = stats.holm_intervals(samples, CONFIDENCE, look.nominal)
        tests = sum(p is not None for p in adjusted)
        for arm, p_holm, interval in zip(family, adjusted, intervals, strict=True):
            word = "incomplete"
            if set(values[arm]) >= set(study.seeds) <= set(base):
                word = pairs[arm].word(terms, interval)
            difference = _difference(pairs[arm], values[arm], base, study, tests)
            if difference:
                low, high = interval or (None, None)
                difference |= {"p_holm": p_holm, "low_holm": low, "high_holm": high}
            compared[arm] = {"word": word, "difference": difference}
    return compared


def _difference(pairs, values, base, study, tests):
    """What is known of an arm minus the baseline; None without a complete pair.

    Args: tests: arms that Holm's adjustment is over.
    """
    d, look = pairs.differences, look_of(study)
    p = look.paired(d, CONFIDENCE)
    ends = sorted(set(values) & set(base))
    both = [values[s] for s in ends], [base[s] for s in ends]
    if not p.n:
        return None
    level = (1 - CONFIDENCE) / max(tests, 1)  # Holm's first step, the strictest
    return {
        **p._asdict(),
        "p": look.p_value(p.p),
        "tests": tests,
        "rho": stats.correlation(*both),
        "sign_flip_p": look.p_value(stats.sign_flip(d, _rng()) if p.n >= 6 else None),
        "bca": stats.bca(d, _rng(), look.confidence(CONFIDENCE)),
        "mde": None
        if p.p is None
        else stats.minimum_detectable_effect(p.sd, p.n, look.nominal(level)),
        **stats.wins(*both, study.goal)._asdict(),
    }


def _rng():
    return np.random.default_rng(0)  # resampling is part of the report, not of chance


def _alone(values):
    real = [v for v in values.values() if v is not None]
    count = len(values) - len(real)
    low, high = stats.clopper_pearson(count, len(values))
    return {
        "values": {str(seed): value for seed, value in sorted(values.items())},
        "n": len(real),
        "mean": statistics.fmean(real) if real else None,
        "sd": statistics.stdev(real) if len(real) > 1 else None,
        "diverged": {"count": count, "n": len(values), "low": low, "high": high},
    }


def _cost(rows, arm, size, plan):
    seconds = [
        r["seconds"]
        for r in rows  # a run that diverged ended early, which is no speed
        if (r["arm"], r["phase"], r["status"]) == (arm, FINAL, "done") and r["seconds"]
    ]
    steps = next(
        (c.costly.train.total_steps for c in plan.cells() if c.arm == arm), None
    )
    tokens = size.get("tokens_per_step")
    memory = [
        r["memory_bytes"]
        for r in rows
        if r["arm"] == arm and r["phase"] == FINAL and r["memory_bytes"]
    ]
    counted = [r["parameters"] for r in rows if r["arm"] == arm and r["parameters"]]
    return {
        "parameters": size.get("parameters", max(counted, default=None)),
        "flops_per_step": size.get("flops_per_step"),
        "tokens": tokens * steps if tokens and steps else None,
        "seconds": statistics.fmean(seconds) if seconds else None,
        "memory_bytes": max(memory, default=None),
    }


def _noise(rows, study, base):
    """What chance alone does to the baseline.

    Returns: of the seeds that were run twice ``repeated``, ``unlike`` (one of the two
        diverged) and ``identical``, the largest difference; ``other_seeds``, the mean
        of other seeds minus that of the study's, once all of them have ended.
    """
    again = _by_seed(rows, study.baseline, IDENTICAL)
    twice = [(again[seed], base[seed]) for seed in again if seed in base]
    fresh = _by_seed(rows, study.baseline, OTHER_SEEDS)
    both = [*fresh.values()], [*base.values()]
    other, first = ([v for v in side if v is not None] for side in both)
    p = stats.unpaired(other, first, look_of(study).confidence(CONFIDENCE))
    floor = {
        "mean": p.mean,
        "low": p.low,
        "high": p.high,
        "n": p.n,
        "n_first": p.n_other,
        "diverged": sum(v is None for side in both for v in side),
    }
    ended = fresh and set(fresh) >= set(study.other_seeds)
    return {
        "repeated": len(twice),
        "unlike": sum((a is None) != (b is None) for a, b in twice),
        "identical": max(
            (abs(a - b) for a, b in twice if None not in (a, b)), default=None
        ),
        "other_seeds": floor if ended else None,
    }


def _differences(environments):
    """What differs between the machines and versions of the runs, in words."""
    names = sorted({name for each in environments for name in each})
    return [
        f"{name}: " + " | ".join(sorted({str(e.get(name)) for e in environments}))
        for name in names
        if len({e.get(name) for e in environments}) > 1
    ]
