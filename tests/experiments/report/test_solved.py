"""Runs that solve a task, and runs that do not, are told apart."""

import pytest

from experiments.report import page, tables
from tests.experiments.report.reports import example


@pytest.mark.parametrize("goal", ["max", "min"])
def test_runs_that_solve_the_task_are_counted_and_none_is_averaged_away(goal, tmp_path):
    """A run that diverged has solved nothing."""
    sign = 1 if goal == "max" else -1
    report = example(arms=["all", "some", "none"], tuned=False, diverged={"some": [4]})
    of_runs = {"all": [9] * 5, "some": [9, 1, 9, 1, None], "none": [1] * 5}
    for arm in report["arms"]:
        values = of_runs[arm["name"]]
        arm["values"] = {str(s): v and sign * v for s, v in enumerate(values)}
    report |= {"goal": goal, "solved": sign * 8}
    rows = tables.solved(report)
    assert [row["rate"].exact for row in rows] == [5, 2, 0]
    # Clopper and Pearson 1934, 2 of 5
    assert rows[1]["rate"].text == "2/5 (5–85 %)"
    assert [row["some"] for row in rows] == [False, True, False]
    page.write(report, tmp_path)
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text("utf-8")
        assert "Some runs of some do and others do not" in text
        assert text.count("its mean describes neither") == 1
    assert not tables.solved(report | {"solved": None})
