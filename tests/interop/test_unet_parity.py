"""The U-Nets of diffusers and the imported models compute the same."""

import json

import pytest
from diffusers import UNet2DModel

from tests.interop.denoisers import (
    assert_denoises_alike,
    assert_has_the_defaults_of,
    assert_kept_exactly,
    batch_of,
    randomised,
)
from tfm_jax.interop import load_diffusers

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


@pytest.fixture(scope="module", params=SHAPES)
def pair(request, tmp_path_factory):
    """(the reference, the same model imported, the folder between)."""
    model = randomised(UNet2DModel(**SHAPES[request.param], **DDPM))
    folder = tmp_path_factory.mktemp("unet")
    model.save_pretrained(folder)
    return model, load_diffusers(folder), folder


def test_predictions_and_every_gradient_are_equal(pair):
    model, imported, _ = pair
    assert_denoises_alike(model, imported, batch_of((2, 4, 6), imported.config))


def test_a_folder_goes_out_and_in_bit_for_bit(pair, tmp_path):
    assert_kept_exactly(*pair, tmp_path / "ours")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_field_that_is_left_out_has_the_constructors_default(shape):
    assert_has_the_defaults_of(UNet2DModel, **SHAPES[shape], **DDPM)


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
