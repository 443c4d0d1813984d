"""The analysis of a study: differences, verdicts and what became of the expectation."""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from experiments import cells, outcomes, sizes, stats
from experiments.cells import FINAL, FINISHED, IDENTICAL, OTHER_SEEDS
from experiments.plan import Plan
from experiments.study import Expectation, Study

REPRODUCED, NOT_REPRODUCED = "REPRODUCED", "NOT REPRODUCED"
UNDERPOWERED, INCOMPLETE = "UNDERPOWERED", "INCOMPLETE"
CONFIDENCE = 0.95


def analyse(plan: Plan) -> dict:
    """All that the report says, as plain JSON; computed from run directories alone.

    Source of the statistics: see ``experiments.stats``; every arm is compared with the
    baseline on pairs of equal seeds, Holm over arms.
    """
    study, rows = plan.study, plan.rows()
    chosen, trials = plan.chosen()
    measured = plan.sizes()
    values = values_of(plan)
    others = [arm for arm in study.arms if arm != study.baseline]
    compared = _compare(values, others, study)
    arms = [
        {
            "name": arm,
            "overrides": dict(study.arms[arm]),
            "chosen": chosen.get(arm, {}),
            "edge": bool(study.tune) and outcomes.at_edge(study, chosen.get(arm, {})),
            **_alone(values[arm]),
            **compared[arm],
            **_cost(rows, arm, measured[arm], plan),
        }
        for arm in study.arms
    ]
    noise = _noise(rows, study, values[study.baseline])
    expectations = [
        {"text": e.text, **judge(e, values_of(plan, e), study, noise)}
        for e in study.expect
    ]
    verdict = overall([e["verdict"] for e in expectations])
    answer = _answer(verdict, expectations)
    edges = [arm["name"] for arm in arms if arm["edge"]]
    if edges and verdict != INCOMPLETE:
        verdict = INCOMPLETE
        answer = (
            f"What suits {', '.join(edges)} best lies at the edge of what was tried; "
            "widen the grid before concluding anything."
        )
    environments = outcomes.environments(plan.cells())
    return {
        "name": plan.name,
        "scale": plan.scale,
        "question": " ".join(plan.question.split()),
        "source": " ".join(plan.source.split()),
        "caveat": " ".join(
            filter(None, [study.caveat, _count_caveat(study, measured)])
        ),
        "answer": answer,
        "verdict": verdict,
        "expectations": expectations,
        "metric": study.metric,
        "goal": study.goal,
        "match": study.match,
        "sesoi": study.sesoi,
        "baseline": study.baseline,
        "seeds": list(study.seeds),
        "tune_seeds": list(study.tune_seeds),
        "fixed_rate": study.fixed_rate,
        "exploratory": plan.register(),
        "noise": noise,
        "arms": arms,
        "runs": rows,
        "curves": outcomes.curves(study, plan.cells()),
        "tuning": trials,
        "environment": environments[-1] if environments else {},
        "mixed_environments": _differences(environments),
        "excluded": [
            {"id": r["id"], "reason": r["status"]}
            for r in rows
            if r["status"] not in FINISHED
        ],
        "commands": [f"python -m experiments.run {plan.name}:{plan.scale}"],
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _count_caveat(study, measured):
    counts = {size.get("count", 1) for size in measured.values()}
    if study.match != "flops" or counts == {sizes.COUNT}:
        return ""
    return "FLOPs are XLA's count, which takes the body of a loop once."


def values_of(
    plan: Plan, expectation: Expectation | None = None
) -> dict[str, dict[int, float | None]]:
    """Arm -> seed -> metric; None where the run diverged.

    Args: expectation: take its metric, of its arms; by default the study's, of all.
    """
    values = {arm: {} for arm in plan.study.arms}
    metric, wanted = plan.study.metric, values
    if expectation and expectation.metric:
        metric, wanted = expectation.metric, expectation.arms
    for cell in plan.cells():
        ended = cell.phase == FINAL and cells.status(cell).name in FINISHED
        if ended and cell.arm in wanted:
            found = outcomes.metric(cell, metric)
            values[cell.arm][cell.seed] = found
    return values


def _by_seed(rows, arm, phase):
    """Seed -> metric, None where the run diverged; unfinished runs are left out."""
    return {
        r["seed"]: r["metric"]
        for r in rows
        if (r["arm"], r["phase"]) == (arm, phase) and r["status"] in FINISHED
    }


def _pairs(a: Mapping, b: Mapping) -> list[int]:
    """Seeds of which both runs ended with a number."""
    return [s for s in a if a[s] is not None and b.get(s) is not None]


def _differences_of(a, b):
    return [a[s] - b[s] for s in _pairs(a, b)]


def _compare(values, others, study):
    """Arm -> word and difference; Holm over all arms but the baseline."""
    base = values[study.baseline]
    samples = [_differences_of(values[arm], base) for arm in others]
    paired = [stats.paired(d, CONFIDENCE) for d in samples]
    adjusted = stats.holm([p.p for p in paired])
    intervals = stats.holm_intervals(samples, CONFIDENCE)
    found = {study.baseline: {"word": "baseline", "difference": None}}
    for arm, d, p, p_holm, interval in zip(
        others, samples, paired, adjusted, intervals, strict=True
    ):
        ends = sorted(set(values[arm]) & set(base))
        both = [values[arm][s] for s in ends], [base[s] for s in ends]
        low, high = interval or (None, None)
        difference = {
            **p._asdict(),
            "p_holm": p_holm,
            "low_holm": low,
            "high_holm": high,
            "rho": stats.correlation(*both),
            "sign_flip_p": stats.sign_flip(d, _rng()) if p.n >= 6 else None,
            "bca": stats.bca(d, _rng()),
            "mde": stats.minimum_detectable_effect(p.sd, p.n),
            **stats.wins(*both, study.goal)._asdict(),
        }
        word = "incomplete"
        if set(values[arm]) >= set(study.seeds):
            word = stats.verdict(
                d,
                interval,
                goal=study.goal,
                sesoi=study.sesoi,
                seeds=len(values[arm]),
                diverged=sum(v is None for v in values[arm].values()),
            )
        found[arm] = {"word": word, "difference": difference if p.n else None}
    return found


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
        for r in rows
        if r["arm"] == arm and r["phase"] == FINAL and r["seconds"]
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
    return {
        "parameters": size.get("parameters"),
        "flops_per_step": size.get("flops_per_step"),
        "tokens": tokens * steps if tokens and steps else None,
        "seconds": statistics.fmean(seconds) if seconds else None,
        "memory_bytes": max(memory, default=None),
    }


def _noise(rows, study, base):
    """What chance alone does to the baseline."""
    again = _by_seed(rows, study.baseline, IDENTICAL)
    identical = [abs(d) for d in _differences_of(again, base)]
    fresh = [v for v in _by_seed(rows, study.baseline, OTHER_SEEDS).values() if v]
    first = [v for v in base.values() if v is not None]
    apart = [a - b for a, b in zip(fresh, first, strict=False)]
    p = stats.paired(apart, CONFIDENCE)
    other = dict(mean=p.mean, sd=p.sd, low=p.low, high=p.high, n=p.n) if p.n else None
    return {"identical": max(identical, default=None), "other_seeds": other}


def judge(expectation: Expectation, values: Mapping, study: Study, noise=None) -> dict:
    """``verdict`` and ``detail`` of one published finding."""
    missing = [a for a in expectation.arms if set(values[a]) < set(study.seeds)]
    if missing:
        return {"verdict": INCOMPLETE, "detail": f"runs of {', '.join(missing)} lack"}
    if expectation.goal:
        study = dataclasses.replace(study, goal=expectation.goal)
    if expectation.kind in OF_NOISE:
        return OF_NOISE[expectation.kind](noise, study)
    return PREDICATES[expectation.kind](expectation, values, study)


def _better(expectation, values, study):
    arm, than = (values[name] for name in expectation.arms)
    p = stats.paired(_differences_of(arm, than), CONFIDENCE)
    detail = f"{' minus '.join(expectation.arms)}: {_interval(p)}"
    lost = [all(v is None for v in side.values()) for side in (arm, than)]
    if any(lost):
        names = [n for n, gone in zip(expectation.arms, lost, strict=True) if gone]
        word = REPRODUCED if lost == [False, True] else NOT_REPRODUCED
        return {"verdict": word, "detail": f"{' and '.join(names)} diverged"}
    if p.low is None:
        return {"verdict": UNDERPOWERED, "detail": f"only {p.n} pairs"}
    good = p.high < 0 if study.goal == "min" else p.low > 0
    bad = p.low > 0 if study.goal == "min" else p.high < 0
    if good:
        return {"verdict": REPRODUCED, "detail": detail}
    small = stats.equivalent(_differences_of(arm, than), study.sesoi) < 1 - CONFIDENCE
    word = NOT_REPRODUCED if bad or small else UNDERPOWERED
    return {"verdict": word, "detail": detail}


def _equivalent(expectation, values, study):
    arm, to = (values[name] for name in expectation.arms)
    d = _differences_of(arm, to)
    p = stats.paired(d, CONFIDENCE)
    if p.low is None:
        return {"verdict": UNDERPOWERED, "detail": f"only {p.n} pairs"}
    names = " minus ".join(expectation.arms)
    detail = f"{names}: {_interval(p)}, margin ±{study.sesoi:g}"
    if stats.equivalent(d, study.sesoi) < 1 - CONFIDENCE:
        return {"verdict": REPRODUCED, "detail": detail}
    outside = p.low > study.sesoi or p.high < -study.sesoi
    return {"verdict": NOT_REPRODUCED if outside else UNDERPOWERED, "detail": detail}


def _monotone(expectation, values, study):
    """Each step is judged as ``better``; one that goes the wrong way decides."""
    arms = expectation.arms
    steps = [
        _better(Expectation("better", (b, a), ""), values, study)
        for a, b in zip(arms, arms[1:], strict=False)
    ]
    detail = "; ".join(step["detail"] for step in steps)
    return {"verdict": overall([s["verdict"] for s in steps]), "detail": detail}


def _diverges(expectation, values, study):
    found = values[expectation.arms[0]]
    count = sum(v is None for v in found.values())
    low, high = stats.clopper_pearson(count, len(found))
    detail = f"{count} of {len(found)} diverged, 95 % interval {low:.2f} to {high:.2f}"
    if low > 0.5:
        return {"verdict": REPRODUCED, "detail": detail}
    return {"verdict": NOT_REPRODUCED if high < 0.5 else UNDERPOWERED, "detail": detail}


def _within(expectation, values, study):
    found = [v for v in values[expectation.arms[0]].values() if v is not None]
    p = stats.paired(found, CONFIDENCE)  # of the values themselves
    low, high = expectation.low, expectation.high
    if p.low is None:
        return {"verdict": UNDERPOWERED, "detail": f"only {p.n} runs"}
    detail = f"{_interval(p)}, expected {low:g} to {high:g}"
    if low <= p.low and p.high <= high:
        return {"verdict": REPRODUCED, "detail": detail}
    outside = p.high < low or p.low > high
    return {"verdict": NOT_REPRODUCED if outside else UNDERPOWERED, "detail": detail}


def _identical(noise, study):
    if noise["identical"] is None:
        return {"verdict": INCOMPLETE, "detail": "no run was made twice"}
    word = REPRODUCED if noise["identical"] == 0.0 else NOT_REPRODUCED
    return {"verdict": word, "detail": f"largest difference {noise['identical']:g}"}


def _steady(noise, study):
    p = noise["other_seeds"]
    if p is None or p["low"] is None:
        return {"verdict": INCOMPLETE, "detail": "runs of other seeds lack"}
    detail = f"{p['mean']:+.4g} [{p['low']:.4g}, {p['high']:.4g}], n = {p['n']}"
    inside = -study.sesoi <= p["low"] and p["high"] <= study.sesoi
    apart = p["low"] > study.sesoi or p["high"] < -study.sesoi
    word = REPRODUCED if inside else NOT_REPRODUCED if apart else UNDERPOWERED
    return {"verdict": word, "detail": f"{detail}, margin ±{study.sesoi:g}"}


OF_NOISE: dict[str, Callable] = {"identical": _identical, "steady": _steady}
PREDICATES: dict[str, Callable] = {
    "better": _better,
    "equivalent": _equivalent,
    "monotone": _monotone,
    "diverges": _diverges,
    "within": _within,
}


def overall(verdicts: Sequence[str]) -> str:
    """One word for several: a contradiction counts most, then what is not known."""
    order = (INCOMPLETE, NOT_REPRODUCED, UNDERPOWERED, REPRODUCED)
    return next(word for word in order if word in verdicts)


def _interval(p):
    if p.low is None:
        return f"{p.mean:.4g} (n = {p.n})" if p.n else "no pairs"
    return f"{p.mean:+.4g} [{p.low:+.4g}, {p.high:+.4g}], n = {p.n}"


def _answer(verdict, expectations):
    lead = {
        REPRODUCED: "The published finding was reproduced",
        NOT_REPRODUCED: "The published finding was not reproduced",
        UNDERPOWERED: "These runs cannot tell",
        INCOMPLETE: "Runs are missing",
    }[verdict]
    decisive = next(e for e in expectations if e["verdict"] == verdict)
    return f"{lead}: {decisive['text']} ({decisive['detail']})."


def _differences(environments):
    """What differs between the machines and versions of the runs, in words."""
    names = sorted({name for each in environments for name in each})
    return [
        f"{name}: " + " | ".join(sorted({str(e.get(name)) for e in environments}))
        for name in names
        if len({e.get(name) for e in environments}) > 1
    ]
