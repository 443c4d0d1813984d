"""Sizes of the arms of a study, and steps that make them cost the same."""

import dataclasses
import math
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from experiments.runs import cells
from experiments.stages import FIRST
from experiments.study import Study
from tfm_jax import api
from tfm_jax.api import ConfigError

if TYPE_CHECKING:
    from tfm_jax.api import Experiment

TOLERANCE = 0.01  # of parameter counts that are called equal
COUNT = 2  # of the rule FLOPs are counted by; the first took a loop's body once
STEPS = "train.total_steps"


def measure(experiment: "Experiment") -> dict[str, Any]:
    """What ``api.measure`` says, and by which rule it counts."""
    return api.measure(experiment) | {"count": COUNT}


def peaks(planned: Iterable[cells.Cell], devices: Any) -> dict[str, tuple[float, str]]:
    """Arm -> peak of a train step on one device [GiB], and whether it fits.

    Says on standard error what each arm takes, as soon as it is compiled.

    Args: devices: that need not be here, see ``api.describe_topology``.
    """
    begun: dict[str, Any] = {}
    for cell in planned:
        if cell.arm not in begun:
            begun[cell.arm] = api.start(cell.costly).experiment
    peaks = {}
    api.say(f"compiling a train step of each of {len(begun)} arms", file=sys.stderr)
    for arm, plan in api.compile_each(begun, devices):
        peaks[arm] = size, fits = _peak(plan)
        done = f"{len(peaks)}/{len(begun)}  {arm}"
        api.say(f"{done}: {size:.3f} GiB/device, fits: {fits}", file=sys.stderr)
    return peaks


def _peak(plan):
    step, fits = plan["steps"]["train"], {None: "?", True: "yes", False: "NO"}
    size = step["peak"] if "peak" in step else step["refused"].get("wanted", math.nan)
    return size / 2**30, fits[plan["fits"]]


def matched(study: Study, measured: Mapping[str, Mapping]) -> Study:
    """``study`` with as many steps for each arm as its match rule gives it.

    "tokens" and "flops" let every arm see or spend what the baseline does in its steps,
    those of the first run where an arm has one; "parameters" changes nothing, but holds
    the arms to within ``TOLERANCE``.

    Args: measured: arm -> ``measure`` of it.
    Raises: ConfigError if the arms have unlike parameters, an arm sets its steps, or
        has FLOPs that cannot be counted.
    """
    if study.match == "steps":
        return study
    base = measured[study.baseline]
    if study.match == "parameters":
        wanted = base["parameters"]
        off = {arm: size["parameters"] for arm, size in measured.items()}
        off = {a: n for a, n in off.items() if abs(n / wanted - 1) > TOLERANCE}
        if off:
            raise ConfigError(
                f"match='parameters': {study.baseline} has {wanted:,}, but "
                + ", ".join(f"{arm} has {count:,}" for arm, count in off.items())
            )
        return study
    firsts = {arm: study.settings_of(arm)[FIRST] for arm in study.arms}
    first = firsts[study.baseline]
    own, before = cells.stages_of(study.settings)
    of_run = study.settings_of(study.baseline)[cells.CONFIG]
    config, settings = (first, before) if first else (of_run, own)
    steps = cells.configure(config, settings).train.total_steps
    cost = {"tokens": "tokens_per_step", "flops": "flops_per_step"}[study.match]
    for arm, size in measured.items():
        if cost not in size:
            raise ConfigError(
                f"match={study.match!r}: arm {arm!r}: {size['uncounted']}"
            )
    arms = {}
    for arm, knobs in study.arms.items():
        knob = f"{FIRST}.{STEPS}" if firsts[arm] else STEPS
        if knob in knobs:
            raise ConfigError(
                f"arm {arm!r} sets {knob}, which match={study.match!r} does"
            )
        count = round(steps * base[cost] / measured[arm][cost])
        arms[arm] = {**knobs, knob: max(count, 1)}
    return dataclasses.replace(study, arms=arms)
