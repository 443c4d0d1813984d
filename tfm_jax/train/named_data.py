"""Files that a run names: read without a question only if the user has named them.

The configuration of a run is data of whoever made it, and names files of the machine it
is used on: a workdir from somebody else could have one's own files read and trained on.
What a user has trained on is remembered in the user's cache, as sha256 of the names: a
mark in a workdir could be trusted no more than the workdir.
"""

import hashlib
import json
import logging
from collections.abc import Collection

from tfm_jax.config import ConfigError, flatten
from tfm_jax.data.cache import make_private
from tfm_jax.train import runtime
from tfm_jax.train.experiment import Experiment
from tfm_jax.train.places import PLACES


def remember(experiment: Experiment) -> None:
    """Notes that the user has named the files of ``experiment``."""
    named = _named(experiment)
    try:
        make_private(runtime.cache("named_data"))
        for knob in named:
            _note(named, knob).touch(exist_ok=True)
    except OSError as error:
        logging.info("which data was named is not remembered: %s", error)


def check(experiment: Experiment, given: Collection[str]) -> None:
    """Refuses files that only the run's own configuration names.

    Args: given: knobs that are set on the command line.
    Raises: ConfigError naming one and the flag that says that it may be read.
    """
    named = _named(experiment)
    try:
        make_private(runtime.cache("named_data"))
        unknown = [k for k in named if k not in given and not _note(named, k).exists()]
    except OSError:
        unknown = [knob for knob in named if knob not in given]
    if unknown:
        knob = unknown[0]
        raise ConfigError(
            f"{knob}={named[knob]!r} is named by the run alone, and you have not "
            f"trained on it here: give --config.{knob}, or --trust_data=true to read "
            "what it names"
        )


def _named(experiment):
    """Knob -> value, of those that name data; a checkpoint has its own tokenizer."""
    values = dict(flatten(experiment.as_dict()))
    knobs = sorted(knob for knob in PLACES & values.keys() if knob.startswith("data."))
    return {knob: values[knob] for knob in knobs if values[knob]}


def _note(named, knob):
    text = json.dumps([knob, named[knob]])
    return runtime.cache("named_data") / hashlib.sha256(text.encode()).hexdigest()
