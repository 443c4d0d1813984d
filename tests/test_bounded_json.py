"""JSON that somebody else wrote is a value or one line, in bounded time and memory."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfm_jax import bounded_json

SCALARS = st.none() | st.booleans() | st.integers() | st.text()
SCALARS |= st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS,
    lambda some: st.lists(some) | st.dictionaries(st.text(), some),
    max_leaves=20,
)


@given(VALUES)
def test_what_json_writes_is_read(value):
    assert bounded_json.loads(json.dumps(value)) == value
    assert bounded_json.loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 100_000, "nested too deep"),
        (b"[" * 70 + b"]" * 70, "nested too deep"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "nested too deep"),
        (b"[]", "holds a list, not an object"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (b'{"a": -Infinity}', "-Infinity is no JSON"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "digits"),
        (b"\xff{}", "decode"),
        (b"\0\0\0", "Expecting value"),
        (b"", "Expecting value"),
        (b'{"a": 1' + b" " * 100, "more than 100 bytes"),
    ],
)
def test_hostile_content_is_one_short_line_with_the_path(tmp_path, content, reason):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    most = 100 if "bytes" in reason else bounded_json.MOST_BYTES
    with pytest.raises(ValueError, match=reason) as error:
        bounded_json.read(path, dict, most=most)
    assert str(error.value).startswith(f"{path}: ")
    assert len(str(error.value)) < len(str(path)) + 200


def test_what_is_no_file_is_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ValueError, match="not a regular file"):
            bounded_json.read(path)
    with pytest.raises(FileNotFoundError):
        bounded_json.read(tmp_path / "absent")
