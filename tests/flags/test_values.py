"""What is written is what is read, by the type of the knob and never by its looks."""

import shlex
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tfm_jax.config import ConfigError, check_argv, check_overrides, from_flag, to_flag

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TRICKY = st.text(alphabet="ab,'\"()[]{}\\ =-\n\t\x00\x1b\u00a0\ud800Nn01e.")
WORDS = ("None", "nan", "inf", "true", "1e4", "()", "", "''", "a,b.tsv", "valid(v1)")
STRINGS = st.text() | TRICKY | st.sampled_from(WORDS)
SCALARS = {bool: st.booleans(), int: st.integers(), float: FINITE, str: STRINGS}
TYPED = st.one_of(
    *(st.tuples(st.just(kind), values) for kind, values in SCALARS.items()),
    *(
        st.tuples(st.just(tuple[kind, ...]), st.lists(values).map(tuple))
        for kind, values in SCALARS.items()
    ),
)


@given(TYPED)
@example((tuple[str, ...], ('"', '"')))
def test_reading_inverts_writing(typed):
    kind, value = typed
    text = to_flag(value)
    assert from_flag(text, kind, "--knob") == value
    assert text.isprintable(), "a command is one line"


@given(st.dictionaries(st.sampled_from("abcd"), TYPED))
def test_a_command_line_carries_every_value(typed):
    """Through the shell, too."""
    types = {f"data.{name}": kind for name, (kind, _) in typed.items()}
    values = {f"data.{name}": value for name, (_, value) in typed.items()}
    argv = [f"--config.{knob}={to_flag(value)}" for knob, value in values.items()]
    argv = shlex.split(shlex.join(argv).encode("utf-8", "surrogatepass").decode())
    assert check_overrides(check_argv(argv), {}, types) == values


@pytest.mark.parametrize(
    "text, kind, value",
    [
        ("0,1,2", tuple[str, ...], ("0", "1", "2")),
        ("0,1,2", tuple[int, ...], (0, 1, 2)),
        ("0,1,2", str, "0,1,2"),
        ("train.en, data/b.de", tuple[str, ...], ("train.en", "data/b.de")),
        ("(a.en, b.de)", tuple[str, ...], ("a.en", "b.de")),
        ("('a,b', \"c\")", tuple[str, ...], ("a,b", "c")),
        ("valid(v1)", tuple[str, ...], ("valid(v1)",)),
        ("(a),(b)", tuple[str, ...], ("(a)", "(b)")),
        ("[valid(v1),b]", tuple[str, ...], ("valid(v1)", "b")),
        ("[')', b]", tuple[str, ...], (")", "b")),
        ("it's,b", tuple[str, ...], ("it's", "b")),
        ("a b", tuple[str, ...], ("a b",)),
        ("8,", tuple[int, ...], (8,)),
        ("[8, 16]", tuple[int, ...], (8, 16)),
        ("", tuple[str, ...], ()),
        ("()", tuple[float, ...], ()),
        ("[]", tuple[int, ...], ()),
        ("''", tuple[str, ...], ("",)),
        ("true", tuple[str, ...], ("true",)),
        ("1e4", int, 10_000),
        ("2.0", int, 2),
        ("-3", int, -3),
        ("1", float, 1.0),
        ("nan", str, "nan"),  # ISO 639-3 of Min Nan Chinese
        ("'tis", str, "'tis"),
        ("'None'", str, "None"),
        ("False", bool, False),
    ],
)
def test_a_text_is_read_as_the_knob_s_type(text, kind, value):
    found = from_flag(text, kind, "--knob")
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    "text, kind, words",
    [
        ("1.5", int, "expected integer"),
        ("1e-3", int, "expected integer"),
        ("1e999999999999", int, "expected integer"),  # and takes no time to say so
        ("9" * 5_000, int, "expected integer"),
        ("abc", int, "expected integer"),
        ("", int, "expected integer"),
        ("8,x", tuple[int, ...], "expected integers separated by commas"),
        ("low", float, "expected finite number"),
        ("1e999", float, "expected finite number"),
        ("nan", float, "nan is not a value"),
        ("(0.9,-Inf)", tuple[float, ...], "-Inf is not a value"),
        ("None", int, "None is not a value"),
        ("None", str, "None is not a value"),
        ("a,None", tuple[str, ...], "None is not a value"),
        ("maybe", bool, "expected boolean"),
        ("2", bool, "expected boolean"),
        ("a,,b", tuple[str, ...], "nothing stands between two commas"),
        (r"'\d'", str, "expected string"),
    ],
)
def test_a_text_that_says_no_such_value_is_refused(text, kind, words):
    with pytest.raises(ConfigError) as caught:
        from_flag(text, kind, "--knob")
    assert str(caught.value).startswith(f"--knob={text}") and words in str(caught.value)


@pytest.mark.parametrize("value", [None, {}, b"x", 1j, (None,)])
def test_what_no_knob_holds_is_not_written(value: Any):
    with pytest.raises(ConfigError, match="no value of a knob"):
        to_flag(value)


@given(st.lists(st.lists(st.text() | st.just("a,b")).map(tuple)).map(tuple))
def test_several_tuples_stand_in_quotes(tuples):
    text = ",".join(repr(to_flag(each)) for each in tuples)
    assert from_flag(text, tuple[tuple[str, ...], ...], "") == tuples


def test_several_tuples_stand_in_brackets_or_are_one_word_each():
    of_numbers = tuple[tuple[int, ...], ...]
    assert from_flag("(1,-2),[3],4,()", of_numbers, "") == ((1, -2), (3,), (4,), ())
