"""What a study can detect: which comparisons, and whose sd is assumed."""

import dataclasses
from types import SimpleNamespace

import pytest

from experiments.statistics import power, stats
from experiments.study import (
    FEWEST_SEEDS,
    better,
    check,
    equivalent,
    monotone,
    on,
    within,
)
from tests.experiments.test_study import study

ARMS = {name: {} for name in "abcd"}


def made(*expect, **changes):
    return study(arms=ARMS, baseline="a", expect=expect, seeds=(0, 1, 2, 3), **changes)


def test_every_pair_is_listed_once_and_adjusted_as_it_is_tested():
    asked = made(
        monotone("abc", ""), check(better("c", "b", "")), equivalent("d", "c", "")
    )
    listed = [(c.text, c.tests) for c in power.comparisons(asked)]
    assert listed == [
        ("b minus a", 1),
        ("c minus b", 1),
        ("d minus c", 1),
        ("c minus a", 2),
        ("d minus a", 2),
    ]


def test_another_metric_is_another_comparison():
    claims = on("test/nll", better("b", "a", "")), within("b", 0, 1, "", "k/accuracy")
    texts = [c.text for c in power.comparisons(made(*claims))]
    assert texts[:2] == ["b minus a, test/nll", "b, k/accuracy"]
    assert texts[2:] == ["b minus a", "c minus a", "d minus a"]


def test_without_any_runs_the_unit_is_the_sd_of_a_difference():
    rows = power.before(made(better("b", "a", "")), {})
    assert [row["sd"] for row in rows] == [None] * 3
    assert rows[0]["effect"] == stats.minimum_detectable_effect(1.0, 4)
    assert rows[1]["effect"] == stats.minimum_detectable_effect(1.0, 4, 0.05 / 2)
    known = power.before(made(better("b", "a", "")), {"b minus a": 0.1})
    for what in ("effect", "margin"):
        assert known[0][what] == pytest.approx(0.1 * rows[0][what])


@pytest.mark.parametrize("effect, level", [(1.0, 0.05), (0.3, 0.05), (0.3, 0.01)])
def test_the_seeds_that_an_effect_needs_are_the_fewest(effect, level):
    n = power.seeds_for(effect, 1.0, level)
    assert max(power.detectable(1.0, n, level).values()) <= effect
    assert max(power.detectable(1.0, n - 1, level).values()) > effect
    assert power.seeds_for(100.0, 1.0, level) == FEWEST_SEEDS
    assert power.seeds_for(1e-3, 1.0, level) is None


def test_a_plan_says_what_its_seeds_detect_and_what_the_effect_needs(monkeypatch):
    known = {"source": "earlier runs of this study", "sd": {"b minus a": 0.02}}
    monkeypatch.setattr(power, "assumed", lambda _: known)
    asked = made(better("b", "a", "b wins"), sesoi=0.01)
    head, first, second, _ = power.lines(SimpleNamespace(study=asked))
    assert "of 4 seeds, 80% power, with the sd of earlier runs of this study" in head
    needed = power.seeds_for(0.01, 0.02, 0.05)
    assert first.startswith("  b minus a ")
    assert first.endswith(f"(±0.01 needs {needed} seeds)")
    assert " sd " in second and second.endswith("(Holm, 2 arms)")
    grown = dataclasses.replace(asked, looks=(4, 8, 12))
    look, head, *_ = power.lines(SimpleNamespace(study=grown))
    assert look == "look 1, of those after 4, 8, 12 seeds" and "of 12 seeds" in head
    few = dataclasses.replace(asked, seeds=(0, 1))
    assert power.lines(SimpleNamespace(study=few)) == [
        "too few seeds to tell an effect: 2; 3 at least"
    ]


def test_afterwards_the_sd_is_the_measured_one():
    asked = made(better("b", "a", "b wins"), equivalent("c", "a", "the same"))
    base, values = {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}, {"a": {}}
    values = {"a": base, "b": {s: v + s for s, v in base.items()}, "c": {0: 1.0}}
    rows = power.after(asked, {"": values | {"d": {}}}, power.comparisons(asked))
    sd = stats.paired([0, 1, 2, 3]).sd
    assert rows[0]["sd"] == sd and rows[1:] == [None, None]
    effect = stats.minimum_detectable_effect(sd, 4)
    told = power.of_expectation(asked.expect[0], asked, {"": values})
    assert told["seen"] == [effect]
    assert told["detectable"] == f"smallest detectable effect {effect:.2g}"
    told = power.of_expectation(asked.expect[1], asked, {"": values})
    assert told == {"seen": [], "detectable": ""}


def test_a_published_report_says_the_sd_to_assume():
    page = """
| Run | Arm | Seed | Phase | Status | valid/exact\\_match | Attempts |
|---|---|--:|---|---|--:|--:|
| ab | a\\_1 | 0 | tune | done | 0.5 | 1 |
| ab | a\\_1 | 0 | final | done | 0.25 | 1 |
| ab | a\\_1 | 1 | final | diverged | – (a) | 1 |
| ab | b | 1 | final | done | −0.5 | 1 |
"""
    published = power.of_page(page, "valid/exact_match")
    assert published == {"a_1": {0: 0.25}, "b": {1: -0.5}}
    assert power.of_page("no table", "valid/nll") == {}


def test_the_pages_of_this_repository_are_read():
    page = (power.PAGES / "heads-cpu.md").read_text("utf-8")
    values = power.of_page(page, "valid/nll")
    assert {len(of_arm) for of_arm in values.values()} == {5} and len(values) == 5
