"""A model of several towers has a section for each, without what the whole decides."""

import dataclasses
import json

import pytest

from tests.workloads import text_runs
from tfm_jax import manual, models
from tfm_jax.config import (
    ConfigError,
    from_json,
    readers_of,
    replaced,
    section,
    to_json,
    types_of,
    widened,
)
from tfm_jax.knobs import ROLES
from tfm_jax.layers.arch import EXECUTION, Execution
from tfm_jax.models import gpt, vit
from tfm_jax.models.family import Family
from tfm_jax.runs import initial
from tfm_jax.settings import new_runs
from tfm_jax.settings.experiment import knob_types, resolve

NO_LABELS = dict(labels=1, representation_width=0)
LM = dict(width=8, heads=2, depth=1, ffn_width=16, max_length=32)


@dataclasses.dataclass(frozen=True)
class Vision(vit.Config, fixed=EXECUTION | dict(head="states") | NO_LABELS):
    image_size: tuple[int, ...] = (8,)
    patch_size: tuple[int, ...] = (4,)


@dataclasses.dataclass(frozen=True)
class Lm(gpt.Config, fixed=EXECUTION | dict(head="lm", labels=2, head_dropout=0.1)):
    """Whatever GPT's language models have."""


@dataclasses.dataclass(frozen=True)
class Config(Execution):
    vision: Vision = Vision()
    lm: Lm = Lm(**LM)

    @property
    def longest(self):
        return self.lm.longest


FAMILY = Family("towers", Config, gpt.Gpt, {}, learns={"causal_lm": ()}, causal=True)


@pytest.fixture(scope="module", autouse=True)
def known():
    models.register(FAMILY)
    yield
    models.MODELS.pop(FAMILY.name)


@pytest.fixture
def config(tmp_path):
    """Function: knobs of the section ``model`` -> a configuration."""

    def get_config(**sections):
        c = text_runs.get_config("causal_lm", "gpt", "lm", tmp_path)
        c.model_name, c.model = FAMILY.name, section(Config, **sections)
        return c

    return get_config


def test_what_the_whole_decides_is_no_knob_of_a_part(config):
    built = resolve(config(dtype="bfloat16"))
    knobs = built.knobs()
    assert knobs["model.lm.heads"] == 2 and knobs["model.dtype"] == "bfloat16"
    fixed = {*EXECUTION, "head", "labels"}
    assert not {
        f"model.{part}.{name}" for part in ("lm", "vision") for name in fixed
    } & {*knobs}
    assert knobs.keys() == built.roles().keys() and {*built.roles().values()} <= {
        *ROLES
    }
    assert knobs.keys() == knob_types(FAMILY.name, "causal_lm").keys()
    read = [{r.knob, r.other} for r in readers_of(Config, "model.")]
    assert set.union(*read) <= knobs.keys()
    assert len(manual.describe({"model": Config()}).splitlines()) == len(
        types_of(Config)
    )


def test_its_configuration_is_read_back(config):
    built = resolve(config(lm=LM | dict(norm="post")))
    assert resolve(from_json(to_json(built.as_dict()))) == built
    assert resolve(json.loads(to_json(built.as_dict()))).model.lm.norm == "post"


@pytest.mark.parametrize(
    "part, knobs, message",
    [
        ("lm", dict(heads=3), "model.lm.heads=3 must divide model.lm.width=8, or set "
         "model.lm.key_size and"),
        ("lm", dict(depth=0), "model.lm.depth=0 must be positive"),
        ("lm", dict(norm="prelm"), "model.lm.norm='prelm'; choose from"),
        ("lm", dict(dtype="float32"), "model.lm.dtype: there is no such knob"),
        ("vision", dict(patch_size=(3,)), r"model.vision.patch_size=\(3,\) must divide "
         r"model.vision.image_size"),
    ],
)  # fmt: skip
def test_an_error_of_a_part_names_the_whole_path(config, part, knobs, message):
    sections = config().to_dict()
    sections["model"][part] |= knobs
    with pytest.raises(ConfigError, match=f"^{message}"):
        resolve(sections)


def test_a_knob_of_a_part_that_has_no_effect_is_refused(config):
    lm = dict(embedding_dropout=0.0, embedding_dropout_on="tables")
    with pytest.raises(ConfigError, match="^model.lm.embedding_dropout_on=.*no effect"):
        new_runs.check_read(resolve(config(lm=LM | lm)), ())


def test_rows_longer_than_a_part_takes_are_refused(config):
    c = config()
    c.model.lm.max_length = 4
    with pytest.raises(ConfigError, match="^model.lm.max_length=4 is below"):
        resolve(c)


def test_the_vocabulary_of_a_part_is_filled_in(config):
    built = resolve(config())
    assert built.complete(start=gpt.Config(vocab=11)).model.lm.vocab == 11
    assert built.complete(start=Config(lm=Lm(**LM, vocab=7))).model.lm.vocab == 7


def test_a_part_is_a_model_of_its_own():
    cfg = Config(dtype="bfloat16")
    whole = widened(cfg.lm, gpt.Config, vocab=11, **cfg.execution)
    assert whole == gpt.Config(**LM, vocab=11, dtype="bfloat16")
    assert widened(cfg.vision, vit.Config).head == "states"


def test_a_run_adopts_the_architecture_of_every_part(config):
    here = resolve(config())
    there = replaced(here.model, {"lm.width": 16, "vision.depth": 2, "lm.dropout": 0.3})
    adopted, taken = initial.adopt(here, there, given=())
    assert taken == {"lm.width": (8, 16), "vision.depth": (12, 2)}
    assert (adopted.model.lm.width, adopted.model.vision.depth) == (16, 2)
    assert adopted.model.lm.dropout == here.model.lm.dropout, (
        "it is trained its own way"
    )
    _, taken = initial.adopt(here, there, given=("model.lm.width",))
    assert [*taken] == ["vision.depth"]
    with pytest.raises(ConfigError, match="architecture of .*: model.lm.heads=2 must"):
        initial.adopt(
            here,
            replaced(here.model, {"lm.width": 9, "lm.heads": 3}),
            ("model.lm.heads",),
        )


def test_what_is_fixed_is_legal_and_leaves_no_knob_without_effect():
    with pytest.raises(ValueError, match="choose from .lm, classify."):

        class _Typo(gpt.Config, fixed={"head": "ml"}):
            pass

    with pytest.raises(TypeError, match="_Dead fixes head='lm', with which labels has"):

        class _Dead(gpt.Config, fixed={"head": "lm"}):
            pass

    with pytest.raises(TypeError, match="_Absent fixes 'registers', which is no knob"):

        class _Absent(gpt.Config, fixed={"registers": 0}):
            pass
