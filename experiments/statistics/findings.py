"""Findings: what became of each expectation of a study, from its arms' values."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.statistics import stats
from experiments.statistics.sequential import Look, look_of
from experiments.study import FEWEST_SEEDS, Expectation, Study

REPRODUCED, NOT_REPRODUCED = "REPRODUCED", "NOT REPRODUCED"
UNDERPOWERED, INCOMPLETE = "UNDERPOWERED", "INCOMPLETE"
VERDICTS = (INCOMPLETE, NOT_REPRODUCED, UNDERPOWERED, REPRODUCED)  # worst first
CONFIDENCE = 0.95
NOTHING = sys.float_info.min  # a smallest effect of interest: no effect is below it
ONE_SIDED = 2 * CONFIDENCE - 1  # of an interval of which one end matters
TIED = "; all the same, as so few may be by chance"
# word of an arm against another (``stats.verdict``) -> what becomes of "it is better"
OF_WORD = {
    "better": REPRODUCED,
    stats.NEGLIGIBLY + "better": REPRODUCED,
    "worse": NOT_REPRODUCED,
    stats.NEGLIGIBLY + "worse": NOT_REPRODUCED,
    "equivalent": NOT_REPRODUCED,
}


class Terms(NamedTuple):
    """By what the differences of one score are judged.

    Attributes:
        goal: "min" or "max". sesoi: the smallest effect of interest; 0 if unknown.
        look: which of those planned it is.
    """

    goal: str
    sesoi: float
    look: Look


class Pairs(NamedTuple):
    """Two arms, seed by seed.

    Attributes:
        differences: of the seeds at which both runs ended with a number. seeds: of both
            arms. diverged: seeds the arm lost; other: those the other one lost; both.
    """

    differences: list[float]
    seeds: int
    diverged: int
    other: int
    both: int

    def rates_differ(self, look: Look) -> bool:
        """Whether one arm diverges more often, by Fisher's exact test at .05."""
        p = stats.rates_differ(self.diverged, self.other, self.seeds)
        return p < look.nominal(1 - CONFIDENCE)

    def word(self, terms: Terms, interval: Any) -> str:
        """``stats.verdict`` of the arm against the other one."""
        return stats.verdict(
            self.differences,
            interval,
            goal=terms.goal,
            sesoi=terms.sesoi or NOTHING,
            seeds=self.seeds,
            diverged=self.diverged,
            baseline_diverged=self.other,
            both_diverged=self.both,
            confidence=terms.look.confidence(CONFIDENCE),
            ties=terms.look.ties(1 - CONFIDENCE),
        )


def pairs(arm: Mapping, other: Mapping) -> Pairs:
    """Args: seed -> value, None where the run diverged; seeds of one arm are left."""
    of_seeds = [(arm[seed], other[seed]) for seed in arm if seed in other]
    return Pairs(
        [a - b for a, b in of_seeds if a is not None and b is not None],
        len(of_seeds),
        sum(a is None for a, _ in of_seeds),
        sum(b is None for _, b in of_seeds),
        sum(a is None and b is None for a, b in of_seeds),
    )


def planned(study: Study) -> set[str]:
    """Arms of which an expectation says how they compare with the baseline.

    Each is one claim, made before the runs, and is tested alone; ``overall`` needs all
    of them, which adjusts for their number (Berger 1982, intersection-union tests). The
    other arms are a search, and Holm's adjustment is over them. So arms that somebody
    adds never change what becomes of a claim, and an arm has one word everywhere.
    """
    own = [
        e
        for e in study.expect
        if e.kind in ("better", "equivalent", "monotone")
        and (e.metric or study.metric, e.goal or study.goal)
        == (study.metric, study.goal)
    ]
    steps = [set(step) for e in own for step in zip(e.arms, e.arms[1:], strict=False)]
    named = set().union(*(step for step in steps if study.baseline in step))
    return named - {study.baseline}


def judge(
    expectation: Expectation, values: Mapping, study: Study, noise: Any = None
) -> dict:
    """``verdict`` and ``detail`` of one finding, and the ``effects`` behind it.

    Effects, none if nothing can be compared, have ``of`` (what is compared, in words),
    ``mean``, ``low``, ``high``, ``n`` and a ``verdict`` each.
    """
    missing = [a for a in expectation.arms if set(values[a]) < set(study.seeds)]
    if missing:
        detail = f"some of {', '.join(missing)}"
        return {"verdict": INCOMPLETE, "detail": detail, "effects": []}
    goal = expectation.goal or study.goal
    terms = Terms(goal, study.sesoi_of(expectation), look_of(study))
    nothing = {"effects": []}
    if expectation.kind in OF_NOISE:
        return nothing | OF_NOISE[expectation.kind](noise, study, terms)
    judged = nothing | PREDICATES[expectation.kind](expectation, values, terms)
    if expectation.metric not in ("", study.metric):
        judged["detail"] = f"{expectation.metric}, {judged['detail']}"
    return judged


def overall(verdicts: Sequence[str]) -> str:
    """One word for several: a contradiction counts most, then what is not known."""
    return next(word for word in VERDICTS if word in verdicts)


def _compared(expectation, values, terms):
    """Pairs, word and the t interval of an expectation of two arms; what to say."""
    compared = pairs(*(values[name] for name in expectation.arms))
    p = terms.look.paired(compared.differences, CONFIDENCE)
    word = compared.word(terms, (p.low, p.high))
    detail = f"{' minus '.join(expectation.arms)}: {_interval(p)}"
    if word == "anecdotal" and p.n >= FEWEST_SEEDS:
        detail += TIED
    lost = zip(expectation.arms, (compared.diverged, compared.other), strict=True)
    detail += "".join(
        f"; {name} diverged {n} of {compared.seeds} times" for name, n in lost if n
    )
    return compared, word, p, detail


def _better(expectation, values, terms):
    compared, word, p, detail = _compared(expectation, values, terms)
    if word.startswith(stats.NEGLIGIBLY):
        detail += f", below the effect of interest ±{terms.sesoi:g}"
    if word in ("diverged", "baseline diverged"):
        verdict = _of_rates(compared, word, terms)
    else:
        verdict = OF_WORD.get(word, UNDERPOWERED)
    return _told(verdict, detail, expectation.arms, p._asdict())


def _told(verdict, detail, arms, p):
    """What becomes of an expectation of one effect, if that has an interval.

    Args: arms: names of what is compared. p: its ``mean``, ``low``, ``high`` and ``n``.
    """
    effect = {"of": " minus ".join(arms), "verdict": verdict}
    effect |= {name: p[name] for name in ("mean", "low", "high", "n")}
    effects = [] if p["low"] is None else [effect]
    return {"verdict": verdict, "detail": detail, "effects": effects}


def _of_rates(compared, word, terms):
    """What becomes of "it is better" where most runs of one of the two diverged."""
    fewest = terms.look.ties(1 - CONFIDENCE)
    if compared.diverged == compared.other == compared.seeds >= fewest:
        return NOT_REPRODUCED
    if not compared.rates_differ(terms.look):
        return UNDERPOWERED
    if word == "baseline diverged":
        return REPRODUCED
    return NOT_REPRODUCED if compared.diverged > compared.other else UNDERPOWERED


def _equivalent(expectation, values, terms):
    compared, word, p, detail = _compared(expectation, values, terms)
    detail += f", margin ±{terms.sesoi:g}"
    if word == "equivalent" or word.startswith(stats.NEGLIGIBLY):
        verdict = REPRODUCED
    elif word in ("diverged", "baseline diverged"):
        verdict = NOT_REPRODUCED if compared.rates_differ(terms.look) else UNDERPOWERED
    else:
        beyond = word in ("better", "worse") and (
            p.low > terms.sesoi or p.high < -terms.sesoi
        )
        if word in ("better", "worse") and not beyond:
            detail += f"; {word}, by less or by more than the margin"
        verdict = NOT_REPRODUCED if beyond else UNDERPOWERED
    return _told(verdict, detail, expectation.arms, p._asdict())


def _monotone(expectation, values, terms):
    """Each step is judged as ``better``; one that goes the wrong way decides."""
    arms = expectation.arms
    steps = [
        _better(Expectation("better", (b, a), ""), values, terms)
        for a, b in zip(arms, arms[1:], strict=False)
    ]
    detail = "; ".join(step["detail"] for step in steps)
    return {
        "verdict": overall([step["verdict"] for step in steps]),
        "detail": detail,
        "effects": [effect for step in steps for effect in step["effects"]],
    }


def _diverges(expectation, values, terms):
    """Most runs do: the one-sided bound of their rate is beyond a half, either way."""
    of_seeds = values[expectation.arms[0]].values()
    count, n = sum(v is None for v in of_seeds), len(of_seeds)
    look = terms.look
    low, high = stats.clopper_pearson(count, n, look.confidence(ONE_SIDED))
    detail = f"{count} of {n} diverged"
    if low > 0.5:
        return {
            "verdict": REPRODUCED,
            "detail": f"{detail}, one-sided 95 % bound: above {low:.2f}",
        }
    detail += f", one-sided 95 % bounds {low:.2f} and {high:.2f}"
    if high < 0.5:
        return {"verdict": NOT_REPRODUCED, "detail": detail}
    if len(look.planned) == 1 and stats.clopper_pearson(n, n, ONE_SIDED).low <= 0.5:
        detail += f"; {n} seeds can never tell, 5 can"
    return {"verdict": UNDERPOWERED, "detail": detail}


def _within(expectation, values, terms):
    """Of the mean, which is not known where a seed diverged."""
    of_seeds = values[expectation.arms[0]].values()
    kept = [v for v in of_seeds if v is not None]
    lost = len(of_seeds) - len(kept)
    look = terms.look
    p = look.paired(kept, CONFIDENCE)  # of the values themselves
    low, high = expectation.low, expectation.high
    detail = f"{_interval(p, 'runs')}, expected {low:g} to {high:g}"
    if lost:
        confidence = look.confidence(ONE_SIDED)
        most = stats.clopper_pearson(lost, len(of_seeds), confidence).low > 0.5
        detail += f"; {lost} of {len(of_seeds)} diverged"
        verdict = NOT_REPRODUCED if most else UNDERPOWERED
    elif p.low is None:
        verdict, detail = UNDERPOWERED, detail + TIED * (p.n >= FEWEST_SEEDS)
    elif low <= p.low and p.high <= high:
        verdict = REPRODUCED
    else:
        outside = p.high < low or p.low > high
        verdict = NOT_REPRODUCED if outside else UNDERPOWERED
    return _told(verdict, detail, expectation.arms, p._asdict())


def _identical(noise, study, _):
    if noise["repeated"] < max(len(study.identical), 1):
        return {"verdict": INCOMPLETE, "detail": "those made twice"}
    if noise["unlike"]:
        detail = f"{noise['unlike']} of {noise['repeated']} diverged once of two times"
        return {"verdict": NOT_REPRODUCED, "detail": detail}
    if noise["identical"] is None:
        return {"verdict": UNDERPOWERED, "detail": "all of them diverged"}
    word = REPRODUCED if noise["identical"] == 0.0 else NOT_REPRODUCED
    return {"verdict": word, "detail": f"largest difference {noise['identical']:g}"}


def _steady(noise, _, terms):
    """Two sets of seeds share none: they are compared unpaired."""
    p = noise["other_seeds"]
    if p is None:
        return {"verdict": INCOMPLETE, "detail": "those of other seeds"}
    if p["diverged"]:
        return {"verdict": UNDERPOWERED, "detail": f"{p['diverged']} runs diverged"}
    if p["low"] is None:
        return {"verdict": UNDERPOWERED, "detail": f"only {p['n']} other seeds"}
    detail = f"{p['mean']:+z.4g} [{p['low']:z.4g}, {p['high']:z.4g}]"
    detail += f", n = {p['n_first']} and {p['n']}, margin ±{terms.sesoi:g}"
    fewest = terms.look.ties(1 - CONFIDENCE)
    if p["low"] == p["high"] and min(p["n"], p["n_first"]) < fewest:
        return _told(UNDERPOWERED, detail + TIED, ("other seeds", "these seeds"), p)
    inside = -terms.sesoi <= p["low"] and p["high"] <= terms.sesoi
    apart = p["low"] > terms.sesoi or p["high"] < -terms.sesoi
    word = REPRODUCED if inside else NOT_REPRODUCED if apart else UNDERPOWERED
    return _told(word, detail, ("other seeds", "these seeds"), p)


OF_NOISE: dict[str, Callable] = {"identical": _identical, "steady": _steady}
PREDICATES: dict[str, Callable] = {
    "better": _better,
    "equivalent": _equivalent,
    "monotone": _monotone,
    "diverges": _diverges,
    "within": _within,
}


def interval(
    n: int,
    mean: float | None,
    low: float | None,
    high: float | None,
    unit: str = "pairs",
) -> str:
    """A mean with its interval in words; what there is of it."""
    if low is None or high is None:
        few = f"only {n} {unit[:-1] if n == 1 else unit}" if n else f"no {unit}"
        return f"{mean:+z.4g}, {few}" if n else few
    return f"{mean:+z.4g} [{low:+z.4g}, {high:+z.4g}], n = {n}"


def _interval(p, unit="pairs"):
    return interval(p.n, p.mean, p.low, p.high, unit)
