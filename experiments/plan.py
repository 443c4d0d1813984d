"""Plan: a study in its directory, with all that is known of its runs by now."""

import dataclasses
import importlib
import importlib.util
import inspect
import json
import pkgutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments import cells, outcomes, sizes
from experiments.cells import Cell
from experiments.study import Study
from tfm_jax.config import ConfigError, nearest
from tfm_jax.train.workdir import replace

ROOT = Path("runs/studies")
PACKAGE = "experiments.studies"


@dataclasses.dataclass(frozen=True)
class Plan:
    """A study and where it runs.

    Attributes:
        name: of the file in ``experiments/studies``. scale: as it was asked for.
        question, source: the first and the last paragraph of the file's docstring.
        study: with the changes of the command line. root: its directory.
    """

    name: str
    scale: str
    question: str
    source: str
    study: Study
    root: Path

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
        name, _, scale = spec.partition(":")
        module, scale = _module(name), scale or "cpu"
        try:
            study = module.get_study(scale)
            if settings:
                together = {**study.settings, **settings}
                study = dataclasses.replace(study, settings=together)
            if seeds:
                study = _with_seeds(study, seeds)
        except KeyError as error:
            if error.args != (scale,):
                raise
            raise ConfigError(
                f"study {name!r} has no scale {scale!r}; see get_study in "
                f"{module.__file__}"
            ) from error
        except ValueError as error:
            raise ConfigError(f"study {name!r}: {error}") from error
        name = Path(name).stem
        paragraphs = inspect.cleandoc(module.__doc__).split("\n\n")
        question, source = paragraphs[0], paragraphs[-1]
        plan = cls(name, scale, question, source, study, out / f"{name}-{scale}")
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
        known = json.loads(path.read_text("utf-8")) if path.exists() else {}
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
            self.root.mkdir(parents=True, exist_ok=True)
            replace(path, json.dumps(known | kept, indent=1, sort_keys=True))
        return {arm: kept.get(cell.id, {}) for arm, cell in firsts.items()}

    def register(self) -> list[str]:
        """Writes down what is asked before the first run; later changes are added.

        Returns: what was changed after runs existed, in words.
        """
        path = self.root / "study.json"
        now = json.loads(json.dumps(dataclasses.asdict(self.study), sort_keys=True))
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        kept = {"registered": stamp, "study": now, "changes": []}
        if path.exists():
            kept = json.loads(path.read_text("utf-8"))
        _fill(kept["study"], now)
        for knob in sorted(now.keys() | kept["study"].keys()):
            before, after = kept["study"].get(knob), now.get(knob)
            if before != after:
                kept["changes"].append(f"{stamp}: {knob}: {before!r} became {after!r}")
                kept["study"][knob] = after
        self.root.mkdir(parents=True, exist_ok=True)
        replace(path, json.dumps(kept, indent=1, sort_keys=True))
        return kept["changes"]

    def _cells(self, chosen):
        return list(cells.cells(self.study, self.root, chosen))


def _fill(kept, now):
    """Adds what studies could not say yet when ``kept`` was written: no change."""
    if isinstance(kept["expect"], list) and len(kept["expect"]) == len(now["expect"]):
        for before, after in zip(kept["expect"], now["expect"], strict=True):
            before.setdefault("claim", after["claim"])


def _with_seeds(study, seeds):
    controls = {
        name: tuple(s for s in getattr(study, name) if (s in seeds) == kept)
        for name, kept in (("identical", True), ("other_seeds", False))
    }
    return dataclasses.replace(study, seeds=seeds, **controls)


def _module(name):
    """The study's module: a file of the user's own, or one of ours."""
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise ConfigError(f"study {name!r}: no such file")
        found = importlib.util.spec_from_file_location(Path(name).stem, name)
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        return module
    package = importlib.import_module(PACKAGE)
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    if name not in names:
        raise ConfigError(
            f"study {name!r}: no such study; choose from ({', '.join(names)})"
            f"{nearest(name, names)}"
        )
    return importlib.import_module(f"{PACKAGE}.{name}")
