"""The registry of families: collected by itself, and open to those of others."""

import pytest

from tfm_jax import models
from tfm_jax.data.rows.framing import FRAMES
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
    fields = family.config.__dataclass_fields__
    choices = fields["head"].metadata["choices"] if "head" in fields else ()
    assert family.learns.keys() <= WORKLOADS.keys()
    assert heads | family.pairs.keys() <= set(choices)
    assert family.task_fields <= fields.keys()
    assert family.frame in FRAMES
