"""Extend: more steps for a run that has finished, as an explicit act."""

import logging
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from tfm_jax import bounded_json
from tfm_jax.config import ConfigError, override
from tfm_jax.optim.optimizers import make_schedule
from tfm_jax.optim.schedules import SCHEDULES
from tfm_jax.runs.process.exits import CorruptCheckpoint
from tfm_jax.runs.storage import weights
from tfm_jax.settings.experiment import Experiment, resolve


class Length(NamedTuple):
    """What a run of more, or fewer, steps than before does from ``step`` on.

    Attributes:
        learning_rate_before, learning_rate: of the next update, by the schedule of as
            many steps as before, and by that of now.
    """

    step: int
    schedule: str
    total_steps_before: int
    total_steps: int
    learning_rate_before: float
    learning_rate: float

    @property
    def kind(self) -> str:
        """What its record is called."""
        longer = self.total_steps > self.total_steps_before
        return "extended" if longer else "shortened"

    def times(self, factor: float) -> "Length":
        """With rates that are cut to ``factor`` of those of the schedule."""
        before, now = self.learning_rate_before * factor, self.learning_rate * factor
        return self._replace(learning_rate_before=before, learning_rate=now)

    def __str__(self):
        old, new = f"{self.learning_rate_before:.1e}", f"{self.learning_rate:.1e}"
        does = f"goes on as before, with {new} at step {self.step}"
        if SCHEDULES[self.schedule].ends:
            does = f"jumps at step {self.step} from {old} to {new}"
            if old == new:  # it still warms up
                does = f"is {new} at step {self.step} as before, and decays otherwise"
        return (
            f"train.total_steps={self.total_steps}, {self.total_steps_before} before: "
            f"with optim.schedule={self.schedule!r} the learning rate {does}"
        )


def length(before: int, now: Experiment, step: int) -> Length:
    """What a run of ``before`` steps does that is to go on from ``step`` as ``now``."""
    total = now.train.total_steps
    rates = (float(make_schedule(now.optim, n)(step)) for n in (before, total))
    return Length(step, now.optim.schedule, before, total, *rates)


def finished(workdir: str | Path, total_steps: int) -> bool:
    """Whether the run there has made all its steps, and their results."""
    return _results(workdir).get("step") == total_steps


def extended(config: ConfigDict, workdir: str | Path, steps: int) -> ConfigDict:
    """``config`` of the run there with ``steps`` more than it has made.

    An extension that was stopped is none again: it goes on to where it was to end.

    Raises: ConfigError for a run that has not finished, which goes on by itself.
        CorruptCheckpoint if every checkpoint of it is.
    """
    train = resolve(config).train
    total, made, goes_on = train.total_steps, _made(workdir), "without --extend"
    if made == total and finished(workdir, total):
        longer = {"train.total_steps": total + steps, "train.extended_at": total}
        return override(config, longer)
    if train.extended_at and total == train.extended_at + steps:
        return config
    if _results(workdir).get("stopped"):  # early
        goes_on += " and with --config.train.stop_patience=0"
    lacks = ", but has no results of them" if made == total else ""
    raise ConfigError(
        f"--extend={steps}: the run in --workdir={workdir} has made {made} of {total} "
        f"steps{lacks}; it goes on {goes_on}, and can be extended when it has finished"
    )


def _made(workdir):
    checkpoints = weights.numbered(folder := Path(workdir, weights.DIRECTORY))
    if lost := weights.lost(folder):
        raise CorruptCheckpoint(lost)
    return int(checkpoints[-1].name) if checkpoints else 0


def _results(workdir):
    path = Path(workdir, "results.json")
    try:
        return bounded_json.read_sealed(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        logging.warning("%s is damaged and made again: %s", path, error)
        return {}
