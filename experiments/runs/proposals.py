"""Proposals: trials of a tuning that follow from the results of those before."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.runs import attempts, cells, outcomes
from experiments.runs.attempts import Run
from experiments.space import Range
from experiments.study import Study
from tfm_jax.api import ConfigError

BATCH = 4  # trials of an arm that are proposed at a time


def extended(study: Study, root: Path, runs: Sequence[Run]) -> tuple[Run, ...]:
    """The runs of a tuning, and those that their results propose.

    The first ``cells.START`` trials are quasi-random points, the same for every arm.
    Whenever all trials of an arm have finished, its next ``BATCH`` are proposed, from
    these alone and in their order: all follows from what lies on disk, and a larger
    budget goes on where a smaller one ended.

    Args: root: the study's directory. runs: of the tuning, as they stand.
    Raises: ConfigError if Optuna is not installed, and as ``cells.trials``.
    """
    if study.proposer != "optuna":
        return tuple(runs)
    by_arm: dict[str, list[Run]] = {arm: [] for arm in study.arms}
    for run in runs:
        by_arm[run.cell.arm].append(run)
    count = len(study.tune_seeds)
    for arm, own in by_arm.items():
        while all(run.status.finished for run in own):
            told = [_told(study, own[n : n + count]) for n in range(0, len(own), count)]
            left = min(BATCH, study.trials - len(told))
            if left <= 0:
                break
            settings = propose(study, told, left)
            own += map(attempts.look, cells.tried(study, root, [arm], settings))
    return tuple(run for own in by_arm.values() for run in own)


def _told(study, runs):
    """The settings of a trial, and its mean over seeds; None if one diverged."""
    settings = {knob: runs[0].cell.settings[knob] for knob in study.tune}
    values = [outcomes.metric(run, study.metric) for run in runs]
    return settings, None if None in values else statistics.fmean(values)


def propose(
    study: Study, told: Sequence[tuple[Mapping[str, Any], float | None]], count: int
) -> list[dict[str, Any]]:
    """Settings to try next, by Optuna's tree-structured Parzen estimator.

    Source: Bergstra et al. 2011; as ``optuna.samplers.TPESampler``. A trial that
    diverged ranks below all that did not.

    Args: told: settings and results of an arm so far, in order.
    Raises: ConfigError if Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            "proposer='optuna': Optuna is not installed; pip install 'tfm_jax[optuna]',"
            " or proposer='sobol'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    states = optuna.trial.TrialState
    space, whole = study.tune, cells.whole(study)
    kinds = {knob: _distribution(each, knob in whole) for knob, each in space.items()}
    seed = study.tune_seeds[0] + len(told)
    search = optuna.create_study(
        direction="minimize" if study.goal == "min" else "maximize",
        sampler=optuna.samplers.TPESampler(n_startup_trials=cells.START, seed=seed),
    )
    for settings, value in told:
        search.add_trial(
            optuna.trial.create_trial(
                params={k: _coded(space[k], v) for k, v in settings.items()},
                distributions=kinds,
                state=states.PRUNED if value is None else states.COMPLETE,
                value=value,
            )
        )
    asked = [search.ask(fixed_distributions=kinds).params for _ in range(count)]
    return [
        {knob: _decoded(space[knob], params[knob], knob in whole) for knob in space}
        for params in asked
    ]


def _distribution(values, whole):
    from optuna import distributions

    if not isinstance(values, Range):
        return distributions.CategoricalDistribution(range(len(values.choices)))
    log = values.scale == "log"
    if whole:
        ends = int(values.low), int(values.high)
        return distributions.IntDistribution(*ends, log=log)
    return distributions.FloatDistribution(values.low, values.high, log=log)


def _coded(values, value):
    return value if isinstance(values, Range) else values.choices.index(value)


def _decoded(values, coded, whole):
    ranged = isinstance(values, Range)
    return values.rounded(coded, whole) if ranged else values.choices[coded]
