"""Forks: what a run was, as the start of another one in a workdir of its own."""

from pathlib import Path

from ml_collections import ConfigDict

from tfm_jax.config import ConfigError, override
from tfm_jax.data.errors import DataError
from tfm_jax.runs.storage import weights
from tfm_jax.settings.experiment import resolve


def check_elsewhere(source: str | Path, workdir: str | Path) -> None:
    """Refuses a run that would be made where the one lies that it is to be like.

    Args: source: workdir, or a checkpoint of one.
    Raises: ConfigError saying how each of the two is asked for.
    """
    lies = Path(source).absolute()
    if lies.parent.name in (weights.DIRECTORY, "averaged"):
        lies = lies.parents[1]
    if lies.resolve() == Path(workdir).resolve():
        raise ConfigError(
            f"--config={source} is the run in --workdir={workdir}, which goes on "
            "without --config; for another one like it choose another --workdir"
        )


def recipe(config: ConfigDict, source: str | Path) -> ConfigDict:
    """The configuration of a run without what the run itself has filled in.

    Vocabularies that are as large as its tokenizer's are open again: other data has
    another one. And the new run has its full length from its first step on.

    Args: source: workdir, or a checkpoint of one.
    """
    experiment, filled = resolve(config), {"train.extended_at": 0}
    kind = experiment.workload.tokenizer
    try:
        tokenizer = kind and kind.load(Path(source, "tokenizer.json"))
    except DataError:  # of a run that ended before it had one
        tokenizer = None
    for knob, (size, attribute) in experiment.vocabularies().items():
        if size == getattr(tokenizer, attribute, 0):
            filled[f"model.{knob}"] = 0
    return override(config, filled)
