import types

import pytest

from tfm_jax.data.errors import DataError
from tfm_jax.data.policies import sift

BAD = {"empty": [True, True, False, False], "overlong": [True, False, True, False]}


def sifted(empty, overlong, bad=BAD, **options):
    section = types.SimpleNamespace(empty=empty, overlong=overlong, length=8)
    return sift(section, bad, "pair", **options)


@pytest.mark.parametrize(
    "empty, overlong, kept, counts",
    [
        ("keep", "keep", [1, 1, 1, 1], (2, 2)),
        ("keep", "drop", [0, 1, 0, 1], (2, 2)),
        ("drop", "keep", [0, 0, 1, 1], (2, 1)),
        ("drop", "drop", [0, 0, 0, 1], (2, 1)),
    ],
)
def test_what_one_policy_has_dropped_the_next_does_not_judge(
    empty, overlong, kept, counts
):
    keep, report = sifted(empty, overlong)
    assert keep.tolist() == [bool(one) for one in kept]
    assert tuple(said["pairs"] for said in report.values()) == counts
    assert report["overlong"]["policy"] == overlong


def test_an_error_names_the_first_bad_example_and_the_knob():
    with pytest.raises(DataError, match=r"pair 3 is overlong, 1 in all; .*overlong="):
        sifted("drop", "error")
    every = {"empty": [True] * 2, "overlong": [False] * 2}
    with pytest.raises(DataError, match=r"none of 2 pairs .*: 2 empty, 0 .*length=8"):
        sifted("drop", "drop", every, some=True)
