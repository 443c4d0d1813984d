"""Ablation studies: what is compared, how it is run, what it shows."""

from pathlib import Path
from typing import Any


def load_study(spec: str, out: str | Path = "runs/studies") -> Any:
    """``STUDY[:SCALE]`` as ``experiments.plan.Plan``: its runs as they stand now."""
    from experiments.plan import Plan

    return Plan.load(spec, Path(out))


def results(plan: Any) -> Any:
    """One row a run of ``load_study(...)``, as a pandas data frame."""
    from experiments.runs import outcomes

    return outcomes.table(plan.rows())
