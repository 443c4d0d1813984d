"""Study: a question, the arms that answer it, and what was published. Pure data."""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments import fields, space
from tfm_jax.api import no_choice

Arms = Mapping[str, Mapping[str, Any]]  # name -> {dotted knob: value}
GOALS = {"min": -1, "max": 1}  # sign of a difference that is an improvement
CLAIMS = ("published", "check")
MATCHES = ("steps", "tokens", "flops", "parameters")
FEWEST_SEEDS = 3  # pairs of runs that have a t interval; fewer are an anecdote
SEEDS = ("seeds", "tune_seeds", "identical", "other_seeds")
KINDS = {  # of expectations: how many arms they speak of, at least and at most
    "better": (2, 2),
    "equivalent": (2, 2),
    "monotone": (2, 1_000),
    "diverges": (1, 1),
    "within": (1, 1),
    "identical": (1, 1),
    "steady": (1, 1),
}
OF_BASELINE = {"identical": "identical", "steady": "other_seeds"}  # kind -> its seeds
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,59}")


def parts(metric: str) -> list[str]:
    """The scores of ``metric``: one, or those of ``split/score - split/score``."""
    return metric.split(" - ")


class Typed(str):
    """A value as it stands on the command line; the knob's type says how it is read."""


@dataclasses.dataclass(frozen=True)
class Expectation:
    """A finding as a predicate over the arms' results.

    Attributes:
        kind: of ``KINDS``; ``statistics.findings`` judges them.
        arms: those it speaks of, in the order the predicate takes them.
        low: and ``high``, bounds of ``within``.
        metric: and ``goal``, if they are not the study's; ``split/score``, or how far
            two of them lie apart, ``long/nll - short/nll``. sesoi: in units of that
            metric; 0: the study's, or none where the score is another one.
        text: in words.
        claim: whose it is. The study's source "published" it, and the verdict is on
            those; or it is a "check" of ours that must hold for the verdict to mean
            anything: that an arm without any loses, where two ways are to be equal.
        reported: the effects that the source reports, of which ``kind`` must hold: one
            for each difference of the arms (first minus second; of ``monotone`` each
            arm minus the one before), or the mean of ``within``; in units of the
            metric.
    """

    kind: str
    arms: tuple[str, ...]
    text: str
    low: float = 0.0
    high: float = 0.0
    metric: str = ""
    goal: str = ""
    sesoi: float = 0.0
    claim: str = "published"
    reported: tuple[float, ...] = ()


def better(arm: str, than: str, text: str) -> Expectation:
    """``arm`` beats ``than``: the paired 95 % interval lies on the good side of 0."""
    return Expectation("better", (arm, than), text)


def worse(arm: str, than: str, text: str) -> Expectation:
    """``arm`` loses against ``than``."""
    return Expectation("better", (than, arm), text)


def equivalent(arm: str, to: str, text: str) -> Expectation:
    """The paired 95 % interval lies within the study's ``sesoi`` around 0."""
    return Expectation("equivalent", (arm, to), text)


def monotone(arms: Sequence[str], text: str) -> Expectation:
    """The metric improves from each arm to the next."""
    return Expectation("monotone", tuple(arms), text)


def diverges(arm: str, text: str) -> Expectation:
    """Most runs of ``arm`` end with a loss that is not finite."""
    return Expectation("diverges", (arm,), text)


def within(
    arm: str, low: float, high: float, text: str, metric: str = ""
) -> Expectation:
    """The interval of the metric's mean lies in [low, high]."""
    return Expectation("within", (arm,), text, low, high, metric)


def on(
    metric: str, expectation: Expectation, goal: str = "", sesoi: float = 0.0
) -> Expectation:
    """``expectation`` of another metric than the study's; its arms must have it."""
    return dataclasses.replace(expectation, metric=metric, goal=goal, sesoi=sesoi)


def check(expectation: Expectation) -> Expectation:
    """``expectation`` as one of ours, which the study's source does not claim."""
    return dataclasses.replace(expectation, claim="check")


def reported(expectation: Expectation, *effects: float) -> Expectation:
    """``expectation`` with what its source reports, in units of its metric."""
    return dataclasses.replace(expectation, reported=effects)


def identical(arm: str, text: str) -> Expectation:
    """Runs of equal seeds end with equal numbers, to the last bit."""
    return Expectation("identical", (arm,), text)


def steady(arm: str, text: str) -> Expectation:
    """The mean over other seeds lies within ``sesoi``, with 95 % confidence."""
    return Expectation("steady", (arm,), text)


@dataclasses.dataclass(frozen=True)
class Study:
    """Fixed before anything runs; what is changed afterwards is shown as exploratory.

    Attributes:
        config: ``FILE.py[:size]`` that every arm starts from; one that sets "config"
            starts from that instead, as models of another family have other knobs.
        first: ``FILE.py[:size]`` of a run that is made before each run, which starts
            from its parameters; its knobs are "first.KNOB", and an arm that sets
            "first" to "" has none. What arms have in common, it has.
        arms: name -> knobs it sets. baseline: the arm all others are compared with.
        expect: the published findings, and checks of our own; none of an open question,
            whose verdict says what was found.
        settings: knobs set for every arm.
        seeds: one run each; data order, dropout and initial values depend on it, so
            runs of one seed are pairs.
        metric: ``split/score`` of the results, such as ``valid/nll``.
        sesoi: smallest effect of interest, in units of the metric; 0 if nobody has
            said, and then only arms without any difference are called equivalent.
        tune: knob -> values tried for every arm, with ``tune_seeds``; the best on
            ``metric``, of the validation data or a variant of it, then runs with
            ``seeds``. With ``trials`` each knob has ``log``, ``linear`` or ``choice``
            of ``experiments.space`` instead, and each arm so many points of them.
        trials: points tried for every arm; more go on with those of fewer. proposer:
            where they come from: "sobol", quasi-random, the same for every arm, or
            "optuna", from what an arm's earlier ones have shown.
        fixed_rate: why nothing is tuned; without a reason, that is a caveat.
        match: what the arms have in common; FLOPs are those of ``costs.flops``.
        vmapped: train the runs of an arm, which then differ in seed and rate alone, in
            one program; their numbers are compared with those of such runs only.
        probe: key of ``experiments.probes.PROBES`` if runs measure, not train.
        identical: seeds of which the baseline is run twice, to show that nothing but
            the arms makes a difference. other_seeds: seeds of a second set of runs of
            the baseline, against which chance is measured.
        caveat: why this scale may not show the effect.
        solved: the metric from which on a run has solved its task, where others do not
            solve it at all: how many do is told, as a mean describes neither.
        looks: seeds of an arm at each analysis of a group-sequential study: those in
            ``seeds``, and so many more until every expectation is decided.
    """

    config: str
    arms: Arms
    baseline: str
    seeds: tuple[int, ...]
    metric: str
    expect: tuple[Expectation, ...] = ()
    sesoi: float = 0.0
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    goal: str = "min"
    first: str = ""
    tune: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    trials: int = 0
    proposer: str = space.PROPOSERS[0]
    tune_seeds: tuple[int, ...] = ()
    fixed_rate: str = ""
    match: str = "steps"
    vmapped: bool = False
    probe: str = ""
    identical: tuple[int, ...] = ()
    other_seeds: tuple[int, ...] = ()
    caveat: str = ""
    solved: float | None = None
    looks: tuple[int, ...] = ()

    def __post_init__(self):
        for name in fields.SEVERAL:
            if isinstance(value := getattr(self, name), list | range):
                object.__setattr__(self, name, tuple(value))
        problems = [*fields.problems(self)]
        if problems:
            raise ValueError("; ".join(problems))
        problems = [
            *self._names(),
            *self._choices(),
            *self._seeds(),
            *self._tuning(),
            *self._overruled(),
            *itertools.chain.from_iterable(map(self._expected, self.expect)),
        ]
        if problems:
            raise ValueError("; ".join(problems))

    def sesoi_of(self, expectation: Expectation) -> float:
        """Smallest effect of interest in units of its metric; 0 if nobody has said."""
        names = [*parts(expectation.metric or self.metric), self.metric]
        one_score = len({name.rpartition("/")[2] for name in names}) == 1
        return expectation.sesoi or (self.sesoi if one_score else 0.0)

    def settings_of(self, arm: str) -> dict[str, Any]:
        """What is set for an arm, its "config" and "first" included."""
        stages = {"config": self.config, "first": self.first}
        return {**stages, **self.settings, **self.arms[arm]}

    @property
    def published(self) -> bool:
        """Whether it expects what a source has published."""
        return any(expectation.claim == "published" for expectation in self.expect)

    def _names(self):
        for name in self.arms:
            if not _NAME.fullmatch(name):
                yield f"arm {name!r}: letters, digits and . _ + - only, at most 60"
        if self.baseline not in self.arms:
            yield no_choice("baseline", self.baseline, tuple(self.arms))

    def _expected(self, expectation):
        kind, arms = expectation.kind, expectation.arms
        for arm in set(arms) - set(self.arms):
            yield no_choice("expect: arm", arm, tuple(self.arms))
        if expectation.claim not in CLAIMS:
            yield no_choice("expect: claim", expectation.claim, CLAIMS)
        if kind not in KINDS:
            yield no_choice("expect: kind", kind, tuple(KINDS))
            return
        least, most = KINDS[kind]
        if not least <= len(arms) <= most or len(set(arms)) < len(arms):
            yield f"expect: {kind} of arms={arms}; {least} distinct ones are compared"
        if expectation.goal not in ("", *GOALS):
            yield no_choice("expect: goal", expectation.goal, tuple(GOALS))
        own = expectation.metric in ("", self.metric)
        if own and expectation.goal not in ("", self.goal):
            yield f"expect: goal={expectation.goal!r}; that of {self.metric} is goal"
        if expectation.metric and not _is_metric(expectation.metric, most=2):
            yield (
                f"expect: metric={expectation.metric!r}; write split/score, or "
                "split/score - split/score"
            )
        differences = len(arms) - 1 or kind == "within"
        if expectation.reported and len(expectation.reported) != differences:
            yield f"expect: reported={expectation.reported}: one of each difference"
        goal, sesoi = expectation.goal or self.goal, self.sesoi_of(expectation)
        if wrong := fields.contradicts(expectation, GOALS.get(goal, 1), sesoi):
            yield f"expect: {wrong}"
        if not own and kind in ("better", "monotone"):
            if wrong := fields.wrong_goal(expectation.metric, goal):
                yield f"expect: {wrong}"
        if not 0 <= expectation.sesoi < math.inf:
            yield f"expect: sesoi={expectation.sesoi} must be positive, or 0"
        if expectation.sesoi and own:
            yield f"expect: sesoi={expectation.sesoi}; that of {self.metric} is sesoi"
        if kind in ("equivalent", "steady") and not self.sesoi_of(expectation):
            metric = expectation.metric or self.metric
            give = "give on() a sesoi" if expectation.metric else "give one"
            yield (
                f"expect: {kind} on metric={metric!r}, of which "
                f"sesoi={self.sesoi} of {self.metric!r} says nothing: {give}"
            )
        if kind == "within" and not expectation.low <= expectation.high:
            yield f"expect: within low={expectation.low} and high={expectation.high}"
        seeds = OF_BASELINE.get(kind)
        if seeds and arms != (self.baseline,):
            yield f"expect: {kind} is of baseline={self.baseline!r}, not of {arms}"
        if seeds and not getattr(self, seeds):
            yield f"expect: {kind} needs seeds in {seeds}"

    def _choices(self):
        for name, table in (("goal", GOALS), ("match", MATCHES)):
            if getattr(self, name) not in table:
                yield no_choice(name, getattr(self, name), tuple(table))
        if self.probe and self.vmapped:
            yield f"vmapped={self.vmapped}: a probe trains nothing"
        if self.first and (self.probe or self.vmapped):
            yield f"first={self.first!r} is neither for probes nor vmapped"
        if not _is_metric(self.metric, most=1):
            yield f"metric={self.metric!r}; write split/score, such as valid/nll"
        elif wrong := fields.wrong_goal(self.metric, self.goal):
            yield wrong
        if not 0 <= self.sesoi < math.inf:
            yield f"sesoi={self.sesoi} must be positive, or 0 if nobody has said"

    def _seeds(self):
        for name in SEEDS:
            seeds = getattr(self, name)
            if not all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds):
                yield f"{name}={seeds} must be integers in [0, 2**31)"
            if len(set(seeds)) < len(seeds):
                yield f"{name}={seeds} must be distinct"
        if not self.seeds:
            yield f"seeds={self.seeds}: one at least"
        if set(self.identical) - set(self.seeds):
            yield f"identical={self.identical} must be among seeds={self.seeds}"
        if set(self.other_seeds) & {*self.seeds, *self.tune_seeds}:
            yield f"other_seeds={self.other_seeds} must be fresh"
        batches = [n - m for m, n in itertools.pairwise((0, *self.looks))]
        if self.looks and min(batches) < FEWEST_SEEDS:
            yield f"looks={self.looks}: {FEWEST_SEEDS} seeds more at each, at least"
        if self.looks and len(self.seeds) not in self.looks:
            yield f"looks={self.looks}: none has {len(self.seeds)} seeds, as seeds do"

    def _tuning(self):
        if self.tune and self.fixed_rate:
            yield f"fixed_rate={self.fixed_rate!r} and tune={self.tune}: one of the two"
        yield from space.problems(self.tune, self.trials, self.proposer)
        if self.vmapped and self.proposer == "optuna":
            yield "vmapped=True: trials of proposer='optuna' follow from one another"
        if self.tune:
            if not self.tune_seeds or set(self.tune_seeds) & set(self.seeds):
                yield f"tune_seeds={self.tune_seeds} must be given and not in seeds"
            split = self.metric.removeprefix("first_").partition("/")[0]
            if self.probe or split == "test":
                yield f"metric={self.metric!r}: tuning needs a score of validation data"

    def _overruled(self):
        """Knobs whose value something else decides."""
        places = {"settings": self.settings, "tune": self.tune}
        places |= {f"arm {name!r}": knobs for name, knobs in self.arms.items()}
        for place, knobs in places.items():
            if "seed" in knobs:
                yield f"{place}: seed={knobs['seed']!r}; seeds are in seeds"
            for knob in knobs if place != "tune" else ():
                if knob in self.tune:
                    yield f"{place}: {knob}={knobs[knob]!r}, but tune says what it is"


def _is_metric(metric, most):
    names = parts(metric)
    return len(names) <= most and all(name.count("/") == 1 for name in names)


def axis(knob: str, values: Iterable, label: str = "") -> dict[str, dict[str, Any]]:
    """One arm for each value of a knob, called ``label`` + value."""
    return {f"{label}{value}": {knob: value} for value in values}


def grid(*axes: Arms) -> dict[str, dict[str, Any]]:
    """Every combination of one arm of each axis."""
    return _joined(itertools.product(*(axis.items() for axis in axes)))


def zipped(*axes: Arms) -> dict[str, dict[str, Any]]:
    """First arms together, second arms together, and so on.

    Raises: ValueError if the axes have different lengths.
    """
    return _joined(zip(*(axis.items() for axis in axes), strict=True))


def chain(*axes: Arms) -> dict[str, dict[str, Any]]:
    """The arms of one axis after those of another.

    Raises: ValueError if two arms have one name.
    """
    return _unique(itertools.chain(*(axis.items() for axis in axes)))


def _joined(combinations):
    def join(parts):
        names, overrides = zip(*parts, strict=True)
        knobs = [knob for each in overrides for knob in each]
        if len(set(knobs)) < len(knobs):
            raise ValueError(f"{'-'.join(names)} sets a knob twice: {knobs}")
        return "-".join(names), {k: v for each in overrides for k, v in each.items()}

    return _unique(map(join, combinations))


def _unique(items):
    items = list(items)
    arms = dict(items)
    if len(arms) < len(items):
        raise ValueError(f"two arms have one name: {[name for name, _ in items]}")
    return arms
