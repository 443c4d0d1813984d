"""The trained model that the command line chooses."""

from pathlib import Path
from typing import Any

from tfm_jax.config import ConfigError
from tfm_jax.runs import saved
from tfm_jax.runs.process import runtime
from tfm_jax.runs.storage import weights
from tfm_jax.settings.experiment import resolve


def chosen(workdir: str | Path, config: Any, step: int | None) -> saved.Saved:
    """The newest checkpoint of a run, or that after ``step``, used as ``config`` says.

    Raises: ConfigError if there is none.
    """
    experiment = resolve(config)
    runtime.prepare(experiment.mesh.cpu_devices)
    where = Path(workdir)
    if step is not None:
        where = where / weights.DIRECTORY / f"{step:06d}"
        if not where.is_dir():
            there = [path.name for path in weights.numbered(where.parent)]
            raise ConfigError(f"--checkpoint={step}; choose from {', '.join(there)}")
    try:
        return saved.load(where, config=config)
    except FileNotFoundError as error:
        raise ConfigError(f"--workdir={workdir}: {error}") from error
