"""Folders as diffusers writes them: a denoising model out of one, and one out of it."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from tfm_jax import bounded_json
from tfm_jax.data.batch import NoisyBatch
from tfm_jax.interop import safetensors_io
from tfm_jax.interop.huggingface import CONFIG, local
from tfm_jax.interop.maps import DENOISERS
from tfm_jax.interop.maps.denoisers import DenoiserMap
from tfm_jax.interop.problems import cut

FILE = "diffusion_pytorch_model.safetensors"
CLASS = "_class_name"


class ImportedDenoiser(NamedTuple):
    """A model of images with noise.

    Attributes: config: of the model. model: Linen module. params: nested dict, float32.
    """

    config: Any
    model: nn.Module
    params: dict

    def denoise(
        self, x: ArrayLike, times: ArrayLike, labels: ArrayLike | None = None
    ) -> jax.Array:
        """What the model predicts of images [B, H, W, C] at times [B] of 1,000."""
        batch = NoisyBatch(x, jnp.asarray(times, jnp.float32), labels)
        with jax.default_matmul_precision("float32"):
            return _predict(self.model, self.params, batch)


@functools.partial(jax.jit, static_argnums=0)
def _predict(model, params, batch):
    return model.apply({"params": params}, batch, train=False)


def load_diffusers(folder: str | Path) -> ImportedDenoiser:
    """Loads ``config.json`` and safetensors, whole or in shards; see ``DENOISERS``.

    Raises:
        ValueError: another class, pickles, fields without counterpart here, or tensors
            that are unknown, missing, of another shape or not finite; all are listed.
        FileNotFoundError: a file is missing.
    """
    folder = local(folder)
    values = bounded_json.read(folder / CONFIG, dict)
    row = _of_class(values.get(CLASS))
    config = row.read_config(values)
    params = row.to_params(config, safetensors_io.read(folder, FILE))
    return ImportedDenoiser(
        config, row.model(config), jax.tree.map(jnp.asarray, params)
    )


def save_diffusers(folder: str | Path, params: Mapping[str, Any], config: Any) -> None:
    """Writes a folder that ``from_pretrained`` of diffusers reads.

    Args:
        folder: new or empty. params: of a model of ``config``, unrolled or scanned.

    Raises:
        ValueError: the config or the parameters have no counterpart; all are listed.
        FileExistsError: the folder is not empty.
    """
    folder = Path(folder)
    row = row_of(config)
    if row is None:
        ours = f"{type(config).__module__}.{type(config).__name__}"
        raise ValueError(f"{ours} has no counterpart in diffusers")
    values = {CLASS: row.class_name, **row.write_config(config)}
    tensors = row.to_tensors(config, jax.device_get(params))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    text = json.dumps(values, indent=2, sort_keys=True) + "\n"
    (folder / CONFIG).write_text(text, "utf-8")
    safetensors_io.write(folder, tensors, FILE)


def row_of(config: Any) -> DenoiserMap | None:
    """The class that has models of ``config``; None: there is none."""
    return next((row for row in DENOISERS.values() if row.config is type(config)), None)


def _of_class(name: object) -> DenoiserMap:
    if not isinstance(name, str) or name not in DENOISERS:
        legal = ", ".join(DENOISERS)
        raise ValueError(f"{CLASS}={cut(repr(name))}; choose from ({legal})")
    return DENOISERS[name]
