"""Comparison: runs side by side, as text, data frames and one page."""

import dataclasses
import functools
import math
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments.compare import contrasts, page
from experiments.compare.grid import Grid, number, spelled
from experiments.compare.workdirs import Workdir
from experiments.report.page import put
from experiments.report.text import visible
from tfm_jax.api import ConfigError, counted, score_goals

if TYPE_CHECKING:
    import pandas as pd

SPOKEN = 6  # steps of a curve that the text says
CHANCE = "* is best. One run each: what chance does, a study with several seeds says."


class Section(NamedTuple):
    """A part of what is shown."""

    title: str
    remarks: list[str]
    grids: list[Grid]


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """Runs side by side; it shows itself in a notebook.

    Attributes: runs: two or more, as ``workdirs.read`` gives them.
    """

    runs: Sequence[Workdir]

    @property
    def differences(self) -> "pd.DataFrame":
        """Knobs that all have and in which they differ, a column for each run."""
        return self._frame(contrasts.knobs(self.runs))

    @property
    def scores(self) -> "pd.DataFrame":
        """Scores after training; of runs that are not as far, where all have been."""
        return self._frame(contrasts.scores(self.runs))

    @property
    def environment(self) -> "pd.DataFrame":
        """What they ran on, as far as it differs."""
        return self._frame(contrasts.environments(self.runs))

    @property
    def curves(self) -> "pd.DataFrame":
        """All that they logged while they trained: run, kind, score, step, value."""
        import pandas as pd

        return pd.DataFrame(
            (
                (run.name, *key, int(step), value)
                for run in self.runs
                for key, line in run.lines.items()
                for step, value in line
            ),
            columns=["run", "kind", "score", "step", "value"],
        )

    def _frame(self, rows):
        import pandas as pd

        names = [run.name for run in self.runs]
        return pd.DataFrame.from_dict(rows, orient="index", columns=names)

    @functools.cached_property
    def sections(self) -> list[Section]:
        """In reading order: what differs, curves, scores, environment."""
        return [self._differences(), self._curves(), self._scores(), self._where()]

    def _differences(self):
        rows, some = contrasts.knobs(self.runs), contrasts.knobs_of_some(self.runs)
        kinds, remarks = Counter(run.kind for run in self.runs), []
        if len(kinds) > 1:
            listed = ", ".join(f"{kind} ({n})" for kind, n in kinds.items())
            remarks.append(f"Runs of different kinds: {listed}.")
        if some:
            remarks.append(f"{len(some)} knobs are left out: not all of them have one.")
        if not rows and not some:
            remarks.append("No knob differs: the same run, repeated.")
        return Section("Configuration", remarks, [self._grid("knob", rows)])

    def _curves(self):
        keys = contrasts.logged(self.runs)
        spoken = keys[:1] + [key for key in keys if key[0] == "valid"][:1]
        grids = []
        for key in spoken:
            rows, corner = contrasts.along(self.runs, key, SPOKEN), "/".join(key)
            grid = self._grid(f"{corner} at step", rows, number)
            grids.append(grid._replace(turned_corner=grid.corner))
        return Section("Curves", [] if grids else ["Nothing was logged yet."], grids)

    def _scores(self):
        """With a star at the best, and for two runs the difference."""
        grid, goals = self._grid("score", {}), score_goals()
        tasks = {run.knobs.get("task") for run in self.runs}
        pair = len(self.runs) == 2 and len(tasks) == 1
        grid.rows["status"] = [run.status for run in self.runs]
        grid.rows["steps"] = [
            f"{run.step:,}/{spelled(run.knobs.get('train.total_steps'))}"
            for run in self.runs
        ]
        for name, row in contrasts.scores(self.runs).items():
            goal = goals.get(re.sub("^.*/| at .*$", "", name)) if len(tasks) == 1 else 0
            grid.rows[name] = [f"{number(v)}{_star(v, row, goal)}" for v in row]
            if pair and None not in row:
                grid.rows[name].append(number(row[1] - row[0], sign=True))
        units = sorted({counted(task) for task in tasks})
        speeds = [number(_speed(run)) for run in self.runs]
        grid.rows[f"{' or '.join(units)}/s"] = speeds
        if pair:
            grid.head.append("difference")
            for row in grid.rows.values():
                row += [""] * (3 - len(row))
        return Section("Scores", [CHANCE], [grid])

    def _where(self):
        alike, remarks = contrasts.environment_of_all(self.runs), []
        if alike:
            listed = "; ".join(f"{n} {value}" for n, value in alike.items() if value)
            remarks.append(f"The same: {listed}.")
        silent = [run.name for run in self.runs if "machine" not in run.environment]
        if silent:
            remarks.append(f"Code and machine are not recorded by {', '.join(silent)}.")
        rows = contrasts.environments(self.runs)
        return Section("Environment", remarks, [self._grid("", rows)])

    def _grid(self, corner, rows, spell=spelled):
        cells = {name: [*map(spell, row)] for name, row in rows.items()}
        return Grid(corner, [run.name for run in self.runs], cells)

    def text(self, width: int = 0) -> str:
        """Aligned tables. Args: width: of a line; by default that of the terminal."""
        width = width or shutil.get_terminal_size((100, 24)).columns
        blocks = []
        for title, remarks, grids in self.sections:
            tables = ["\n".join(grid.lines(width)) for grid in grids if grid.rows]
            blocks += ["\n".join([title, *remarks, *tables[:1]]), *tables[1:]]
        return visible("\n\n".join(blocks))

    def save(self, path: str | Path) -> Path:
        """Writes one self-contained page; into a folder, as ``compare.html``."""
        path = Path(path).expanduser()
        path = path / "compare.html" if path.is_dir() else path
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, page.whole(self))
        return path

    def __repr__(self):
        return self.text()

    def _repr_html_(self):
        return page.part(self)


def _star(value, row, goal):
    """Marks the best of values that are not all the same."""
    finite = [v for v in row if v is not None and math.isfinite(v)]
    return "*" if goal and len({*finite}) > 1 and value == goal(finite) else ""


def _speed(run):
    """Median over the record of what is counted per second; None: not known."""
    line = run.lines.get(("train", "tokens_per_second"))
    return None if line is None else round(float(np.median(line[:, 1])))


def of(runs: Sequence[Workdir]) -> Comparison:
    """Raises: ConfigError for a run alone."""
    if len(runs) < 2:
        raise ConfigError(f"{runs[0].path} is one run; name another one beside it")
    return Comparison(runs)


def table(runs: Sequence[Workdir]) -> "pd.DataFrame":
    """One row a run: where it stands, knobs that differ, scores after training."""
    import pandas as pd

    stand = {"status": [r.status for r in runs], "step": [r.step for r in runs]}
    differ = {**contrasts.knobs(runs), **contrasts.knobs_of_some(runs)}
    columns = stand | differ | contrasts.final_scores(runs)
    return pd.DataFrame(columns, index=[run.name for run in runs])
