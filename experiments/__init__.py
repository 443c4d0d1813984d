"""Ablation studies: what is compared, how it is run, what it shows."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

# before the functions of their names, which else they would replace when imported
import experiments.compare
import experiments.runs  # noqa: F401

if TYPE_CHECKING:
    import pandas as pd

    from experiments.compare.comparison import Comparison


def load_study(spec: str, out: str | Path = "runs/studies") -> Any:
    """``STUDY[:SCALE]`` as ``experiments.plan.Plan``: its runs as they stand now."""
    from experiments.plan import Plan

    return Plan.load(spec, Path(out))


def results(plan: Any) -> Any:
    """One row a run of ``load_study(...)``, as a pandas data frame."""
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
    """One row a workdir: where it stands, knobs that differ, scores after training."""
    from experiments.compare import comparison, workdirs

    return comparison.table(workdirs.read(pattern))
