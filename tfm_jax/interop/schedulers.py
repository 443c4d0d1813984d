"""``scheduler_config.json``: the noise that a denoising model was trained with.

As diffusers' schedulers write it, beside a model or as ``scheduler/`` of a pipeline.
Ours has all betas, so that every schedule is exactly the same there.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfm_jax import bounded_json
from tfm_jax.objectives.denoise import Noise
from tfm_jax.ops import diffusion

FILE = "scheduler_config.json"
PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
VARIANCES = {"small": "fixed_small", "large": "fixed_large", "learned": "learned_range"}
_BETAS = {  # beta_schedule -> (first, last, number) -> betas
    "linear": np.linspace,
    "scaled_linear": lambda a, b, n: np.linspace(a**0.5, b**0.5, n) ** 2,
}


def write(folder: str | Path, noise: Noise) -> None:
    """For ``DDPMScheduler.from_pretrained(folder)`` and the other schedulers."""
    config = {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": noise.steps,
        "trained_betas": noise.make_schedule().betas.tolist(),
        "prediction_type": PREDICTIONS[noise.prediction],
        "variance_type": VARIANCES[noise.variance],
        "timestep_spacing": "trailing",
    }
    Path(folder, FILE).write_text(json.dumps(config, indent=1) + "\n", "utf-8")


def read(folder: str | Path) -> dict[str, Any] | None:
    """Fields of ``data.noise``; None if the folder has no such file.

    Raises: ValueError naming the entry if noise here is never like that.
    """
    for path in (Path(folder, FILE), Path(folder).parent / "scheduler" / FILE):
        if path.is_file():
            try:
                return _fields(bounded_json.read(path, dict))
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}: {error}") from error
    return None


def _fields(config: Mapping[str, Any]) -> dict[str, Any]:
    given = {"prediction_type": "epsilon", "variance_type": "fixed_small", **config}
    given["variance_type"] = given["variance_type"].removesuffix("_log")
    fields = {}
    for ours, theirs, names in (
        ("prediction", "prediction_type", PREDICTIONS),
        ("variance", "variance_type", VARIANCES),
    ):
        known = {name: field for field, name in names.items()}
        if given[theirs] not in known:
            choices = ", ".join(known)
            raise ValueError(f"{theirs}={given[theirs]!r}; known are {choices}")
        fields[ours] = known[given[theirs]]
    return fields | _schedule(_betas(given))


def _betas(given):
    if (betas := given.get("trained_betas")) is not None:
        return np.asarray(betas, np.float64)
    name, steps = given.get("beta_schedule", "linear"), given["num_train_timesteps"]
    if name == "squaredcos_cap_v2":
        return diffusion.make_schedule("cosine", steps).betas
    if name not in _BETAS:
        raise ValueError(
            f"beta_schedule={name!r}; known are {', '.join(_BETAS)}, squaredcos_cap_v2"
        )
    return _BETAS[name](given["beta_start"], given["beta_end"], steps)


def _schedule(betas):
    """The name, T and factor on the signal-to-noise ratio that have these betas."""
    signal = np.cumprod(1 - betas)
    for name in diffusion.SCHEDULES:
        snr = diffusion.make_schedule(name, len(betas)).snr
        factors = signal / (1 - signal) / snr
        if np.ptp(factors) < 1e-4 * factors[0]:
            scale = round(float(np.median(factors)), 6)
            return dict(schedule=name, steps=len(betas), snr_scale=scale)
    raise ValueError(
        f"{len(betas)} betas from {betas[0]:g} to {betas[-1]:g} are none of the "
        f"schedules {', '.join(diffusion.SCHEDULES)}"
    )
