"""Curves in a report: their slopes with intervals, and figures on logarithmic axes."""

import pytest

from experiments.report import measured
from experiments.statistics import stats
from tests.experiments.report.pages import small, written

LENGTHS = (32, 64, 128)
POWERS = {"sinusoidal": 2, "rope": 1}


def curve(name, powers=POWERS, x="length", slope="slope", wide=0.01):
    points = {
        arm: {str(s): [[n, (1 + wide * s) * n**p] for n in LENGTHS] for s in range(3)}
        for arm, p in powers.items()
    }
    slopes = {
        arm: stats.paired([p - wide, p, p + wide])._asdict()
        for arm, p in powers.items()
        if slope
    }
    named = {"name": name, "of": "encoder", "x": x, "y": name, "slope": slope}
    return named | {"arms": points, "slopes": slopes}


def fading():
    """What is exactly 0 from some distance on."""
    one = curve("gradient", x="distance", slope="")
    one["arms"]["rope"] = {"0": [[n, float(n < 100)] for n in LENGTHS]}
    return one


@pytest.fixture(scope="module")
def report():
    curves = [curve("seconds"), curve("bytes", wide=0.0), fading()]
    return small(arms=[*POWERS], diverged={}, measured=curves)


def test_slopes_stand_in_the_table_with_their_intervals(report, tmp_path):
    page, source = written(report, tmp_path)
    cells = next(row for row in page.rows if row[0] == "encoder: seconds")
    assert cells[1] == "2.000 [1.975, 2.025]"
    assert "| encoder: seconds | 2.000, 1.975 to 2.025 |" in source
    assert not any(row[0] == "encoder: gradient" for row in page.rows if row)
    labels = [arm["name"] for arm in report["arms"]]
    place = page.rows.index(cells)
    assert page.labels[place][1:] == labels


def test_an_arm_without_runs_has_a_dash_and_its_reason(tmp_path):
    one = curve("seconds", powers={"sinusoidal": 2})
    page, _ = written(small(arms=[*POWERS], diverged={}, measured=[one]), tmp_path)
    cells = next(row for row in page.rows if row[0] == "encoder: seconds")
    assert cells[2].startswith("–") and "no finished run" in " ".join(page.texts)


def test_each_quantity_that_curves_are_drawn_against_is_one_figure(report, tmp_path):
    titles = [title for title, _ in measured.figures(report)]
    assert titles == ["Against length", "Against distance"]
    page, _ = written(report, tmp_path)
    before, _ = written(report | {"measured": []}, tmp_path)
    assert len(page.pictures) == len(before.pictures) + 2
    said = " ".join(picture["alt"] for picture in page.pictures)
    assert "encoder: seconds: sinusoidal 1.65e+04 at 128, slope 2.00" in said
    assert "rope 0 at 128" in said
