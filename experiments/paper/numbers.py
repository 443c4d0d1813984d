"""Numbers: what the paper takes from the reports of its studies."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.overview import entries
from experiments.statistics import stats

FILE = entries.FILE.with_name("paper.json")
NORMS, WARMUPS = ("post", "pre"), ("none", "warmup")


def read(path: Path = FILE) -> dict[str, Any]:
    """What ``of_reports`` has returned."""
    return json.loads(path.read_text("utf-8"))


def of_reports(trained: Mapping, initial: Mapping) -> dict[str, Any]:
    """All numbers of the paper.

    Args: trained, initial: reports of ``warmup:depth`` and of ``norm_gradients``.
    Returns: ``arms``, a row each, ``gains``, what warm-up is worth for each norm and
        depth, ``slopes`` of gradients at the start, and what it was measured with.
    """
    arms = {arm["name"]: arm for arm in trained["arms"]}
    depths = sorted({int(name.rsplit("-", 1)[1]) for name in arms})
    of_norms = [(norm, depth) for depth in depths for norm in NORMS]
    slopes = entries.of_report(initial)["expectations"]
    return {
        "depths": depths,
        "arms": [
            _arm(trained, arms[f"{norm}-{warmup}-{depth}"], norm, warmup, depth)
            for norm, depth in of_norms
            for warmup in WARMUPS
        ],
        "gains": [
            {"norm": norm, "layers": depth}
            | _gain(*(arms[f"{norm}-{warmup}-{depth}"] for warmup in WARMUPS))
            for norm, depth in of_norms
        ],
        "slopes": [e["effects"][0] for e in slopes],
        "verdicts": {r["name"]: r["verdict"] for r in (trained, initial)},
        "seeds": len(trained["seeds"]),
        "hours": sum(entries.of_report(r)["hours"] for r in (trained, initial)),
        "machine": trained["environment"].get("machine", ""),
    }


def _arm(report, arm, norm, warmup, depth):
    rates = [
        (row["settings"]["optim.peak_lr"], row["value"])
        for row in report["tuning"]
        if row["arm"] == arm["name"]
    ]
    return {
        "norm": norm,
        "warmup": warmup,
        "layers": depth,
        "rate": arm["chosen"]["optim.peak_lr"],
        "rates": sorted(rates),
        "diverged": arm["diverged"]["count"],
        "parameters": arm["parameters"],
        **_interval([x for x in arm["values"].values() if x is not None]),
    }


def _gain(without, with_warmup):
    pairs = (
        (lost, with_warmup["values"].get(seed))
        for seed, lost in without["values"].items()
    )
    return _interval([a - b for a, b in pairs if None not in (a, b)])


def _interval(values):
    """Mean of so many with its 95 % interval of Student's t."""
    level = stats.paired(values)
    return {"mean": level.mean, "low": level.low, "high": level.high, "n": level.n}
