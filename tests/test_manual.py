"""What the help says of a knob is what its comment says."""

import dataclasses

from tfm_jax import manual
from tfm_jax.knobs import bounded


@dataclasses.dataclass(frozen=True)
class Inner:
    share: float = 0.5  # of the rows


@dataclasses.dataclass(frozen=True)
class Base:
    depth: int = 1  # layers
    plain: int = 0
    name: str = "#1"  # a "#" in quotes starts no comment

    # a line of its own, above nothing

    # what goes on
    # for two lines
    names: tuple[str, ...] = ()
    inner: Inner = Inner()


@dataclasses.dataclass(frozen=True)
class Own(Base):
    """# A docstring is no comment."""

    depth: int = 2
    plain: int = 3  # said here alone
    wrapped: str = dataclasses.field(
        default="a",
        metadata={"choices": ("a", "b")},  # beside a part of it
    )


def test_meanings_are_the_comments_of_the_class_that_has_one():
    assert manual.meanings(Base) == {
        "depth": "layers",
        "name": 'a "#" in quotes starts no comment',
        "names": "what goes on for two lines",
    }
    assert manual.meanings(Own) == manual.meanings(Base) | {
        "plain": "said here alone",
        "wrapped": "beside a part of it",
    }


def test_a_line_has_flag_value_choices_and_meaning():
    lines = manual.describe({"seed": 7, "own": Own()}).splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [
        ["--config.seed=7"],
        ["--config.own.depth=2", "integer  # layers"],
        ["--config.own.plain=3", "integer  # said here alone"],
        ["--config.own.name=#1", 'string  # a "#" in quotes starts no comment'],
        [
            "--config.own.names=()",
            "strings separated by commas  # what goes on for two lines",
        ],
        ["--config.own.inner.share=0.5", "finite number  # of the rows"],
        ["--config.own.wrapped=a", "a, b  # beside a part of it"],
    ]


def test_a_number_has_its_range():
    @dataclasses.dataclass(frozen=True)
    class Bounded:
        depth: int = bounded(6, 1, 10_000)
        steps: int = bounded(10, 1)
        rate: float = bounded(0.1, 0)
        fraction: float = bounded(0.0, 0.0, 1.0)

    lines = manual.describe({"own": Bounded()}).splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        "integer from 1 to 10,000",
        "integer from 1",
        "finite number from 0",
        "finite number from 0.0 to 1.0",
    ]


def test_a_class_without_source_has_no_meanings():
    made = dataclasses.make_dataclass("Made", [("size", int, 1)])
    assert manual.meanings(made) == {}
    assert manual.describe({"made": made()}).split() == ["--config.made.size=1"] + [
        "integer"
    ]
