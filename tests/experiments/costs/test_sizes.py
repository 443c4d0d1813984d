"""Sizes: arms that cost the same, by the rule of the study."""

import json

import pytest

from experiments.costs import sizes
from experiments.plan import Plan
from tests.experiments import tiny_study
from tests.reliability.processes import environment
from tfm_jax import bounded_json
from tfm_jax.config import ConfigError


@pytest.fixture(scope="module", autouse=True)
def at_root(request):
    """Runs find the project, and what other runs have compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.config.rootpath)
        for name, value in environment().items():
            patch.setenv(name, value)
        yield


def content_of(path):
    """An object as files of before had it: without a checksum, to be edited."""
    return bounded_json.unsealed(json.loads(path.read_text()))


def match(rule, found, **changes):
    return sizes.matched(tiny_study._study(match=rule, **changes), found)


def test_arms_are_given_the_steps_that_make_them_equal():
    """A step of ``slow``, the baseline, costs twice that of ``fast``; it makes six."""
    fast = dict(parameters=1_000, flops_per_step=5.0, tokens_per_step=300)
    slow = dict(parameters=1_005, flops_per_step=10.0, tokens_per_step=100)
    found = {"fast": fast, "slow": slow}
    steps = "train.total_steps"
    assert match("flops", found).arms["fast"] == {steps: 12}
    assert match("flops", found).arms["slow"] == {"optim.peak_lr": 1e-5, steps: 6}
    assert match("tokens", found).arms["fast"] == {steps: 2}
    for rule in ("steps", "parameters"):
        assert match(rule, found).arms == tiny_study._study().arms
    fast["parameters"] = 1_016
    with pytest.raises(ConfigError, match="slow has 1,005, but fast has 1,016"):
        match("parameters", found)
    with pytest.raises(ConfigError, match="'fast' sets train.total_steps"):
        match("flops", found, arms={"fast": {steps: 3}, "slow": {}})


WIDE = '''
"""Is wider better?

Nobody 2026."""
from tests.experiments.tiny_study import _study, better


def get_study(scale):
    arms = {"wide": {"model.ffn_width": 256}, "narrow": {}}
    expect = (better("wide", "narrow", "so it is"),)
    return _study(arms=arms, expect=expect, match="flops", baseline="narrow")
'''


def steps_of(plan):
    return {c.arm: c.experiment.train.total_steps for c in plan.cells()}


def test_a_plan_of_equal_flops_says_how_many_steps(tmp_path):
    path = tmp_path / "wide.py"
    path.write_text(WIDE)
    plan = Plan.load(str(path), tmp_path / "out")
    steps = steps_of(plan)
    assert steps["narrow"] == 6 > steps["wide"]
    work = {a: s["flops_per_step"] * steps[a] for a, s in plan.sizes.items()}
    assert 0.8 < work["wide"] / work["narrow"] < 1.2


@pytest.mark.parametrize("begun", [False, True])
def test_a_study_that_has_begun_keeps_the_steps_of_its_count(
    tmp_path, monkeypatch, begun
):
    def count(experiment):
        return {"count": sizes.COUNT, "flops_per_step": experiment.model.ffn_width}

    monkeypatch.setattr(sizes, "measure", count)
    path, out = tmp_path / "wide.py", tmp_path / "out"
    path.write_text(WIDE)
    plan = Plan.load(str(path), out)
    assert steps_of(plan) == {"wide": 1, "narrow": 6}
    earlier = content_of(plan.root / "sizes.json")
    for size in earlier.values():  # the first rule, which said so nowhere
        size["flops_per_step"] = {256: 3.0, 16: 1.0}[size["flops_per_step"]]
        del size["count"]
    (plan.root / "sizes.json").write_text(json.dumps(earlier))
    if begun:
        (plan.root / "study.json").write_text("{}")
    again = steps_of(Plan.load(str(path), out))
    assert again == {"wide": 2 if begun else 1, "narrow": 6}


def test_a_study_of_equal_flops_refuses_an_arm_that_cannot_be_counted():
    study = tiny_study._study(match="flops")
    costs = {"slow": {"flops_per_step": 1.0}, "fast": {"uncounted": "it has 'while'"}}
    with pytest.raises(ConfigError, match="arm 'fast': it has 'while'"):
        sizes.matched(study, costs)
