"""The U-Nets of diffusers and the imported models compute the same."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import UNet2DModel

from tests.interop.text_reference import assert_parity
from tfm_jax.data.batch import NoisyBatch
from tfm_jax.interop.diffusers import FILE, load_diffusers, save_diffusers
from tfm_jax.interop.maps import DENOISERS
from tfm_jax.interop.safetensors_io import read

DDPM = dict(freq_shift=1, flip_sin_to_cos=False, downsample_padding=0, norm_eps=1e-6)
SHAPES = {
    "ddpm": dict(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=None,
    ),
    "adm": dict(
        sample_size=(4, 12),
        in_channels=3,
        out_channels=6,
        layers_per_block=2,
        block_out_channels=(12,),
        down_block_types=("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",),
        norm_num_groups=4,
        attn_norm_num_groups=4,
        attention_head_dim=6,
        resnet_time_scale_shift="scale_shift",
        num_class_embeds=5,
    ),
}


def randomised(model):
    """In evaluation mode, with random numbers in every tensor."""
    torch.manual_seed(0)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            is_scale = "norm" in path and path.endswith("weight")
            scale = 0.3 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            parameter.copy_(is_scale + scale * torch.randn_like(parameter))
    return model.eval()


def batch_of(shape, labels=0, seed=0):
    """Images [B, H, W, C] with noise, times and labels."""
    rng = np.random.default_rng(seed)
    times = rng.uniform(0, 1000, shape[0]).astype(np.float32)
    named = np.arange(shape[0]) % labels if labels else None
    return NoisyBatch(rng.normal(size=shape).astype(np.float32), times, named)


def last(x):
    return torch.as_tensor(x).movedim(-1, 1)


@pytest.fixture(scope="module", params=SHAPES)
def pair(request, tmp_path_factory):
    """(the reference, the same model imported, the folder between)."""
    model = randomised(UNet2DModel(**SHAPES[request.param], **DDPM))
    folder = tmp_path_factory.mktemp("unet")
    model.save_pretrained(folder)
    return model, load_diffusers(folder), folder


def test_predictions_and_every_gradient_are_equal(pair):
    model, imported, _ = pair
    cfg = imported.config
    batch = batch_of((2, 4, 6, cfg.channels), cfg.labels)
    readout = np.random.default_rng(1).normal(size=(4, 6, model.config.out_channels))
    labels = None if batch.labels is None else torch.tensor(batch.labels)
    model.double()
    y = model(last(batch.images).double(), torch.tensor(batch.times).double(), labels)
    y = y.sample.movedim(1, -1)
    loss = (torch.sin(y) * torch.tensor(readout)).mean()
    assert_parity(
        model,
        loss,
        [y],
        imported,
        batch,
        DENOISERS["UNet2DModel"].to_params,
        lambda y: (jnp.sin(y) * readout).mean(),
    )
    model.float()


def test_a_folder_goes_out_and_in_bit_for_bit(pair, tmp_path):
    model, imported, folder = pair
    save_diffusers(tmp_path / "ours", imported.params, imported.config)
    again = UNet2DModel.from_pretrained(tmp_path / "ours")
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], tensor, name)
    assert read(tmp_path / "ours", FILE).keys() == read(folder, FILE).keys()
    assert load_diffusers(tmp_path / "ours").config == imported.config


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(_class_name="UNet3D"), "_class_name='UNet3D'; choose from .*UNet2DModel"),
        (dict(downsample_padding=1), "downsample_padding=1 must be 0"),
        (dict(block_out_channels="wide"), "block_out_channels='wide' must be positive"),
        (dict(sample_size=None), "sample_size=None must be"),
        (dict(down_block_types=["DownBlock2D", "ResnetDown"]), "down_block_types"),
    ],
)
def test_a_folder_without_counterpart_is_refused_in_one_line(
    changed, message, tmp_path
):
    UNet2DModel(**SHAPES["ddpm"], **DDPM).save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changed))
    with pytest.raises(ValueError, match=message) as refusal:
        load_diffusers(tmp_path)
    assert "\n" not in str(refusal.value)
