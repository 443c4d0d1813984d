"""The paper: its page and figures are those of its numbers, those of its reports."""

import re

import numpy as np
import pytest
from scipy import stats

from experiments.overview import entries
from experiments.paper import __main__ as paper
from experiments.paper import figures, numbers
from experiments.studies import warmup
from tests.experiments.report.reports import example
from tests.experiments.test_overview import NUMBER, plain

TAKEN = numbers.read()
FINDINGS = {(e["name"], e["scale"]): e["expectations"] for e in entries.read()}


def test_page_and_figures_are_those_of_the_numbers():
    page = (paper.DOCS / "paper.md").read_text("utf-8")
    assert page == paper.page(TAKEN), "python -m experiments.paper write"
    for name, drawn in figures.draw(TAKEN).items():
        kept = numbers.FILE.with_name(name).read_text("utf-8")
        texts, places = (
            [re.findall(pattern, svg) for svg in (kept, drawn)]
            for pattern in ("<text.*?</text>", NUMBER)
        )
        assert texts[0] == texts[1]
        np.testing.assert_allclose(*(np.array(x, float) for x in places), atol=0.5)
        assert f"studies/{name}" in page


def test_every_arm_has_the_mean_of_the_report():
    rows = dict(
        re.findall(
            r"^\| ([a-z]+-[a-z]+-\d) \| \d+ \| (\S+) ", plain("warmup-depth"), re.M
        )
    )
    assert len(rows) == len(TAKEN["arms"]) == 4 * len(TAKEN["depths"])
    for arm in TAKEN["arms"]:
        shown = rows[f"{arm['norm']}-{arm['warmup']}-{arm['layers']}"]
        places = len(shown.partition(".")[2])
        assert float(shown) == pytest.approx(arm["mean"], abs=0.51 * 10**-places)


def test_what_is_lost_without_warm_up_is_the_finding_of_the_report():
    """Where the report judges it: of the largest depth, of either norm."""
    effects = {
        effect["of"]: effect
        for expected in FINDINGS["warmup", "depth"]
        for effect in expected["effects"]
    }
    for gain in TAKEN["gains"]:
        norm, depth = gain["norm"], gain["layers"]
        arms = f"{norm}-none-{depth}", f"{norm}-warmup-{depth}"
        for sign, of in ((1, arms), (-1, arms[::-1])):
            if effect := effects.pop(" minus ".join(of), None):
                assert sign * effect["mean"] == pytest.approx(gain["mean"], rel=1e-3)
    assert not effects


def test_what_the_paper_says_in_words_is_so():
    sesoi = warmup.get_study("depth").sesoi
    post, pre = (
        [gain for gain in TAKEN["gains"] if gain["norm"] == norm]
        for norm in numbers.NORMS
    )
    assert TAKEN["depths"] == [gain["layers"] for gain in post] == [2, 4, 6]
    assert post[0]["high"] < 2 * sesoi
    assert 0.85 < post[1]["low"] < post[2]["low"] < post[1]["high"]
    assert pre[0]["high"] < sesoi and pre[2]["high"] < sesoi < pre[1]["high"]
    assert pre[1]["low"] < 0
    levels = {(a["norm"], a["warmup"], a["layers"]): a for a in TAKEN["arms"]}
    highest = max(arm["high"] for (norm, *_), arm in levels.items() if norm == "pre")
    assert highest < levels["post", "warmup", 6]["low"]


def test_slopes_are_those_of_the_table_of_verdicts():
    listed = [e["effects"][0] for e in FINDINGS["norm_gradients", "cpu"]]
    for taken, effect in zip(TAKEN["slopes"], listed, strict=True):
        for end in ("mean", "low", "high"):
            assert taken[end] == pytest.approx(effect[end], rel=1e-3)


def test_pairs_are_of_one_seed_and_rates_of_one_arm():
    arms = [f"{n}-{w}-2" for n in numbers.NORMS for w in numbers.WARMUPS]
    report = example(arms) | {"scale": "depth", "expectations": []}
    rates = {}
    for arm in report["arms"]:
        rates[arm["name"]] = [
            trial["settings"]["optim.peak_lr"]
            for trial in report["tuning"]
            if trial["arm"] == arm["name"]
        ]
    report["arms"][0]["values"]["0"] = None  # has diverged
    taken = numbers.of_reports(report, report)
    gain = next(g for g in taken["gains"] if g["norm"] == "post")
    values = [
        np.array([report["arms"][place]["values"][str(seed)] for seed in range(1, 5)])
        for place in (0, 1)
    ]
    known = stats.ttest_1samp(values[0] - values[1], 0).confidence_interval()
    assert (gain["low"], gain["high"]) == pytest.approx((known.low, known.high))
    assert gain["n"] == 4
    for arm in taken["arms"]:
        name = f"{arm['norm']}-{arm['warmup']}-{arm['layers']}"
        assert [rate for rate, _ in arm["rates"]] == sorted(rates[name])
