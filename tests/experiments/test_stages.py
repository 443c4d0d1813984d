"""Runs that begin where another one, made for them, ended."""

import dataclasses
import json

import pytest

from experiments import stages
from experiments.costs import sizes
from experiments.runs import cells
from experiments.statistics import findings
from experiments.study import Study, better, on
from tests.workloads.text_runs import write_files

CONFIG = """
from pathlib import Path

from tests.workloads.text_runs import get_config as make

SIZES = {{
    "first": (("masked_lm", "bert", "masked_lm"), {{}}),
    "second": (("classify", "bert", "classify"), dict(labels=4)),
}}


def get_config(size="first"):
    names, sizes = SIZES[size]
    return make(*names, Path({files!r}), train=dict(total_steps=4), **sizes)
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    write_files(folder)
    config = folder / "two.py"
    config.write_text(CONFIG.format(files=str(folder)))
    return Study(
        config=f"{config}:second",
        first=f"{config}:first",
        arms={
            "scratch": {"first": ""},
            "pretrained": {},
            "wider": {"first.data.masking.mask_rate": 0.3},
        },
        baseline="pretrained",
        metric="valid/accuracy",
        goal="max",
        expect=(better("pretrained", "scratch", "it helps"),),
        seeds=(3,),
        sesoi=0.01,
        fixed_rate="tiny",
    )


def test_what_the_first_run_does_is_part_of_what_the_second_is(study, tmp_path):
    scratch, pretrained, wider = cells.finals(study, tmp_path, {})
    assert len({scratch.id, pretrained.id, wider.id}) == 3
    assert scratch.first is None and "tfm_jax.main" in scratch.command
    assert "experiments.stages" in wider.command
    assert "--first.data.masking.mask_rate=0.3" in wider.command
    assert "--first.seed=3" in wider.command and "--config.seed=3" in wider.command
    assert wider.first.data.masking.mask_rate == 0.3
    assert wider.experiment == pretrained.experiment == scratch.experiment


def test_the_second_run_starts_from_the_first_which_is_made_once(study, tmp_path):
    cell = next(c for c in cells.finals(study, tmp_path, {}) if c.arm == "pretrained")
    argv = cell.command[2:]
    assert stages.main(argv) == 0
    found = json.loads((cell.directory / "results.json").read_text())
    first = cell.directory / "first" / "results.json"
    assert found["first_valid"] == json.loads(first.read_text())["valid"]
    assert found["valid"]["examples"] == 64
    report = json.loads((cell.directory / "init_from.json").read_text())
    assert report["loaded"] and {p.split("/")[0] for p in report["new"]} == {"head"}
    before = first.stat().st_mtime_ns
    assert stages.main([*argv, "--config.eval.beam=2"]) == 0
    assert first.stat().st_mtime_ns == before


def test_a_wrong_first_run_ends_both(study, tmp_path, capsys):
    cell = next(c for c in cells.finals(study, tmp_path, {}) if c.arm == "pretrained")
    assert stages.main([*cell.command[2:], "--first.model.depth=0"]) == 78
    assert "model.depth=0" in capsys.readouterr().err
    assert not (cell.directory / "results.json").exists()


def test_arms_are_matched_by_what_their_first_runs_cost(study, tmp_path):
    matched = dataclasses.replace(study, match="flops")
    cost = {"scratch": 1.0, "pretrained": 2.0, "wider": 4.0}
    found = {arm: {"flops_per_step": x} for arm, x in cost.items()}
    arms = sizes.matched(matched, found).arms
    assert arms["wider"]["first.train.total_steps"] == 2
    assert arms["pretrained"]["first.train.total_steps"] == 4
    assert arms["scratch"] == {"first": "", "train.total_steps": 8}
    [scratch, *_] = cells.finals(dataclasses.replace(study, arms=arms), tmp_path, {})
    assert scratch.costly.train.total_steps == 8


def test_an_expectation_may_have_a_metric_and_a_goal_of_its_own(study):
    up = better("wider", "pretrained", "more")
    values = {"wider": {}, "pretrained": {}}
    study = dataclasses.replace(study, seeds=tuple(range(4)), sesoi=1e-3)
    for seed in study.seeds:
        values["wider"][seed] = 0.5 + 0.01 * seed
        values["pretrained"][seed] = 0.4 + 0.011 * seed
    assert findings.judge(up, values, study)["verdict"] == findings.REPRODUCED
    down = on("first_valid/nll", up, "min")
    assert findings.judge(down, values, study)["verdict"] == findings.NOT_REPRODUCED
