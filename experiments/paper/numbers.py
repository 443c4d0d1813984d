"""Numbers: what the paper takes from the reports of its studies."""

import itertools
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.overview import entries
from experiments.statistics import stats
from experiments.studies import warmup
from experiments.study import FEWEST_SEEDS
from tfm_jax.api import ConfigError

STUDIES = ("warmup:depth", "norm_gradients:cpu")
FILE = entries.FILE.with_name("paper.json")
NORMS = tuple(warmup.NORMS)
DEPTHS = tuple(map(int, warmup.LAYERS))
NONE, WARM = warmup.WARMUPS


def read(path: Path) -> dict[str, Any]:
    """What ``of_reports`` has returned."""
    return json.loads(path.read_text("utf-8"))


def of_reports(trained: Mapping, initial: Mapping) -> dict[str, Any]:
    """All numbers of the paper that were measured.

    Args: trained, initial: reports of ``warmup:depth`` and of ``norm_gradients``.
    Returns: ``arms``, a row each; ``lost``, the loss without warm-up above that with it
        for each norm and depth; ``deeper``, how much more of it is lost from one depth
        to the next; ``slopes`` of gradients at the start by norm; and what it was
        measured with.
    Raises: ConfigError for reports of other studies, and where too few seeds of an arm
        are left for an interval.
    """
    for report, study in zip((trained, initial), STUDIES, strict=True):
        if (is_of := f"{report['name']}:{report['scale']}") != study:
            raise ConfigError(f"a report of {is_of}, where one of {study} should be")
    arms = {arm["name"]: arm for arm in trained["arms"]}
    lost = {
        (norm, depth): _less(
            *(_kept(arms[f"{norm}-{name}-{depth}"]) for name in (NONE, WARM))
        )
        for norm in NORMS
        for depth in DEPTHS
    }
    runs = trained["runs"]
    slopes = entries.of_report(initial)["expectations"]
    return {
        "arms": [
            {"norm": norm, "warmup": name, "layers": depth}
            | _arm(trained, arms[f"{norm}-{name}-{depth}"])
            for depth in DEPTHS
            for norm in NORMS
            for name in (NONE, WARM)
        ],
        "lost": [
            {"norm": norm, "layers": depth} | _interval(pairs.values())
            for (norm, depth), pairs in lost.items()
        ],
        "deeper": [
            {"norm": norm, "layers": [low, high]}
            | _interval(_less(lost[norm, high], lost[norm, low]).values())
            for norm in NORMS
            for low, high in itertools.pairwise(DEPTHS)
        ],
        "slopes": {effect["of"]: effect for e in slopes for effect in e["effects"]},
        "verdicts": {r["name"]: r["verdict"] for r in (trained, initial)},
        "seeds": len(trained["seeds"]),
        "sesoi": trained["sesoi"],
        "runs": len(runs),
        "seconds": statistics.median(run["seconds"] for run in runs),
        "machine": trained["environment"].get("machine", ""),
    }


def _arm(report, arm):
    rates = [
        (row["settings"]["optim.peak_lr"], row["value"])
        for row in report["tuning"]
        if row["arm"] == arm["name"]
    ]
    return {
        "rate": arm["chosen"]["optim.peak_lr"],
        "rates": sorted(rates),
        **_interval(_kept(arm).values()),
    }


def _kept(arm):
    """Seed -> value, of the seeds that were not lost."""
    return {seed: x for seed, x in arm["values"].items() if x is not None}


def _less(values, others):
    """Seed -> difference, of the seeds that both have."""
    return {seed: x - others[seed] for seed, x in values.items() if seed in others}


def _interval(values: Iterable[float]) -> dict[str, Any]:
    """Mean of so many with its 95 % interval of Student's t."""
    level = stats.paired([*values])
    if level.low is None:
        few = f"fewer than {FEWEST_SEEDS} seeds of an arm are left"
        raise ConfigError(f"warmup:depth: {few}")
    return {"mean": level.mean, "low": level.low, "high": level.high, "n": level.n}


def find(rows: Sequence[Mapping], **wanted: Any) -> list[Mapping]:
    """The rows with such entries."""
    return [row for row in rows if all(row[k] == v for k, v in wanted.items())]
