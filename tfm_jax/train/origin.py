"""Origin: where a run begins; new, with another model's parameters, or resumed."""

from collections.abc import Callable
from typing import Any, NamedTuple

from tfm_jax.runs import initial, resume
from tfm_jax.runs.checkpoint import Checkpointer
from tfm_jax.settings.experiment import Experiment, complete


class Origin(NamedTuple):
    """What there is before the data is read.

    Attributes:
        experiment: the run; of a resumed one with all vocabularies.
        step: how many are made. extras: files of the checkpoint after that step, {} of
            a run that begins. scores: of its newest evaluation.
        source: whose parameters a new run takes, or None.
        tokenizer: of the checkpoint or the source, or None.
    """

    experiment: Experiment
    step: int = 0
    extras: dict = {}
    scores: dict = {}
    source: initial.Source | None = None
    tokenizer: Any = None

    @property
    def model(self) -> Any:
        """Configuration of the model whose parameters are taken, or None."""
        return self.source and self.source.model


def find(
    experiment: Experiment,
    checkpoints: Checkpointer,
    read_initial: Callable[[str], initial.Source] = initial.read,
) -> Origin:
    """Reads the newest sound checkpoint, or what the run is to start from.

    Args: read_initial: see ``loop.train``.
    Raises: ConfigError if ``experiment`` cannot go on from there; CorruptCheckpoint.
    """
    newest = checkpoints.latest_good()
    if newest is not None:
        path, extras = checkpoints.path(newest), checkpoints.extras(newest)
        if "data.json" in extras:
            return _resumed(experiment, newest, path, extras, checkpoints)
        # a model that was imported has made no step
        experiment = experiment._replace(init_from=str(path))
    if not experiment.init_from:
        return Origin(experiment)
    source = read_initial(experiment.init_from)
    initial.check(experiment, source)
    return Origin(experiment, source=source, tokenizer=source.tokenizer)


def _resumed(experiment, step, path, extras, checkpoints):
    before = resume.experiment_of(extras, path)
    resume.check_kind(before, experiment, path)
    tokenizer = experiment.workload.tokenizer(extras["tokenizer.json"])
    experiment = complete(experiment, tokenizer, before.model)
    resume.check_continues(before, experiment, step)
    scores = checkpoints.metrics(step)
    return Origin(experiment, step, extras, scores, tokenizer=tokenizer)
