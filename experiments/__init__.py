"""Ablation studies: what is compared, how it is run, what it shows."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

# before the functions of their names, which else they would replace when imported
import experiments.compare
import experiments.runs  # noqa: F401

if TYPE_CHECKING:
    import pandas as pd

    from experiments.compare.comparison import Comparison
    from experiments.plan import Plan


def load_study(spec: str, out: str | Path = "runs/studies") -> "Plan":
    """``STUDY[:SCALE]``, or a file of one: its runs as they stand now.

    Args: out: the folder where studies live.
    Raises: ConfigError for an unknown name or scale, and for a study that is none.
    """
    from experiments.plan import Plan

    return Plan.load(spec, Path(out))


def results(plan: "Plan") -> "pd.DataFrame":
    """One row a run of ``load_study(...)``: arm, seed, status, metric, what varies."""
    from experiments.runs import outcomes

    return outcomes.table(plan.rows())


def compare(runs: Any) -> "Comparison":
    """Runs side by side: workdirs, patterns such as ``"runs/*"``, or loaded runs.

    In a notebook it shows itself; ``differences``, ``scores``, ``environment`` and
    ``curves`` are pandas data frames, ``save("compare.html")`` writes the page.

    Raises: ConfigError for a path where no run is, and for a run alone.
    """
    from experiments.compare import comparison, workdirs

    return comparison.of(workdirs.read(runs))


def runs(pattern: Any = "runs/*") -> "pd.DataFrame":
    """One row a workdir: where it stands, knobs that differ, scores after training.

    Args: pattern: one, or a list of workdirs and patterns.
    Raises: ConfigError for a path where no run is.
    """
    from experiments.compare import comparison, workdirs

    return comparison.table(workdirs.read(pattern))
