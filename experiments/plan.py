"""Plan: a study in its directory, with all that is known of its runs by now."""

import dataclasses
import json
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments import cells, outcomes, run_files, sizes, study_file
from experiments.cells import Cell
from experiments.probes import PROBES
from experiments.stages import FIRST
from experiments.study import Study
from tfm_jax.api import (
    ConfigError,
    no_choice,
    preflight,
    replace,
    score_names,
    to_flag,
)

ROOT = Path("runs/studies")


@dataclasses.dataclass(frozen=True)
class Plan:
    """A study and where it runs.

    Attributes:
        name: of the file in ``experiments/studies``. scale: as it was asked for.
        question, source: the first and the last paragraph of the file's docstring.
        study: with the changes of the command line. root: its directory.
        path: of the file, if it is one of the user's own.
        command: that makes this plan again.
    """

    name: str
    scale: str
    question: str
    source: str
    study: Study
    root: Path
    path: Path | None = None
    command: str = ""

    @classmethod
    def load(
        cls,
        spec: str,
        out: Path = ROOT,
        *,
        settings: Mapping[str, Any] | None = None,
        seeds: tuple[int, ...] = (),
    ) -> "Plan":
        """``NAME[:SCALE]`` or ``FILE.py[:SCALE]``, and every run that follows, checked.

        Raises: ConfigError for an unknown name or scale and for an arm that is no legal
            configuration, before anything runs.
        """
        file = study_file.read(spec)
        study = file.study
        _check_first(study)
        try:
            if settings:
                _check_settings(study, settings)
                together = {**study.settings, **settings}
                study = dataclasses.replace(study, settings=together)
            if seeds:
                study = _with_seeds(study, seeds)
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(f"study {file.name!r}: {error}") from error
        root = Path(out).expanduser() / f"{file.name}-{file.scale}"
        asked = [f"{file.path or file.name}:{file.scale}"]
        for flag in cells.flags(settings or {}):
            asked += ["--set", flag.removeprefix("--")]
        asked += ["--seeds", to_flag(seeds)] if seeds else []
        asked += ["--out", str(out)] if Path(out) != ROOT else []
        command = f"python -m experiments.run {shlex.join(asked)}"
        plan = cls(*file[:4], study, root, file.path, command)
        plan.cells()  # one typo stops all
        if study.match == "steps" or study.probe:
            return plan
        return dataclasses.replace(plan, study=sizes.matched(study, plan.sizes()))

    def cells(self) -> list[Cell]:
        """The runs known by now: all of the tuning, then those of tuned arms."""
        tuning = [c for c in self._cells({}) if c.phase == cells.TUNE]
        chosen, _ = outcomes.tuning(self.study, tuning)
        return self._cells(chosen)

    def chosen(self) -> tuple[dict, list[dict]]:
        """The tuned knobs of each arm whose tuning has finished, and all trials."""
        return outcomes.tuning(self.study, self.cells())

    def rows(self) -> list[dict]:
        """One record a run, see ``outcomes.records``."""
        return outcomes.records(self.study, self.cells())

    def expected(self) -> int:
        """Runs of the whole study, those included that await the tuning."""
        study = self.study
        tuning = len(study.arms) * len(cells.tuning_grid(study)) * len(study.tune_seeds)
        finals = len(study.arms) * len(study.seeds)
        controls = len(study.identical) + len(study.other_seeds)
        return (tuning if study.tune else 0) + finals + controls

    def sizes(self) -> dict[str, dict]:
        """Arm -> parameters, FLOPs a step; measured once and kept.

        What an earlier rule counted is counted anew, but where it gave the arms of a
        study that has begun their steps.
        """
        path = self.root / "sizes.json"
        known = run_files.read(path) or {}
        known = {name: size for name, size in known.items() if _is_size(size)}
        firsts = {}
        for cell in self.cells():
            firsts.setdefault(cell.arm, cell)
        begun = self.study.match == "flops" and (self.root / "study.json").exists()
        kept = known
        if not begun or any(cell.id not in known for cell in firsts.values()):
            kept = {k: v for k, v in known.items() if v.get("count") == sizes.COUNT}
        new = {cell.id: cell for cell in firsts.values() if cell.id not in kept}
        if new and not self.study.probe:
            kept = kept | {name: sizes.measure(c.costly) for name, c in new.items()}
            preflight(self.root)
            replace(path, known | kept)
        return {arm: kept.get(cell.id, {}) for arm, cell in firsts.items()}

    def check(self) -> None:
        """What no configuration shows alone, before the first run.

        Raises: ConfigError for a metric that a run will not have, for a start that is
            not there, for a model that cannot be built, and for a setting of a run that
            has not begun which another setting ignores.
        """
        study, checked = self.study, {}
        if study.probe not in ("", *PROBES):
            raise ConfigError(f"probe={study.probe!r}; choose from {tuple(PROBES)}")
        wanted = {arm: {study.metric: "metric"} for arm in study.arms}
        for expectation in study.expect:
            for arm in expectation.arms if expectation.metric else ():
                wanted[arm].setdefault(expectation.metric, "expect: metric")
        for cell in self.cells():
            if not cells.status(cell).attempts:
                cells.check_read(cell)
            if cell.arm in checked:
                continue
            start = cell.experiment.init_from
            if start and not Path(start).exists():
                raise ConfigError(f"arm {cell.arm!r}: init_from={start!r}: not there")
            checked[cell.arm] = names = _scores(cell, study.probe)
            for metric, knob in wanted[cell.arm].items():
                if metric not in names:
                    raise ConfigError(no_choice(knob, metric, names))
        self.sizes()

    def register(self) -> list[str]:
        """Writes down what is asked before the first run; later changes are added.

        Returns: what was changed after runs existed, in words.
        """
        path = self.root / "study.json"
        now = json.loads(json.dumps(dataclasses.asdict(self.study), sort_keys=True))
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        new = {"registered": stamp, "study": now, "changes": []}
        kept = run_files.read_or_set_aside(path, _is_registered) or new
        if kept is new and any(path.parent.glob(f"{path.name}.damaged*")):
            lost = "study.json was damaged; what had been registered is not known"
            kept["changes"].append(f"{stamp}: {lost}")
        _fill(kept["study"], now)
        for knob in sorted(now.keys() | kept["study"].keys()):
            before, after = kept["study"].get(knob), now.get(knob)
            if before != after:
                kept["changes"].append(f"{stamp}: {knob}: {before!r} became {after!r}")
                kept["study"][knob] = after
        preflight(self.root)
        replace(path, kept)
        return kept["changes"]

    def _cells(self, chosen):
        return list(cells.cells(self.study, self.root, chosen))


def _scores(cell, probe):
    """``split/score`` of all that ``results.json`` of a cell will hold."""
    if probe:
        return [f"probe/{name}" for name in PROBES[probe].scores]
    before = score_names(cell.first) if cell.first else ()
    return [*score_names(cell.experiment), *(f"{FIRST}_{name}" for name in before)]


def _fill(kept, now):
    """Adds what studies could not say yet when ``kept`` was written: no change."""
    if isinstance(kept["expect"], list) and len(kept["expect"]) == len(now["expect"]):
        for before, after in zip(kept["expect"], now["expect"], strict=True):
            for field in after.keys() - before.keys():
                before[field] = after[field]


def _with_seeds(study, seeds):
    controls = {
        name: tuple(s for s in getattr(study, name) if (s in seeds) == kept)
        for name, kept in (("identical", True), ("other_seeds", False))
    }
    return dataclasses.replace(study, seeds=seeds, **controls)


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


def _check_first(study):
    """What arms set of a first run, they must have one for."""
    for arm, knobs in study.arms.items():
        has_first = {**study.settings, **knobs}.get(FIRST, study.first)
        for knob in knobs:
            if knob.startswith(f"{FIRST}.") and not has_first:
                raise ConfigError(
                    f"arm {arm!r}: {knob}={knobs[knob]!r}, but {FIRST}={has_first!r}"
                )


def _is_size(entry):
    if not isinstance(entry, dict):
        return False
    counts = ("parameters", "flops_per_step", "tokens_per_step")
    found = [entry[name] for name in counts if name in entry]
    return bool(found) and all(run_files.is_number(n) and n > 0 for n in found)


def _is_registered(kept):
    return (
        isinstance(kept["study"]["expect"], list)
        and all(isinstance(e, dict) for e in kept["study"]["expect"])
        and isinstance(kept["registered"], str)
        and all(isinstance(change, str) for change in kept["changes"])
    )
