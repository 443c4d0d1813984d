"""DiT of diffusers and the imported model compute the same."""

import json

import numpy as np
import pytest
import torch
from diffusers import DiTTransformer2DModel

from benchmarks import images_arms
from tests.interop.denoisers import (
    assert_denoises_alike,
    assert_has_the_defaults_of,
    assert_kept_exactly,
    batch_of,
    randomised,
)
from tfm_jax.interop import load_diffusers
from tfm_jax.interop.diffusers import FILE
from tfm_jax.interop.safetensors_io import read, write

SHAPE = dict(
    num_attention_heads=3,
    attention_head_dim=8,
    in_channels=3,
    out_channels=6,
    num_layers=2,
    sample_size=6,
    patch_size=2,
    num_embeds_ada_norm=5,
    norm_eps=1e-6,
)


def test_a_field_that_is_left_out_has_the_constructors_default():
    assert_has_the_defaults_of(DiTTransformer2DModel, **SHAPE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a model whose blocks have equal maps of time and label."""
    model = randomised(DiTTransformer2DModel(**SHAPE))
    first, *others = model.transformer_blocks
    for block in others:
        block.norm1.emb = first.norm1.emb
    path = tmp_path_factory.mktemp("dit")
    model.save_config(path)
    tensors = {name: x.numpy() for name, x in model.state_dict().items()}
    write(path, tensors, FILE)
    return path


@pytest.fixture(scope="module")
def pair(folder):
    """(the reference, the same model imported, the folder between).

    The reference has the frequencies of the released code.
    """
    model = DiTTransformer2DModel.from_pretrained(folder).eval()
    for block in model.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
        block.norm1.emb = model.transformer_blocks[0].norm1.emb
    return model, load_diffusers(folder), folder


def test_predictions_and_every_gradient_are_equal(pair):
    model, imported, _ = pair
    assert_denoises_alike(model, imported, batch_of((3, 6, 6), imported.config))


def test_the_benchmark_trains_the_same_model(pair):
    """With the frequencies of the released code, that is; and no label is left out."""
    model, imported, folder = pair
    batch = batch_of((3, 6, 6), imported.config)
    images, times, labels = map(torch.tensor, batch)
    timed = object.__new__(images_arms.Dit).load(folder).train()
    with torch.no_grad():
        wanted, outputs = (
            each(images.movedim(-1, 1), times, class_labels=labels).sample
            for each in (model, timed)
        )
    torch.testing.assert_close(outputs, wanted, atol=1e-5, rtol=0)


def test_a_folder_goes_out_and_in_bit_for_bit(pair, tmp_path):
    assert_kept_exactly(*pair, tmp_path / "ours")


def test_blocks_that_embed_time_in_ways_of_their_own_are_refused(folder, tmp_path):
    tensors = read(folder, FILE)
    name = "transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias"
    write(tmp_path, tensors | {name: np.float32(1) + tensors[name]}, FILE)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ValueError, match=f"{name} differs from .*, with which it is"):
        load_diffusers(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(activation_fn="geglu"), "activation_fn='geglu' must be 'gelu-approx"),
        (dict(sample_size=[6, 6.5]), r"sample_size=\[6, 6.5\] must be positive integ"),
        (dict(out_channels=5), "out_channels=5 must be 3"),
    ],
)
def test_a_folder_without_counterpart_is_refused(changed, message, folder, tmp_path):
    values = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | changed))
    with pytest.raises(ValueError, match=message):
        load_diffusers(tmp_path)
