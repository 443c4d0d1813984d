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
from pathlib import Path

from tfm_jax.config import ConfigError
from tfm_jax.data.cache import home, make_private
from tfm_jax.runs.storage import weights
from tfm_jax.settings import files
from tfm_jax.settings.experiment import Experiment


def remember(experiment: Experiment) -> None:
    """Notes that the user has named the files of ``experiment``."""
    named = _named(experiment, files.PLACES)
    try:
        make_private(home("named_data"))
        for knob in named:
            _note(named, knob).touch(exist_ok=True)
    except OSError as error:
        logging.info("which data was named is not remembered: %s", error)


def check(experiment: Experiment, given: Collection[str], workdir: str | Path) -> None:
    """Refuses files that only the run's own configuration names.

    A run with a checkpoint has its parameters and its tokenizer from there.

    Args: given: knobs that are set on the command line.
    Raises: ConfigError naming one and the flag that says that it may be read.
    """
    begun = weights.numbered(Path(workdir, weights.DIRECTORY))
    named = _named(experiment, files.LATER if begun else files.PLACES)
    try:
        make_private(home("named_data"))
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


def _named(experiment, knobs):
    """Knob -> value, of those that name something."""
    values = experiment.knobs()
    return {k: values[k] for k in sorted(knobs & values.keys()) if values[k]}


def _note(named, knob):
    text = json.dumps([knob, named[knob]])
    return home("named_data") / hashlib.sha256(text.encode()).hexdigest()
