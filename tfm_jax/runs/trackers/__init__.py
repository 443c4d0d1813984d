"""Trackers: where the record of a run goes besides ``metrics.jsonl``, for people."""

import functools
import importlib.util
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tfm_jax import bounded_json
from tfm_jax.config import ConfigError, to_flag
from tfm_jax.runs.trackers import mlflow, tensorboard, wandb
from tfm_jax.runs.trackers.follower import Follower, RunInfo
from tfm_jax.runs.trackers.redact import redact, redacted
from tfm_jax.runs.workdir import replace

TRACKERS = {  # name -> (what it needs, what writes there)
    "tensorboard": ("tensorboardX", tensorboard.write),
    "wandb": ("wandb", wandb.write),
    "mlflow": ("mlflow", mlflow.write),
}
NAME = "trackers.json"  # has the name that a run goes by elsewhere


def require(names: Collection[str]) -> None:
    """Raises: ConfigError for a tracker that was asked for and is not installed."""
    for name in names:
        if name != "tensorboard" and not _is_there(name):
            raise ConfigError(
                f"train.trackers={to_flag(tuple(names))}: {name} is not installed; "
                f"pip install 'tfm_jax[{name}]', or choose others"
            )


def follow(
    names: Collection[str], workdir: Path, step: int, knobs: Mapping[str, Any]
) -> list[Follower]:
    """What writes the record of a run elsewhere, one follower a tracker.

    Args: step: that the run goes on from. knobs: of it, dotted; secrets are left out.
    """
    names = [name for name in names if _is_there(name)]
    texts = {n: to_flag(x) if isinstance(x, tuple) else x for n, x in knobs.items()}
    info = RunInfo(
        workdir=workdir,
        name=redact(workdir.name),
        id=_id_of(workdir) if set(names) - {"tensorboard"} else "",
        step=step,
        knobs=redacted(texts),
    )
    writes = {n: functools.partial(TRACKERS[n][1], info=info) for n in names}
    return [Follower(name, write) for name, write in writes.items()]


def _is_there(name):
    return importlib.util.find_spec(TRACKERS[name][0]) is not None


def _id_of(workdir):
    """What a run is called elsewhere, whichever process goes on with it."""
    path = workdir / NAME
    try:
        known = bounded_json.read_sealed(path)["id"]
        if isinstance(known, str) and known.isalnum():
            return known
    except (OSError, ValueError, KeyError):
        pass  # not there, or damaged: another one
    new = secrets.token_hex(4)
    replace(path, {"id": new})
    return new
