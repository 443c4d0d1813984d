"""What the help says of a knob is what its field says."""

import dataclasses

import pytest

from tfm_jax import manual
from tfm_jax.config import load, types_of
from tfm_jax.knobs import ROLES, inherit, knob, roles_of
from tfm_jax.models import MODELS
from tfm_jax.settings.experiment import resolve, section_types

FAMILIES = [(name, task) for name, family in MODELS.items() for task in family.learns]


@dataclasses.dataclass(frozen=True)
class Inner:
    share: float = knob(0.5, "of the rows")


@dataclasses.dataclass(frozen=True)
class Base:
    ROLE = "training"

    depth: int = knob(1, "layers", role="architecture", low=1, high=9)
    names: tuple[str, ...] = knob((), "what is read")
    inner: Inner = Inner()

    def __init_subclass__(cls):
        inherit(cls)


@dataclasses.dataclass(frozen=True)
class Own(Base):
    depth: int = 2
    wrapped: str = knob("a", "of one kind", choices=("a", "b"))


@dataclasses.dataclass(frozen=True)
class Mixed:
    other: int = knob(1, "of a base that is named first", role="execution")


@dataclasses.dataclass(frozen=True)
class OfTwo(Mixed, Base):
    depth: int = 3
    other: int = 4


@pytest.mark.parametrize(("name", "base"), [("depth", Base), ("other", Mixed)])
def test_another_default_keeps_all_else_whichever_base_has_it(name, base):
    fields = {f.name: f for f in dataclasses.fields(OfTwo)}
    assert fields[name].metadata == base.__dataclass_fields__[name].metadata


def test_another_default_keeps_help_range_and_role():
    fields = {f.name: f for f in dataclasses.fields(Own)}
    assert (fields["depth"].default, Own().depth) == (2, 2)
    assert fields["depth"].metadata == Base.__dataclass_fields__["depth"].metadata
    assert Base().depth == 1


def test_a_role_is_that_of_the_knob_or_of_the_section_that_introduces_it():
    assert roles_of(Own, "own.") == {
        "own.depth": "architecture",
        "own.names": "training",
        "own.inner.share": "architecture",
        "own.wrapped": "architecture",
    }
    with pytest.raises(ValueError, match="role='train'; choose from .*'training'"):
        knob(1, "", role="train")


@pytest.mark.parametrize("model_name, task", FAMILIES)
def test_every_knob_has_help_and_a_role(model_name, task):
    for name, cls in section_types(model_name, task).items():
        lines = manual.describe({name: cls()}).splitlines()
        assert len(lines) == len(types_of(cls)), "a line for each"
        assert [line for line in lines if "  # " not in line] == []
        assert set(roles_of(cls).values()) <= set(ROLES)


@pytest.mark.parametrize(
    "name", ["bert_base.py:tiny", "vit_digits.py", "dit_digits.py"]
)
def test_help_has_a_line_for_each_knob_that_a_run_has(name):
    experiment = resolve(load(f"configs/{name}"))
    lines = manual.describe(experiment._asdict()).splitlines()
    flags = {line.split("=")[0].removeprefix("--config.") for line in lines}
    assert {*experiment.roles()} <= flags and "=None" not in "".join(lines)


def test_a_line_has_flag_value_choices_and_meaning():
    lines = manual.describe({"seed": 7, "own": Own()}).splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [
        ["--config.seed=7"],
        ["--config.own.depth=2", "integer from 1 to 9  # layers"],
        ["--config.own.names=()", "strings separated by commas  # what is read"],
        ["--config.own.inner.share=0.5", "finite number  # of the rows"],
        ["--config.own.wrapped=a", "a, b  # of one kind"],
    ]


def test_a_number_has_its_range():
    @dataclasses.dataclass(frozen=True)
    class Bounded:
        depth: int = knob(6, "", low=1, high=10_000)
        steps: int = knob(10, "", low=1)
        rate: float = knob(0.1, "", low=0)
        fraction: float = knob(0.0, "", low=0.0, high=1.0)
        dropout: float = knob(0.1, "", low=0, below=1)

    lines = manual.describe({"own": Bounded()}).splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        "integer from 1 to 10,000",
        "integer from 1",
        "finite number from 0",
        "finite number from 0.0 to 1.0",
        "finite number from 0 to below 1",
    ]
