"""Every field of the Q-Former's Config is live: see tests/test_knobs.py."""

import dataclasses

from tests.models.tiny_pairs import config, pairs
from tests.test_knobs import assert_roles
from tfm_jax.layers.arch import Execution
from tfm_jax.models import qformer

BASE = config(text=dict(depth=1))
KNOBS = {  # sections: all that they have reaches the towers; those have such tests
    "queries": 4,
    "cross_every": dict(cross_every=1, text=dataclasses.replace(BASE.text, depth=2)),
    "text": dataclasses.replace(BASE.text, embedding_scale=True),  # embeds by itself
    "embed_width": 4,
    "temperature": 0.5,
    **dict.fromkeys(("head", "pool", "generation_mask"), {}),
}


def test_every_knob_changes_the_programs_of_its_role():
    own = {field.name for field in dataclasses.fields(qformer.Config)}
    own -= {field.name for field in dataclasses.fields(Execution)}
    assert {*KNOBS, "vision"} == own, "say here what these change"
    assert_roles(BASE, KNOBS, qformer.Retriever, pairs())


def test_the_towers_have_all_that_their_sections_say():
    cfg = config(
        dtype="bfloat16",
        vision=dict(pool="mean", registers=2),
        text=dict(dropout=0.3, norm="pre"),
    )
    for section, tower in ((cfg.vision, cfg.encoder()), (cfg.text, cfg.arch)):
        fields = dataclasses.asdict(section)
        assert fields.items() <= dataclasses.asdict(tower).items()
        assert tower.dtype == "bfloat16"
