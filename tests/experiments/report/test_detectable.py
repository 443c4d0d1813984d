"""The report says what could be detected, and which looks were taken."""

import pytest

from tests.experiments.report.pages import written
from tests.experiments.report.reports import example


@pytest.mark.parametrize(
    "decided, taken, said",
    [
        (True, 2, "2; ended, as all is decided"),
        (False, 2, "2; more to come"),
        (False, 3, "3; ended undecided"),
    ],
)
def test_detectable_effects_and_looks_are_said(decided, taken, said, tmp_path):
    """In units of an sd where none was known, as planned for all looks at the end."""
    row = dict(comparison="rope minus sinusoidal", tests=2, n=20)
    unknown = row | dict(sd=None, effect=0.7512, margin=0.8611)
    known = row | dict(sd=0.0123, effect=0.01377, margin=0.0166, n=10)
    detectable = dict(power=0.8, source="", before=[unknown] * 2, after=[known, None])
    looks = dict(planned=[5, 10, 20], taken=taken, nominal=0.0031, spent=0.0031)
    analysis = example(
        arms=["sinusoidal", "rope"],
        points=0,
        detectable=detectable,
        looks=looks | dict(decided=decided),
    )
    page, source = written(analysis, tmp_path)
    start = next(i for i, row in enumerate(page.rows) if row[0] == "Comparison")
    first, second = page.rows[start + 1 : start + 3]
    assert first[1:5] == ["20", "–a", "0.75 sd", "0.86 sd"]
    assert first[5:] == ["10", "0.012", "0.014", "0.017"]
    assert second[5:] == ["–b"] * 4
    assert "| 20 | – (a) | 0.75 sd | 0.86 sd | 10 | 0.012 | 0.014 | 0.017 |" in source
    everything = " ".join(page.texts)
    for text in (everything, source):
        assert said in text and "repeated confidence" in text
        assert "3, after 5, 10, 20 seeds" in text and "a difference as the" in text


def test_a_study_of_one_look_speaks_of_none(tmp_path):
    page, source = written(example(arms=["sinusoidal", "rope"], points=0), tmp_path)
    for text in (" ".join(page.texts), source):
        assert "Looks planned" not in text and "repeated confidence" not in text
