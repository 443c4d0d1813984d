"""Denoising models of diffusers with random weights, and comparisons with them."""

import inspect
import json

import jax.numpy as jnp
import numpy as np
import torch

from tests.interop.text_reference import assert_parity
from tfm_jax.data.batch import NoisyBatch
from tfm_jax.interop import load_diffusers, save_diffusers
from tfm_jax.interop.diffusers import FILE
from tfm_jax.interop.maps import DENOISERS
from tfm_jax.interop.safetensors_io import read


def randomised(model):
    """In evaluation mode, with random numbers in every tensor."""
    torch.manual_seed(0)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            vector = parameter.ndim == 1
            is_scale = vector and path.endswith("weight")
            scale = 0.3 if vector else parameter[0].numel() ** -0.5
            parameter.copy_(is_scale + scale * torch.randn_like(parameter))
    return model.eval()


def batch_of(shape, cfg, seed=0):
    """(B, H, W) images with noise, times and labels for a model of ``cfg``."""
    rng = np.random.default_rng(seed)
    times = rng.uniform(0, 1000, shape[0]).astype(np.float32)
    labels = np.arange(shape[0]) % cfg.labels if cfg.labels else None
    images = rng.normal(size=(*shape, cfg.channels)).astype(np.float32)
    return NoisyBatch(images, times, labels)


def assert_denoises_alike(model, imported, batch):
    """The prediction and the gradient of every parameter are the reference's."""
    images = torch.tensor(batch.images).movedim(-1, 1).double()
    labels = None if batch.labels is None else torch.tensor(batch.labels)
    model.double()
    y = model(images, torch.tensor(batch.times).double(), class_labels=labels)
    y = y.sample.movedim(1, -1)
    readout = np.random.default_rng(1).normal(size=y.shape)
    loss = (torch.sin(y) * torch.tensor(readout)).mean()
    assert_parity(
        model,
        loss,
        [y],
        imported,
        batch,
        DENOISERS[type(model).__name__].to_params,
        lambda y: (jnp.sin(y) * readout).mean(),
    )
    model.float()


def assert_kept_exactly(model, imported, folder, new):
    """Written to the folder ``new``, the model is the reference's bit for bit."""
    save_diffusers(new, imported.params, imported.config)
    again = type(model).from_pretrained(new).state_dict()
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(again[name], tensor, name)
    assert read(new, FILE).keys() == read(folder, FILE).keys()
    assert load_diffusers(new).config == imported.config


def assert_has_the_defaults_of(cls, **given):
    """A field that a ``config.json`` leaves out is what the constructor ``cls`` has."""
    read = DENOISERS[cls.__name__].read_config
    parameters = inspect.signature(cls).parameters
    defaults = json.loads(json.dumps({k: p.default for k, p in parameters.items()}))
    whole = {**defaults, **json.loads(json.dumps(given))}
    assert read(whole)
    for name, default in defaults.items():
        left_out = {k: value for k, value in whole.items() if k != name}
        assert _read(read, left_out) == _read(read, {**whole, name: default}), name


def _read(read, values):
    try:
        return read(values)
    except ValueError as refusal:
        return str(refusal)
