"""Every field of the denoising models' Configs is live: see tests/test_knobs.py."""

import dataclasses

import pytest

from tests.interop.denoisers import batch_of
from tests.models.test_encoder_knobs import ARCH
from tests.test_knobs import assert_roles
from tfm_jax.layers.arch import Arch, TextArch
from tfm_jax.models import dit, unet

ATTENDS = dict(attention_block="transformer", attention_at=(4,))
OF_TEXT = {f.name for f in dataclasses.fields(TextArch)}
OF_TEXT -= {f.name for f in dataclasses.fields(Arch)}
KNOBS = {
    "dit": (
        dit,
        dict(width=8, heads=2, ffn_width=12, depth=1, dropout=0.1, patch_size=(2,)),
        {
            **{name: ARCH[name] for name in ARCH if name not in OF_TEXT},
            "positions": dict(width=16),
            "mask_style": dict(windows=(2,)),
            "norm_kind": dict(conditioning="in_context"),
            "depth": 2,
            "patch_size": (4,),
            "channels": 3,
            "conditioning": {},
            "labels": 3,
            "label_dropout": 0.5,
            "variance": {},
        },
        ("image_size",),
    ),
    "unet": (
        unet,
        dict(width=8, depth=1, multipliers=(1,), groups=4, attention_at=()),
        {
            **dict.fromkeys(("dtype", "attention_block", "modulation", "variance"), {}),
            "remat": dict(attention_at=(4,)),
            "image_size": dict(image_size=(8,), attention_at=(4,)),
            "channels": 3,
            "width": 16,
            "multipliers": (1, 2),
            "depth": 2,
            "attention_at": (4,),
            "transformer_depth": dict(transformer_depth=2, **ATTENDS),
            "heads": 2,
            "head_size": 4,
            "groups": 2,
            "norm_eps": 1e-3,
            "dropout": 0.3,
            "labels": 3,
            "conditioning": ATTENDS,
            "label_dropout": 0.5,
        },
        ("layout",),  # of one choice
    ),
}


@pytest.mark.parametrize("family", KNOBS)
def test_every_knob_changes_the_programs_of_its_role(family):
    """But the size of images, which a batch has, where positions are not learned."""
    module, fields, listed, others = KNOBS[family]
    own = {f.name for f in dataclasses.fields(module.Config)}
    assert set(listed) | {"attention", *others} == own, "say here what these change"
    base = module.Config(**fields, image_size=(4,), channels=2, labels=2)
    assert_roles(base, listed, module.Model, batch_of((2, 4, 4), base))
