"""Proposals: what is tried next follows from what an arm's trials have shown."""

import hashlib
import json
import math
import random
import sys

import pytest

import experiments.run as program
from experiments.plan import Plan
from experiments.runs import attempts, cells, proposals
from experiments.space import choice, linear, log
from experiments.study import Study
from tfm_jax.api import ConfigError, exits

RATE, WARMUP = "optim.peak_lr", "optim.warmup_steps"
SPACE = {
    RATE: log(1e-4, 1e-2),
    WARMUP: linear(0, 40),
    "model.activation": choice("relu", "gelu"),
}


def study(**changes):
    fixed = dict(
        config="configs/transformer_numerals_small.py:tiny",
        arms={"pre": {"model.norm": "pre"}, "post": {}},
        baseline="post",
        seeds=(0,),
        metric="valid/nll",
        tune=SPACE,
        trials=14,
        proposer="optuna",
        tune_seeds=(7, 8),
    )
    return Study(**fixed | changes)


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """Nothing is resolved, and no data prepared: a run is what is set for it."""

    def named(experiment, **_):
        return hashlib.sha256(repr(experiment).encode()).hexdigest()[:12]

    monkeypatch.setattr(
        cells, "configure", lambda _, settings: sorted(settings.items())
    )
    monkeypatch.setattr(cells, "identity", named)
    monkeypatch.setattr(cells, "legal", lambda *_: (0.0, math.inf))


def finish(trial):
    """Leaves the result of a run: best at a rate of 1e-3; some diverge."""
    cell, knobs = trial.cell, trial.cell.settings
    diverges = knobs[RATE] > 8e-3
    value = abs(cells.space.log(1e-4, 1e-2).unit(knobs[RATE]) - 0.5)
    value += knobs[WARMUP] / 100 + cell.seed / 1000 + (cell.arm == "pre")
    cell.directory.mkdir(parents=True, exist_ok=True)
    status = {"status": "diverged" if diverges else "done"}
    (cell.directory / "DONE.json").write_text(json.dumps(status))
    (cell.directory / "results.json").write_text(json.dumps({"valid": {"nll": value}}))


def plan_of(asked, root):
    return Plan("x", "cpu", "?", "", asked, root)._of(asked)


def settled(asked, root, step):
    """The settings that each arm tries. Args: step: plan -> that after some runs."""
    plan = plan_of(asked, root)
    while not plan.tuned:
        assert not plan.stuck
        plan = step(plan)
    tried = {arm: [] for arm in asked.arms}
    for run in plan.tuning:
        settings = {knob: run.cell.settings[knob] for knob in SPACE}
        if run.cell.seed == asked.tune_seeds[0]:
            tried[run.cell.arm].append(settings)
    return tried


def round_by_round(plan):
    for run in plan.tuning:
        if run.status.unfinished:
            finish(run)
    return plan.again()


@pytest.fixture
def optuna():
    return pytest.importorskip("optuna")


def test_a_search_that_is_stopped_anywhere_goes_on_as_if_it_had_not(optuna, tmp_path):
    asked, rng = study(tune_seeds=(7,)), random.Random(0)

    def one_by_one(plan):
        finish(rng.choice([r for r in plan.tuning if r.status.unfinished]))
        return plan_of(plan.study, plan.root) if rng.random() < 0.1 else plan.again()

    whole = settled(asked, tmp_path / "a", round_by_round)
    assert settled(asked, tmp_path / "b", one_by_one) == whole
    assert {len(tried) for tried in whole.values()} == {14}
    assert whole["pre"][:8] == whole["post"][:8]
    assert all(type(k[WARMUP]) is int for tried in whole.values() for k in tried)


def test_a_larger_budget_goes_on_where_a_smaller_one_ended(optuna, tmp_path):
    fewer = settled(study(trials=10), tmp_path, round_by_round)
    began = [path.name for path in tmp_path.iterdir()]
    more = settled(study(trials=14), tmp_path, round_by_round)
    assert {arm: tried[:10] for arm, tried in more.items()} == fewer
    assert {*began} < {path.name for path in tmp_path.iterdir()}


def test_what_an_arm_tries_depends_on_no_other_arm(optuna, tmp_path):
    together = settled(study(), tmp_path / "a", round_by_round)
    alone = study(arms={"post": {}})
    assert settled(alone, tmp_path / "b", round_by_round)["post"] == together["post"]


def test_it_comes_nearer_than_the_points_that_it_begins_with(optuna, tmp_path):
    tried = settled(study(trials=32), tmp_path, round_by_round)["post"]

    def cost(settings):
        rate = SPACE[RATE].unit(settings[RATE])
        return abs(rate - 0.5) + settings[WARMUP] / 100

    assert min(map(cost, tried[8:])) < min(map(cost, tried[:8]))


@pytest.mark.parametrize("fails", [False, True])
def test_one_command_runs_round_after_round(
    fails, optuna, tmp_path, monkeypatch, capsys
):
    """And stops where runs failed, since what follows from them is not known."""
    rounds, reported = [], []

    def local_run(todo, *_):
        rounds.append(len(todo))
        for run in map(attempts.look, todo):
            if fails and run.cell.arm == "pre" and len(rounds) == 2:
                run.cell.directory.mkdir(parents=True)
                (run.cell.directory / "FAILED.json").write_text('{"error": "lost"}')
            else:
                finish(run)
        return True

    monkeypatch.setattr(program.local, "run", local_run)
    monkeypatch.setattr(program.batch, "processes", lambda _: 1)
    monkeypatch.setattr(program.batch, "write_plan", lambda _: [])
    monkeypatch.setattr(Plan, "check", lambda _: None)
    monkeypatch.setattr(Plan, "register", lambda _: [])
    monkeypatch.setattr(Plan, "warnings", [])
    monkeypatch.setattr(program, "report", lambda _, plan: reported.append(plan))
    asked = study(trials=14, tune_seeds=(7,))
    code = program.run(program.parse(["x", "--jobs=1"]), plan_of(asked, tmp_path))
    # two arms: 8 trials, then 4 and 2 as they follow, then a run with the study's seed
    assert rounds == ([16, 8, 2] if fails else [16, 8, 4, 2])
    [plan] = reported
    assert plan.tuned != fails and code == (exits.UNKNOWN if fails else exits.OK)
    assert ("failed runs: 4; " in capsys.readouterr().out) == fails


def test_without_results_nothing_is_proposed_and_the_plan_counts_it(tmp_path):
    plan = plan_of(study(), tmp_path)
    assert len(plan.tuning) == 2 * 8 * 2
    assert plan.expected() == 2 * 14 * 2 + 2
    assert plan.chosen == {} and not plan.stuck


def test_without_optuna_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    plan = plan_of(study(), tmp_path)
    for run in plan.tuning:
        finish(run)
    with pytest.raises(ConfigError, match=r"pip install 'tfm_jax\[optuna\]'"):
        plan.again()


def test_quasi_random_points_need_no_results(tmp_path):
    runs = [*map(attempts.look, cells.trials(study(proposer="sobol"), tmp_path))]
    assert proposals.extended(study(proposer="sobol"), tmp_path, runs) == tuple(runs)
    assert len(runs) == 2 * 14 * 2
