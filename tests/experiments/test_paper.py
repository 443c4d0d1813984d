"""The paper: its page and figures are those of its numbers, those of its reports."""

import copy
import re

import numpy as np
import pytest
from scipy import stats

from experiments.overview import entries
from experiments.paper import __main__ as paper
from experiments.paper import claims, figures, numbers
from tests.experiments.report.reports import example
from tests.experiments.test_overview import NUMBER, plain
from tfm_jax.api import ConfigError

TAKEN = numbers.read(numbers.FILE)
FINDINGS = {(e["name"], e["scale"]): e["expectations"] for e in entries.read()}
TRAINED = plain("warmup-depth")


def finals():
    """Arm -> seed -> loss, of the report's own table of runs."""
    runs = re.findall(
        r"^\| \w+ \| (\S+) \| (\d+) \| final \| done \| (\S+) ", TRAINED, re.M
    )
    values = {}
    for arm, seed, value in runs:
        values.setdefault(arm, {})[seed] = float(value)
    return values


def interval(values):
    """Mean and 95 % interval by scipy."""
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    return pytest.approx((np.mean(values), low, high), abs=2e-4)


def told(effect):
    return effect["mean"], effect["low"], effect["high"]


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


def test_every_number_is_that_of_the_runs_in_the_report():
    runs = finals()
    assert len(runs) == len(TAKEN["arms"]) == 12
    lost = {}
    for arm in TAKEN["arms"]:
        values = runs[f"{arm['norm']}-{arm['warmup']}-{arm['layers']}"]
        assert len(values) == arm["n"] == TAKEN["seeds"]
        assert told(arm) == interval([*values.values()])
    for apart in TAKEN["lost"]:
        norm, depth = apart["norm"], apart["layers"]
        without, warm = (runs[f"{norm}-{w}-{depth}"] for w in ("none", "warmup"))
        lost[norm, depth] = np.array([without[seed] - warm[seed] for seed in without])
        assert told(apart) == interval(lost[norm, depth])
    for more in TAKEN["deeper"]:
        low, high = more["layers"]
        assert told(more) == interval(
            lost[more["norm"], high] - lost[more["norm"], low]
        )


def test_what_is_lost_is_the_finding_of_the_report():
    effects = {
        effect["of"]: effect
        for expected in FINDINGS["warmup", "depth"]
        for effect in expected["effects"]
    }
    lost = {(x["norm"], x["layers"]): x["mean"] for x in TAKEN["lost"]}
    post, pre, shallow = (
        effects[f"{a} minus {b}"]["mean"]
        for a, b in (
            ("post-warmup-6", "post-none-6"),
            ("pre-none-6", "pre-warmup-6"),
            ("post-none-2", "post-warmup-2"),
        )
    )
    assert len(effects) == 3
    taken = -lost["post", 6], lost["pre", 6], lost["post", 2]
    assert (post, pre, shallow) == pytest.approx(taken, rel=1e-3)


def test_what_the_paper_says_in_words_is_so():
    assert claims.broken(TAKEN) == []
    (before,) = re.findall(r"^\| post-warmup \| 5 \| (\S+) ", plain("warmup-cpu"), re.M)
    assert f"{float(before):.3f}" == "0.440"


def test_other_numbers_do_not_bear_what_it_says():
    other = {"post": "pre", "pre": "post"}
    flipped = copy.deepcopy(TAKEN)
    for kind in ("arms", "lost", "deeper"):
        for row in flipped[kind]:
            row["norm"] = other[row["norm"]]
    for arm in flipped["arms"]:
        arm["rate"] = arm["rates"][-1][0]
    flipped["slopes"]["post"] = TAKEN["slopes"]["pre"]
    kept = {"with four and six it cannot be told apart"}
    assert {*claims.CLAIMS} - {*claims.broken(flipped)} <= kept


def test_slopes_are_those_of_the_table_of_verdicts():
    listed = [e["effects"][0] for e in FINDINGS["norm_gradients", "cpu"]]
    assert TAKEN["slopes"] == {effect["of"]: effect for effect in listed}


def test_pairs_are_of_one_seed_and_lost_ones_are_told():
    arms = [
        f"{norm}-{warmup}-{depth}"
        for norm in numbers.NORMS
        for warmup in ("none", "warmup")
        for depth in numbers.DEPTHS
    ]
    report = example(arms) | {"expectations": []}
    report["arms"][0]["values"]["0"] = None  # has diverged
    values = {arm["name"]: arm["values"] for arm in report["arms"]}
    names = [study.split(":") for study in numbers.STUDIES]
    both = [report | {"name": name, "scale": scale} for name, scale in names]
    with pytest.raises(ConfigError, match="where one of warmup:depth should be"):
        numbers.of_reports(*both[::-1])
    taken = numbers.of_reports(*both)
    apart = numbers.find(taken["lost"], norm="post", layers=2)[0]
    pairs = [
        values["post-none-2"][seed] - values["post-warmup-2"][seed]
        for seed in map(str, range(1, 5))
    ]
    assert told(apart) == interval(pairs)
    assert "4 of 5 seeds" in paper.shown(apart, taken["seeds"])
    report["arms"][0]["values"] |= dict.fromkeys("123")
    with pytest.raises(ConfigError, match="fewer than 3 seeds"):
        numbers.of_reports(*both)


def test_a_plan_is_of_both_studies_and_writes_nothing(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(paper.experiments.run, "main", asked.append)
    monkeypatch.setattr(paper, "put", None)
    assert paper.main(["plan", f"--out={tmp_path}"]) == 0
    assert asked == [[s, "plan", f"--out={tmp_path}"] for s in numbers.STUDIES]


def test_a_run_that_fails_ends_the_paper(monkeypatch, tmp_path):
    monkeypatch.setattr(paper.experiments.run, "main", lambda argv: 3)
    monkeypatch.setattr(paper, "DOCS", tmp_path)
    assert paper.main([f"--out={tmp_path}"]) == 3
    assert not (tmp_path / "paper.md").exists()


def test_without_reports_the_page_is_that_of_the_numbers_kept(monkeypatch, tmp_path):
    kept = tmp_path / "paper.json"
    kept.write_text(numbers.FILE.read_text("utf-8"), "utf-8")
    monkeypatch.setattr(numbers, "FILE", kept)
    written = (paper.DOCS / "paper.md").read_text("utf-8")
    monkeypatch.setattr(paper, "DOCS", tmp_path)
    assert paper.main(["write", f"--out={tmp_path / 'runs'}"]) == 0
    assert (tmp_path / "paper.md").read_text("utf-8") == written
    assert {path.name for path in tmp_path.glob("*.svg")} == {*figures.draw(TAKEN)}
