"""Every field of the encoders' Configs is live: see tests/test_knobs.py."""

import dataclasses

import numpy as np
import pytest

from tests.models import tiny_images
from tests.models.tiny_text import TINY, rows
from tests.test_knobs import MODEL, assert_named, assert_roles
from tfm_jax.data.batch import MaskedBatch
from tfm_jax.layers.arch import Arch, TextArch
from tfm_jax.models import albert, bert, electra, vit

# shared by everything that is built from Blocks; one family stands for all of them
ARCH = {
    name: MODEL[name]
    for name in (f.name for f in dataclasses.fields(TextArch))
    if name != "attention"  # tests/test_knobs.py::test_the_attention_kernel_is_a_choice
} | {"max_length": 14, "windows": (2,)}
TEXT = {
    "depth": 2,
    "vocab": 23,
    "types": 3,
    "labels": dict(labels=3, head="classify"),
    "pool": dict(pool="mean", head="classify"),
    "head_dropout": dict(head_dropout=0.3, head="classify"),
    "head": {},
}
GENERATOR = dict(
    generator_width=4, generator_heads=2, generator_ffn_width=8, generator_depth=1
)
KNOBS = {
    "bert": (bert, {}, ARCH | TEXT),
    "albert": (
        albert,
        dict(embedding_width=8),
        TEXT
        | {
            "embedding_width": 6,
            "embedding_map": {},
            "share": dict(depth=2),
            "groups": dict(groups=2, depth=3),
        },
    ),
    "electra": (
        electra,
        dict(embedding_width=6, **GENERATOR),
        TEXT
        | {
            "embedding_width": 10,
            "generator_width": 6,
            "generator_heads": 1,
            "generator_ffn_width": 10,
            "generator_depth": 2,
            "share": dict(
                **dict(generator_width=8, generator_heads=2),
                **dict(generator_ffn_width=12, generator_depth=1),
            ),
        },
    ),
}


@pytest.mark.parametrize("family", KNOBS)
def test_every_knob_changes_the_programs_of_its_role(family):
    module, fields, listed = KNOBS[family]
    own = {f.name for f in dataclasses.fields(module.Config)}
    arch = {f.name for f in dataclasses.fields(TextArch)}
    assert set(listed) | arch == own, "say here what these knobs change"
    base = module.Config(**(TINY | dict(depth=1, dropout=0.1) | fields))
    places = np.zeros((2, 2), np.int32)
    batch = MaskedBatch(
        *rows([5, 3]), labels=places, weights=places + 1.0, target_positions=places
    )
    assert_roles(base, listed, module.Model, batch)


# knob -> the test that would fail if it were dead
ELSEWHERE = {
    **dict.fromkeys(
        ("pixel_mean", "pixel_std"),
        "tests/models/test_vit.py::"
        "test_pixels_are_scaled_and_floats_are_read_as_they_are",
    ),
    "position_resize": "tests/models/test_vit.py::"
    "test_positions_are_interpolated_to_the_size_of_a_run",
}
IMAGES = {
    "positions": dict(width=16),  # of a grid, too
    "depth": 2,
    "image_size": (6, 12),
    "patch_size": (3, 4),
    "channels": 3,
    "registers": 2,
    "pool": {},
    "representation_width": 4,
    "head": {},
    "labels": 3,
}


def test_every_knob_of_an_encoder_of_images_changes_the_programs_of_its_role():
    own = {f.name for f in dataclasses.fields(vit.Config)} - ELSEWHERE.keys()
    arch = {f.name for f in dataclasses.fields(Arch)}
    assert set(IMAGES) | arch == own, "say here what these knobs change"
    for knob, place in ELSEWHERE.items():
        assert_named(knob, place)
    base = vit.Config(**(tiny_images.TINY | dict(depth=1, dropout=0.1)))
    batch = tiny_images.images()
    pixels = batch._replace(images=batch.images.astype(np.uint8))

    assert_roles(base, IMAGES, vit.Vit, pixels)
