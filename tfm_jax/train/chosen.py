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

    Raises: ConfigError if there is none. CorruptCheckpoint if none is sound.
    """
    experiment = resolve(config)
    runtime.prepare(experiment.mesh.cpu_devices)
    where = Path(workdir)
    there = [path.name for path in weights.numbered(where / weights.DIRECTORY)]
    if step is not None and there:
        where = where / weights.DIRECTORY / f"{step:06d}"
        if where.name not in there:
            bad = [n for n in weights.corrupt(where.parent) if n.startswith(where.name)]
            lost = f": it is corrupt, and called {bad[0]}" if bad else ""
            raise ConfigError(
                f"--checkpoint={step}{lost}; choose from ({', '.join(there)})"
            )
    try:
        return saved.load(where, config=config)
    except FileNotFoundError as error:
        raise ConfigError(f"--workdir={workdir}: {error}") from error
