"""``scheduler_config.json``: the noise that a denoising model was trained with.

As those of diffusers' schedulers that have betas write it, beside a model or as
``scheduler/`` of a pipeline. Ours has all betas, so that every schedule is exactly the
same there, and how images are drawn. Read is the noise alone; ``grey_levels`` it lacks.
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
FAMILIES = ("DDPM", "DDIM", "DPM", "PNDM", "UniPC", "DEIS", "Euler", "LMS", "Heun")
PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
VARIANCES = {"small": "fixed_small", "large": "fixed_large", "learned": "learned_range"}
_DEFAULTS: dict[str, Any] = {  # of diffusers.DDPMScheduler
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "trained_betas": None,
    "prediction_type": "epsilon",
    "variance_type": "fixed_small",
    "rescale_betas_zero_snr": False,
}
_BETAS = {  # beta_schedule -> (first, last, number) -> betas
    "linear": np.linspace,
    "scaled_linear": lambda a, b, n: np.linspace(a**0.5, b**0.5, n) ** 2,
}


def write(folder: str | Path, noise: Noise, *, spacing: str, clip: bool) -> None:
    """For ``DDPMScheduler.from_pretrained(folder)`` and the other schedulers.

    Args: spacing, clip: of ``data.sampler``.
    """
    config = {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": noise.steps,
        "trained_betas": noise.make_schedule().betas.tolist(),
        "prediction_type": PREDICTIONS[noise.prediction],
        "variance_type": VARIANCES[noise.variance],
        "timestep_spacing": spacing,
        "clip_sample": clip,
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
    given = _DEFAULTS | {k: x for k, x in config.items() if x is not None}
    given["variance_type"] = str(given["variance_type"]).removesuffix("_log")
    named = str(config.get("_class_name", "DDPMScheduler"))
    if not named.startswith(FAMILIES):
        raise ValueError(f"{named} is of another noise; known are {FAMILIES}")
    if given["rescale_betas_zero_snr"]:
        raise ValueError("rescale_betas_zero_snr=true: no schedule here ends in noise")
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
    if given["trained_betas"] is not None:
        return np.asarray(given["trained_betas"], np.float64)
    name, steps = given["beta_schedule"], int(given["num_train_timesteps"])
    if name == "squaredcos_cap_v2":
        return diffusion.make_schedule("cosine", steps).betas
    if name not in _BETAS:
        raise ValueError(
            f"beta_schedule={name!r}; known are {', '.join(_BETAS)}, squaredcos_cap_v2"
        )
    return _BETAS[name](given["beta_start"], given["beta_end"], steps)


def _schedule(betas):
    """The name, T and factor on the signal-to-noise ratio that have these betas."""
    if betas.ndim != 1 or not len(betas) or np.any((betas <= 0) | (betas >= 1)):
        raise ValueError("betas must be numbers between 0 and 1, one a step")
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
