"""Every field of Flamingo's Config is live: see tests/test_knobs.py."""

import dataclasses

import jax
import pytest

from tests.models.test_flamingo import IMAGES, TINY, batch_of, config_of
from tests.test_knobs import assert_live, assert_roles
from tests.traced import traced
from tfm_jax.layers.arch import Execution
from tfm_jax.layers.images.resampler import ResamplerConfig
from tfm_jax.models.flamingo import Config, Flamingo

BASE = config_of(**TINY | dict(lm=TINY["lm"] | dict(depth=1), seen="all"))
KNOBS = {  # sections: all that they have reaches the parts; those have such tests
    "vocab": 13,
    "gated_every": dict(gated_every=1, lm=dataclasses.replace(BASE.lm, depth=2)),
    **dict.fromkeys(("gate", "seen", "activation", "init"), {}),
}
RESAMPLER = {
    "kind": {},
    "depth": 2,
    "latents": 3,
    "heads": 1,
    "key_size": 3,
    "ffn_width": 10,
    "frames": 3,
}
BATCH = batch_of(IMAGES)


def test_every_knob_changes_the_programs_of_its_role():
    own = {field.name for field in dataclasses.fields(Config)}
    own -= {field.name for field in dataclasses.fields(Execution)}
    assert {*KNOBS, "vision", "lm", "resampler"} == own, "say here what these change"
    assert_roles(BASE, KNOBS, Flamingo, BATCH)


def program_of(resampler):
    model = Flamingo(dataclasses.replace(BASE, resampler=resampler))

    def init_and_apply(key):
        return model.init_with_output(key, IMAGES, train=False, method="resample")

    return traced((init_and_apply, (jax.random.key(0),)))


def test_every_knob_of_the_resampler_changes_what_an_image_becomes():
    assert RESAMPLER.keys() == {x.name for x in dataclasses.fields(ResamplerConfig)}
    assert_live(BASE.resampler, RESAMPLER, program_of)


@pytest.mark.parametrize("kind", ["none", "mlp", "transformer"])
def test_a_resampler_ignores_what_the_table_says_it_ignores(kind):
    base = dataclasses.replace(BASE.resampler, kind=kind)
    ignored = {
        knob: RESAMPLER[knob]
        for (other, readers), knobs in ResamplerConfig.READ_WITH.items()
        for knob in knobs
        if other == "kind" and kind not in readers
    }
    assert ignored and "frames" not in ignored
    assert program_of(dataclasses.replace(base, **ignored)) == program_of(base)


def test_the_parts_have_all_that_their_sections_say():
    cfg = config_of(
        **TINY
        | dict(
            dtype="bfloat16",
            vision=TINY["vision"] | dict(pool="mean", registers=2),
            lm=TINY["lm"] | dict(dropout=0.3, norm="post"),
        )
    )
    for section, part in ((cfg.vision, cfg.encoder()), (cfg.lm, cfg.language())):
        fields = dataclasses.asdict(section)
        assert fields.items() <= dataclasses.asdict(part).items()
        assert part.dtype == "bfloat16"
    assert cfg.language().vocab == cfg.vocab
