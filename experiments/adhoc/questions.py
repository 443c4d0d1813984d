"""Questions: the study that flags ask for, its arms the values of their axes."""

import argparse
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import looks
from experiments.adhoc import tuning
from experiments.adhoc.flags import pairs
from experiments.runs.cells import configure, tuning_grid
from experiments.space import PROPOSERS
from experiments.study import Study
from tfm_jax.api import (
    ConfigError,
    default_metric,
    no_choice,
    score_goals,
    score_names,
    to_flag,
    typed_knobs,
)

SEEDS = (0, 1, 2, 3, 4)
MOST_ARMS = 10_000
TUNE_SEED = 1_000  # the first that may be one
LONGEST = 60  # of the name of an arm
_FILE = "arms of several families are for a study file; `new NAME` writes one"
ELSEWHERE = {  # what no axis says -> what does
    "seed": "seeds are given with --seeds",
    "config": _FILE,
    "model_name": _FILE,
}


def asked(options: argparse.Namespace) -> Study:
    """The study. Raises: ConfigError naming the flag that is no part of one."""
    if not options.axes:
        raise ConfigError(
            f"--config={options.config}: give the question, --axis KNOB=VALUE,VALUE"
        )
    axes = _read(options, "--axis", options.axes)
    tune = tuning.asked(options, lambda texts: _read(options, "--tune", texts))
    given = [text.removeprefix("config.") for text in options.settings]
    settings = typed_knobs(options.config, given, "--set config.")
    _check_owners({"--axis": axes, "--tune": tune, "--set": settings})
    for knob, values in axes.items():
        if len(values) < 2:
            raise ConfigError(
                f"--axis {knob}={to_flag(values)}: one value is no axis; for every "
                f"arm it is --set config.{knob}={to_flag(values)}"
            )
    arms = arms_of(axes, options.zip)
    baseline, *_ = arms
    seeds = options.seeds or SEEDS
    experiment = configure(options.config, settings | arms[baseline])
    for knobs in arms.values():
        configure(options.config, settings | knobs)
    metric, goal = _metric(options, experiment)
    fresh = next(n for n in itertools.count(TUNE_SEED) if n not in seeds)
    try:
        study = Study(
            config=options.config,
            settings=settings,
            arms=arms,
            baseline=baseline,
            seeds=seeds,
            tune=tune,
            trials=options.trials,
            proposer=options.proposer or PROPOSERS[0],
            tune_seeds=(fresh,) if tune else (),
            metric=metric,
            goal=goal,
            sesoi=options.sesoi,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    tuning_grid(study)  # its ranges are those of knobs
    most = options.until_decided
    return study if most is None else looks.until_decided(study, most)


def _metric(options, experiment):
    """The metric and its goal, as the flags say or else the configuration."""
    metric = options.metric or default_metric(experiment)
    best = score_goals().get(metric.rpartition("/")[2])
    if best or options.goal:
        return metric, options.goal or best.__name__
    if metric not in (names := score_names(experiment)):
        raise ConfigError(no_choice("metric", metric, tuple(names)))
    raise ConfigError(
        f"--metric={metric}: is less of it better? say --goal=min or --goal=max"
    )


def _read(options, flag, texts):
    """Knob -> its distinct values, of a flag ``KNOB=VALUE,VALUE``."""
    texts = [text.removeprefix("config.") for text in texts]
    given = pairs(flag, texts, "KNOB=VALUE,VALUE")
    for knob in given.keys() & ELSEWHERE.keys():
        raise ConfigError(f"{flag} {knob}={given[knob]}: {ELSEWHERE[knob]}")
    typed = typed_knobs(options.config, texts, f"{flag} ", several=True)
    for knob, values in typed.items():
        if not values:
            raise ConfigError(f"{flag} {knob}=: write KNOB=VALUE,VALUE")
        if len(set(values)) < len(values):
            raise ConfigError(
                f"{flag} {knob}={to_flag(values)}: values must be distinct"
            )
    return typed


def _check_owners(given: Mapping[str, Mapping]) -> None:
    for (flag, knobs), (other, others) in itertools.combinations(given.items(), 2):
        for knob in knobs.keys() & others.keys():
            raise ConfigError(f"{knob} is in {flag} and in {other}; choose one of them")


def arms_of(axes: Mapping[str, Sequence], zipped: bool) -> dict[str, dict[str, Any]]:
    """Name -> knobs: the values of the axes, in the order in which they were given."""
    lengths = {knob: len(values) for knob, values in axes.items()}
    if zipped and len(set(lengths.values())) > 1:
        counts = ", ".join(f"{knob} has {n}" for knob, n in lengths.items())
        raise ConfigError(f"--zip: {counts} values; give as many of each")
    if not zipped and (count := math.prod(lengths.values())) > MOST_ARMS:
        raise ConfigError(
            f"--axis {' '.join(axes)}: {count:,} arms; at most {MOST_ARMS:,}"
        )
    join = zip if zipped else itertools.product
    arms = {}
    for values in join(*axes.values()):
        knobs = dict(zip(axes, values, strict=True))
        words = (_word(*item, alone=len(axes) == 1) for item in knobs.items())
        arms[_free("-".join(words), arms)] = knobs
    return arms


def _word(knob, value, alone):
    """A value in letters of a name; after its knob, unless it is a word or alone."""
    text = "+".join(map(str, value)) if isinstance(value, tuple) else to_flag(value)
    text = re.sub(r"[^A-Za-z0-9_.+-]+", "_", text)
    plain = re.match(r"[A-Za-z0-9]", text) and (alone or isinstance(value, str))
    return text if plain else knob.rpartition(".")[2] + text


def _free(name, taken):
    """``name``, or what tells it from those that are spelled alike."""
    endings = ("", *(f".{n}" for n in range(2, len(taken) + 2)))
    names = (name[: LONGEST - len(ending)] + ending for ending in endings)
    return next(each for each in names if each not in taken)


def in_words(study: Study) -> str:
    """The question of a study, the axes of its arms with their values."""
    values = {}
    for knobs in study.arms.values():
        for knob, value in knobs.items():
            values.setdefault(knob, {})[to_flag(value)] = None
    axes = [f"{knob} ({', '.join(texts)})" for knob, texts in values.items()]
    *first, last = axes
    listed = f"{', '.join(first)} and {last}" if first else last
    return f"How does {study.metric} depend on {listed}?"
