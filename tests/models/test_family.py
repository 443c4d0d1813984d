"""The registry of families: collected by itself, and open to those of others."""

import dataclasses

import pytest

from tfm_jax import models
from tfm_jax.config import ConfigError, build, role_of, section
from tfm_jax.data.rows.framing import FRAMES
from tfm_jax.layers.arch import Execution
from tfm_jax.models import bert
from tfm_jax.workloads import WORKLOADS


def test_a_taken_name_is_refused_and_the_same_family_is_not():
    before = dict(models.MODELS)
    models.register(bert.FAMILY)
    with pytest.raises(ValueError, match="model_name='bert' is taken"):
        models.register(bert.FAMILY._replace(learns={}))
    assert models.MODELS == before


@pytest.mark.parametrize("name", models.MODELS)
def test_a_family_names_only_what_there_is(name):
    family = models.MODELS[name]
    heads = {head for some in family.learns.values() for head in some}
    fields = {field.name: field for field in dataclasses.fields(family.config)}
    choices = fields["head"].metadata["choices"] if "head" in fields else ()
    assert family.learns.keys() <= WORKLOADS.keys()
    assert heads | family.pairs.keys() <= set(choices)
    assert family.task_fields <= fields.keys()
    assert family.frame in FRAMES


def test_a_family_that_lacks_a_choice_refuses_it_and_inherits_all_else():
    @dataclasses.dataclass(frozen=True)
    class Unrolled(Execution, choices={"layout": ("unrolled",)}):
        dtype: str = "bfloat16"

    with pytest.raises(
        ConfigError, match=r"^model.layout='scanned'; choose from \(unr"
    ):
        build(Unrolled, section(Unrolled).to_dict() | {"layout": "scanned"})
    layout, usual = (
        {field.name: field for field in dataclasses.fields(cls)}["layout"].metadata
        for cls in (Unrolled, Execution)
    )
    assert {**layout} == {**usual} | {"choices": ("unrolled",)}
    assert Unrolled().dtype == "bfloat16" and role_of(Unrolled, "layout") == "execution"
