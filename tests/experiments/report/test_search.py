"""What the report shows of a search is what the analysis says of it."""

import re

import numpy as np
import pytest

from experiments.report import plots, tables
from experiments.report.search import figures, summary
from experiments.space import choice, log
from experiments.statistics import search
from experiments.study import Study
from tests.experiments.report.pages import written
from tests.experiments.report.reports import example

ARMS = ("sinusoidal", "rope")
RATE = "optim.peak_lr"


def searched(lost=(), **changes):
    """A study of two arms that were tuned over two knobs with twelve trials."""
    rng, space = np.random.default_rng(0), log(1e-4, 1e-2)
    analysis = example(ARMS, seeds=1, points=0)
    study = Study(
        config="x.py",
        arms={arm: {} for arm in ARMS},
        baseline="sinusoidal",
        seeds=(0,),
        metric="valid/nll",
        tune={RATE: space, "model.norm": choice("pre", "post")},
        trials=12,
        tune_seeds=(1000,),
        **changes,
    )
    trials = []
    for n, rate in enumerate(space.value(u, False) for u in rng.uniform(size=12)):
        settings = {RATE: rate, "model.norm": ("pre", "post")[n % 2]}
        for arm in ARMS:
            value = 2.3 + (space.unit(rate) - 0.5) ** 2 + rng.normal(0, 0.01)
            value = None if n in lost else value
            trials.append(dict(arm=arm, settings=settings, seed=1000, value=value))
    for arm in analysis["arms"]:
        own = [t for t in trials if t["arm"] == arm["name"]]
        best = min(own, key=lambda t: (t["value"] is None, t["value"]))
        arm |= {"chosen": best["settings"], "edge": arm["name"] == "rope"}
        for t in own:
            edge = t is best and arm["edge"]
            t |= {"chosen": t is best, "edge": edge, "edges": [RATE] * edge}
    return analysis | {"tuning": trials, "search": search.analyse(study, trials)}


@pytest.mark.parametrize("lost", [(), (0, 3)])
def test_page_and_markdown_show_the_search(lost, tmp_path):
    analysis = searched(lost)
    page, source = written(analysis, tmp_path)
    text = " ".join(" ".join(page.texts).split())
    assert "12 trials an arm, quasi-random (scrambled Sobol)" in text
    assert "optim.peak_lr log(0.0001, 0.01)" in text
    digits = tables.places(analysis)
    for arm, own in analysis["search"]["arms"].items():
        row = next(r for r in page.rows if r[0].startswith(arm) and len(r) == 8)
        exact = page.exact[page.rows.index(row)]
        best = [own["best"][k - 1] for k in (1, 2, 4, 8, 12)]
        shown = [v for v in best if v is not None] + [len(lost), own["sensitivity"]]
        assert [float(x) for x in exact] == shown
        assert f"{own['best'][-1]:.{digits}f}" in source
        assert len([v for v in best if v is None]) == (2 if lost else 0)
    assert (
        "optimum at the edge of optim.peak_lr" in text
        and "at the end of its range" in text
    )
    assert (summary.LOST in text) == bool(lost) == (summary.LOST in source)
    tried = [
        row for row in page.rows if re.match(r"model.norm=p.*, optim.peak_lr", row[0])
    ]
    assert len(tried) == 12 and {len(row) for row in tried} == {3}
    titles = ["Best against trials", f"Trials against {RATE}"]
    for title in (*titles, "Trials against model.norm"):
        assert title in page.texts


def test_alternative_texts_of_a_search_state_its_numbers():
    analysis = searched()
    (_, first), (_, rates), (_, norms) = figures.draw(analysis)
    digits = tables.places(analysis)
    for arm, own in analysis["search"]["arms"].items():
        best = f"{own['best'][-1]:.{digits}f} of 12"
        assert arm in first.alt and best in first.alt
        chosen = next(t for t in own["trials"] if t["chosen"])
        assert f"at {chosen['settings'][RATE]:g}" in rates.alt
        assert f"at {chosen['settings']['model.norm']}" in norms.alt
    assert plots.rates(analysis) is None  # they stand there


def test_a_search_that_has_not_ended_is_listed_without_a_summary(tmp_path):
    analysis = searched()
    for trial in analysis["tuning"]:
        trial |= {"chosen": False, "edge": False}
    analysis["search"] |= {"arms": {}}
    page, source = written(analysis, tmp_path)
    assert figures.draw(analysis) == [] and "Every trial" in source
    assert not any("best of so many" in text for text in page.texts)


def test_a_search_in_which_all_diverged_can_be_reported(tmp_path):
    page, source = written(searched(range(12)), tmp_path)
    assert summary.LOST in source and summary.LOST in " ".join(page.texts)
