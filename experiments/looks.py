"""Looks: a group-sequential study grows batch by batch until all of it is decided.

How the levels of its tests follow is in ``statistics.sequential``.
"""

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING

from experiments.runs import attempts, cells
from experiments.study import FEWEST_SEEDS, Study
from tfm_jax.api import ConfigError

if TYPE_CHECKING:
    from experiments.plan import Plan

MOST_SEEDS = 1_000
MOST = 10  # looks; more buy next to nothing (Jennison & Turnbull 2000, chapter 2)


def until_decided(study: Study, most: int) -> Study:
    """``study`` with looks: after its own seeds, after as many more, up to ``most``.

    Raises: ConfigError if that makes no two looks.
    """
    first = len(study.seeds)
    if first < FEWEST_SEEDS:
        raise ConfigError(
            f"--until-decided={most}: the first look has the study's seeds="
            f"{study.seeds}, which are too few; give --seeds {FEWEST_SEEDS} or more"
        )
    if not first + FEWEST_SEEDS <= most <= MOST_SEEDS:
        raise ConfigError(
            f"--until-decided={most} must be from {first + FEWEST_SEEDS} to "
            f"{MOST_SEEDS:,}: after the first look, at the study's {first} seeds, "
            f"each adds {FEWEST_SEEDS} or more"
        )
    batch = max(first, math.ceil((most - first) / (MOST - 1)))
    planned = (*range(first, most - FEWEST_SEEDS + 1, batch), most)
    study = dataclasses.replace(study, looks=planned)
    try:
        dataclasses.replace(study, seeds=(*study.seeds, *_fresh(study, most - first)))
    except ValueError as error:
        raise ConfigError(f"--until-decided={most}: {error}") from error
    return study


def grown(plan: "Plan") -> "Plan":
    """``plan`` with the runs of every look that is due: those before it left it open.

    What was tuned with the first look's seeds stays.
    """
    while (seeds := batch(plan.study)) and _is_open(plan):
        added = dataclasses.replace(
            plan.study,
            seeds=seeds,
            looks=(),
            expect=(),
            identical=(),
            other_seeds=(),
        )
        known = cells.finals(added, plan.root, plan.chosen)
        study = dataclasses.replace(plan.study, seeds=(*plan.study.seeds, *seeds))
        finals = (*plan.finals, *map(attempts.look, known))
        plan = dataclasses.replace(plan, study=study, finals=finals)
    return plan


def _is_open(plan):
    from experiments.statistics import verdicts

    ended = all(run.status.finished for run in plan.finals)
    return plan.tuned and ended and not verdicts.decided(plan)


def first(study: Study) -> Study:
    """As it was before its first look."""
    return dataclasses.replace(
        study, seeds=study.seeds[: min(study.looks, default=None)]
    )


def batch(study: Study) -> tuple[int, ...]:
    """The seeds of the next look; () after the last."""
    later = [n for n in study.looks if n > len(study.seeds)]
    return _fresh(study, later[0] - len(study.seeds)) if later else ()


def _fresh(study, count):
    """The next integers that are no seeds of the study yet."""
    taken = {*study.tune_seeds, *study.other_seeds}
    after = itertools.count(max(study.seeds) + 1)
    return tuple(itertools.islice((s for s in after if s not in taken), count))
