"""Plan: a study in its directory, with all that is known of its runs by now."""

import dataclasses
import functools
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import looks, registration, study_file
from experiments.costs import sizes
from experiments.runs import attempts, cells, files, outcomes, proposals
from experiments.runs.attempts import Run
from experiments.runs.cells import Cell
from experiments.stages import FIRST
from experiments.study import Study, parts
from experiments.study_file import ROOT
from tfm_jax.api import (
    ConfigError,
    no_choice,
    preflight,
    progress,
    replace,
    score_names,
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A study and its runs as they stood at one moment; ``again`` is a later one.

    Every configuration is resolved once, and every file of a run read once.

    Attributes:
        name: of the file in ``experiments/studies``. scale: as it was asked for.
        question, source: the first and the last paragraph of the file's docstring.
        study: with the changes of the command line. root: its directory.
        path: of the file, if it is one of the user's own.
        command: that makes this plan again.
        tuning: the runs that tune. finals: the others, of arms that are tuned.
        chosen: the tuned knobs of each arm whose tuning has finished. trials: all of
            the tuning, see ``outcomes.tuning``.
    """

    name: str
    scale: str
    question: str
    source: str
    study: Study
    root: Path
    path: Path | None = None
    command: str = ""
    tuning: Sequence[Run] = ()
    finals: Sequence[Run] = ()
    chosen: Mapping[str, Mapping] = dataclasses.field(default_factory=dict)
    trials: Sequence[Mapping] = ()

    @classmethod
    def load(
        cls,
        spec: str,
        out: Path = ROOT,
        *,
        settings: Mapping[str, Any] | None = None,
        seeds: tuple[int, ...] = (),
        until_decided: int | None = None,
    ) -> "Plan":
        """``NAME[:SCALE]`` or ``FILE.py[:SCALE]``, and every run that follows, checked.

        Raises: ConfigError for an unknown name or scale and for an arm that is no legal
            configuration, before anything runs.
        """
        file = study_file.read(spec, out)
        study = file.study
        root = Path(out).expanduser() / f"{file.name}-{file.scale}"
        try:
            if settings:
                _check_settings(study, settings)
                together = {**study.settings, **settings}
                study = dataclasses.replace(study, settings=together)
            registered = () if study.looks else registration.looked_at(root)
            first, planned = registered or ((), ())
            if seeds and first and seeds != first:  # what was seen would not count
                raise ConfigError(
                    f"--seeds={cells.seeds_flag(seeds)}: {root} registered seeds "
                    f"{list(first)}, and looks after {list(planned)} of them; leave "
                    "--seeds away, or choose another --out"
                )
            seeds = seeds or first
            if seeds:
                study = _with_seeds(study, seeds, registered=seeds == first)
            if until_decided is not None:
                study = looks.until_decided(study, until_decided)
            elif planned:
                study = dataclasses.replace(study, looks=planned)
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(f"study {file.name!r}: {error}") from error
        asked = [f"{file.path or file.name}:{file.scale}"]
        for flag in cells.flags(settings or {}):
            asked += ["--set", flag.removeprefix("--")]
        asked += ["--seeds", cells.seeds_flag(seeds)] if seeds else []
        _check_first(study)
        grows = study.looks != file.study.looks
        asked += ["--until-decided", str(study.looks[-1])] if grows else []
        asked += ["--out", str(out)] if Path(out) != ROOT else []
        command = f"python -m experiments.run {shlex.join(asked)}"
        if not settings and not seeds and not grows:
            command = file.command or command
        plan = cls(*file[:4], study, root, file.path, command)._of(study)
        if study.match == "steps" or study.probe:
            return plan
        matched = sizes.matched(study, plan.sizes)
        return plan if matched is study else plan._of(matched)

    def again(self) -> "Plan":
        """The same plan as it stands now; what has finished is not read again."""
        return self._with_finals([run.again() for run in self.tuning])

    def _of(self, study):
        """The plan of ``study`` with its runs; one typo stops all."""
        plan = dataclasses.replace(self, study=study, finals=())
        return plan._with_finals([*map(attempts.look, cells.trials(study, self.root))])

    def _with_finals(self, tuning):
        tuning = proposals.extended(self.study, self.root, tuning)
        chosen, trials = outcomes.tuning(self.study, tuning)
        if self.finals and chosen == self.chosen:
            finals = [run.again() for run in self.finals]
        else:
            known = cells.finals(self.study, self.root, chosen)
            finals = map(attempts.look, known)
        plan = dataclasses.replace(
            self, tuning=tuning, finals=tuple(finals), chosen=chosen, trials=trials
        )
        return looks.grown(plan)

    @property
    def spec(self) -> str:
        """``NAME:SCALE``."""
        return f"{self.name}:{self.scale}"

    @property
    def runs(self) -> Sequence[Run]:
        """Those known by now: all of the tuning, then those of tuned arms."""
        return (*self.tuning, *self.finals)

    @property
    def tuned(self) -> bool:
        """Whether every arm has what it was to be tuned for."""
        return not self.study.tune or len(self.chosen) == len(self.study.arms)

    @property
    def warnings(self) -> list[str]:
        """``caveats``, and which arms have their optimum at the edge of the grid."""
        from experiments.statistics import answers

        told = self.caveats
        if self.edges:
            best = answers.at_the_edge(self.edges, bool(self.study.trials))
            told.append(f"{best}, or nothing will be concluded of it")
        return told

    @property
    def edges(self) -> list[str]:
        """Tuned arms whose best value is the first or the last that was tried."""
        return [*dict.fromkeys(t["arm"] for t in self.trials if t["edge"])]

    @property
    def stuck(self) -> bool:
        """Whether runs of the tuning failed, and nothing of it is left to run."""
        return not self.tuned and not any(r.status.unfinished for r in self.tuning)

    @property
    def alone(self) -> bool:
        """Whether its runs take turns on a machine, unless somebody says otherwise."""
        from experiments.probes import PROBES

        return self.study.probe in PROBES and PROBES[self.study.probe].alone

    @property
    def caveats(self) -> list[str]:
        """Of its arms, if any: ``cells.unsaid`` and ``cells.duplicates``."""
        planned = self.cells()
        told = cells.unsaid(self.study, planned), cells.duplicates(planned)
        return [*filter(None, told)]

    def cells(self) -> list[Cell]:
        """Of all ``runs``."""
        return [run.cell for run in self.runs]

    def rows(self) -> list[dict]:
        """One record a run, see ``outcomes.records``."""
        return outcomes.records(self.study, self.runs)

    def todo(self) -> list[Cell]:
        """Runs that have not ended and may be started; equal ones once."""
        wanted = {}
        for cell, status in self.runs:
            if status.unfinished:
                wanted.setdefault(cell.id, cell)
        return list(wanted.values())

    def count(self, *names: str) -> int:
        """How many runs have one of these statuses."""
        return sum(run.status.name in names for run in self.runs)

    def expected(self) -> int:
        """Runs of the whole study, those included that await the tuning."""
        study = self.study
        tuning = len(study.arms) * cells.budget(study) * len(study.tune_seeds)
        finals = len(study.arms) * len(study.seeds)
        controls = len(study.identical) + len(study.other_seeds)
        return (tuning if study.tune else 0) + finals + controls

    @functools.cached_property
    def sizes(self) -> dict[str, dict]:
        """Arm -> parameters, FLOPs a step; measured once and kept.

        What an earlier rule counted is counted anew, but where it gave the arms of a
        study that has begun their steps.
        """
        path = self.root / "sizes.json"
        known = files.read(path) or {}
        known = {name: size for name, size in known.items() if _is_size(size)}
        firsts = {}
        for cell in self.cells():
            firsts.setdefault(cell.arm, cell)
        begun = self.study.match == "flops" and (self.root / registration.FILE).exists()
        kept = known
        if not begun or any(cell.id not in known for cell in firsts.values()):
            kept = {k: v for k, v in known.items() if v.get("count") == sizes.COUNT}
        new = {cell.id: cell for cell in firsts.values() if cell.id not in kept}
        if new and not self.study.probe:
            preflight(self.root)
            with progress("sizes of the arms", len(new)) as advance:
                for name, cell in new.items():
                    kept = kept | {name: sizes.measure(cell.costly)}
                    replace(path, known | kept)
                    advance(1)
        return {arm: kept.get(cell.id, {}) for arm, cell in firsts.items()}

    def check(self) -> None:
        """What no configuration shows alone, before the first run.

        Raises: ConfigError for a metric that a run will not have, for a start that is
            not there, for a model that cannot be built, and for a setting of a run that
            has not begun which another setting ignores.
        """
        from experiments.probes import PROBES

        study, checked = self.study, {}
        _check_early_stops(self.cells())
        if study.probe not in ("", *PROBES):
            raise ConfigError(no_choice("probe", study.probe, tuple(PROBES)))
        wanted = {arm: {study.metric: "metric"} for arm in study.arms}
        for expectation in study.expect:
            for arm in expectation.arms if expectation.metric else ():
                for metric in parts(expectation.metric):
                    wanted[arm].setdefault(metric, "expect: metric")
        for cell, status in self.runs:
            if not status.attempts:
                cells.check_read(cell)
            if cell.arm in checked:
                continue
            start, judge = cell.experiment.sources, cell.experiment.eval.judge
            named = [("init_from", run) for run in start.values()]
            for knob, run in (*named, ("eval.judge", judge)):
                if run and not Path(run).exists():
                    raise ConfigError(
                        f"arm {cell.arm!r}: {knob}={run!r}: not there; train it first, "
                        "as docs/scenes.md, Studies, or docs/digits.md say"
                    )
            if start and not status.attempts:
                cells.check_start(cell)
            checked[cell.arm] = names = _scores(cell, PROBES.get(study.probe))
            for metric, knob in wanted[cell.arm].items():
                if metric not in names:
                    raise ConfigError(no_choice(knob, metric, names))
        _ = self.sizes

    def register(self) -> list[str]:
        """Writes down what is asked before the first run; later changes are added.

        Returns: what was changed after runs existed, in words.
        """
        return registration.renewed(self)["changes"]


def _scores(cell, probe):
    """``split/score`` of all that ``results.json`` of a cell will hold."""
    if probe:
        return [f"probe/{name}" for name in probe.scores]
    before = score_names(cell.first) if cell.first else ()
    return [*score_names(cell.experiment), *(f"{FIRST}_{name}" for name in before)]


def _with_seeds(study, seeds, registered):
    controls = {
        name: tuple(s for s in getattr(study, name) if (s in seeds) == kept)
        for name, kept in (("identical", True), ("other_seeds", False))
    }
    try:
        return dataclasses.replace(study, seeds=seeds, **controls)
    except ValueError as error:
        given = "" if registered else f"--seeds={cells.seeds_flag(seeds)}: "
        raise ValueError(f"{given}{error}") from error


def _check_settings(study, settings):
    """What is set for every arm must not be decided by an arm or by the tuning."""
    owners = {knob: f"arm {arm!r}" for arm, own in study.arms.items() for knob in own}
    owners |= dict.fromkeys(study.tune, "tune") | {"seed": "--seeds"}
    for knob in settings:
        if knob in owners:
            raise ConfigError(
                f"--set config.{knob}: {owners[knob]} says what it is, for which it "
                "would have no effect"
            )


def _check_early_stops(planned):
    """All arms may stop early or none: other arms would have seen less than they."""
    for stage in ("first", "experiment"):
        runs = {cell.arm: getattr(cell, stage) for cell in planned}
        waits = {arm: run.train.stop_patience for arm, run in runs.items() if run}
        if all(waits.values()) or not any(waits.values()):
            continue
        early = next(arm for arm, patience in waits.items() if patience)
        late = next(arm for arm, patience in waits.items() if not patience)
        raise ConfigError(
            f"train.stop_patience={waits[early]}: arm {early!r} may stop early, arm "
            f"{late!r} may not; set it for all arms, or for none"
        )


def _check_first(study):
    """What is set of a first run, arms must have one for."""
    for arm in study.arms:
        knobs = study.settings_of(arm) | study.tune
        for knob in knobs if not knobs[FIRST] else ():
            if knob.startswith(f"{FIRST}."):
                said = f"{knob}={knobs[knob]!r}, but {FIRST}={knobs[FIRST]!r}"
                raise ConfigError(f"arm {arm!r}: {said}")


def _is_size(entry):
    if not isinstance(entry, dict):
        return False
    counts = ("parameters", "flops_per_step", "tokens_per_step")
    given = [entry[name] for name in counts if name in entry]
    return bool(given) and all(files.is_number(n) and n > 0 for n in given)
