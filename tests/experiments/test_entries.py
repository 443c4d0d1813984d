"""Reports: which become entries, and take the place of those that are published."""

import json
import re
import shutil

import pytest

from experiments import readme
from experiments.overview import entries
from experiments.statistics import verdicts
from experiments.studies import electra_ladder, positions, source_length
from tests.experiments.report.reports import example
from tfm_jax.api import ConfigError

LISTED = entries.read()


def ours(study=None, **changes):
    """A report of our study, of positions by default, as if it had been run."""
    study = study or positions.get_study()
    report = example([*study.arms], tuned=False)
    for field in ("metric", "goal", "baseline", "sesoi", "match"):
        report[field] = getattr(study, field)
    report["tune_seeds"] = [*study.tune_seeds]
    judged = dict(verdict="REPRODUCED", detail="", effects=[], seen=[], detectable="")
    report["expectations"] = [verdicts.stated(e, study) | judged for e in study.expect]
    report["tuning"] = [
        {"settings": {knob: value}}
        for knob, values in study.tune.items()
        for value in values
    ]
    report |= changes
    for run in report["runs"]:
        run["settings"] = {**study.settings, **study.arms[run["arm"]], "seed": 0}
        config = study.settings_of(run["arm"])["config"]
        run["command"] = f"python -m tfm_jax.main --config={config}"
    return report


def taken(report, out):
    """What is taken in where ``report`` alone is there."""
    folder = out / f"{report['name']}-{report['scale']}"
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report))
    return entries.reports(out)


def test_reports_take_the_place_of_older_ones_and_others_stay(tmp_path, monkeypatch):
    """Those of studies that are not in ``experiments/studies`` are not taken in."""
    report = ours()
    for name in ("positions", "mine"):
        folder = tmp_path / f"{name}-cpu"
        folder.mkdir()
        (folder / "report.json").write_text(json.dumps(report | {"name": name}))
        (folder / "report.md").write_text("# New ![arms](differences.svg)")
        (folder / "differences.svg").write_text("drawn")
    monkeypatch.setattr(readme, "HERE", tmp_path)
    monkeypatch.setattr(readme, "PAGES", tmp_path)
    out = f"--out={tmp_path}"
    shutil.copytree(tmp_path / "positions-cpu", tmp_path / "positions-cpu.old")
    both = [("heads", "cpu"), ("positions", "cpu")]
    two = [entry for entry in LISTED if (entry["name"], entry["scale"]) in both]
    entries.write(two, tmp_path / "results.json")
    assert readme.main([out]) == 0
    heads, positions = entries.read(tmp_path / "results.json")
    assert heads == two[0] and positions["question"] == report["question"]
    linked = (tmp_path / "positions-cpu.md").read_text()
    assert linked == "# New ![arms](positions-cpu.svg)"
    assert (tmp_path / "positions-cpu.svg").read_text() == "drawn"
    assert not (tmp_path / "mine-cpu.md").exists()
    assert not (tmp_path / "positions-cpu.old.md").exists()
    page = (tmp_path / "README.md").read_text()
    assert two[0]["question"] in page and report["question"] in page
    assert "- norm\\_kind: " in page and "- heads" not in page  # still to be run
    assert readme.main([out]) == 0
    assert (tmp_path / "README.md").read_text() == page


def test_a_report_without_effects_has_to_be_made_again(tmp_path):
    (tmp_path / "positions-cpu").mkdir()
    old = ours()
    del old["expectations"][0]["effects"]
    (tmp_path / "positions-cpu" / "report.json").write_text(json.dumps(old))
    with pytest.raises(ConfigError, match="experiments.run positions:cpu report"):
        entries.reports(tmp_path)


def test_what_is_no_report_of_the_study_changes_nothing(tmp_path, monkeypatch, capsys):
    """Another study of that name, a page without its figure, and what is no report."""
    numbers = tmp_path / "results.json"
    numbers.write_text(entries.FILE.read_text("utf-8"), "utf-8")
    monkeypatch.setattr(readme, "HERE", tmp_path)
    monkeypatch.setattr(readme, "PAGES", tmp_path)
    folder = tmp_path / "positions-cpu"
    folder.mkdir()
    mine = json.dumps(ours() | {"arms": example()["arms"]})
    (folder / "report.json").write_text(mine)
    assert readme.main([f"--out={tmp_path}"]) == 0
    assert "other arms than positions:cpu" in capsys.readouterr().out
    made = json.dumps(ours())
    for report, page, said in (
        (made, "![arms](differences.svg)", "lacks differences.svg"),
        (made[:-9], "# New", "is no report"),
        ("{}", "# New", "is no report"),
    ):
        (folder / "report.json").write_text(report)
        (folder / "report.md").write_text(page)
        assert readme.main([f"--out={tmp_path}"]) != 0
        assert said in capsys.readouterr().err
    assert readme.main([f"--out={tmp_path / 'nowhere'}"]) != 0
    assert numbers.read_text("utf-8") == entries.FILE.read_text("utf-8")


def test_a_report_of_another_metric_or_of_half_the_runs_replaces_nothing(
    tmp_path, capsys
):
    assert taken(ours(metric="valid/accuracy"), tmp_path) == {}
    assert "its metric is valid/accuracy, not valid/nll" in capsys.readouterr().out
    report = ours()
    del report["arms"][-1]["values"]["4"]
    assert taken(report, tmp_path) == {}
    assert "runs of arm t5 are missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    "broken",
    [
        dict(seeds=None),
        dict(arms="abc"),
        dict(name=["positions"]),
        dict(expectations=None),
        dict(expectations=[3]),
        dict(environment=dict(machine=3)),
        dict(environment=[]),
        dict(runs=[{"arm": "zzz", "settings": {}}]),
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_what_is_no_report_is_named(broken, tmp_path):
    report = ours() | broken
    folder = tmp_path / "positions-cpu"
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(report))
    with pytest.raises(ConfigError, match=r"positions-cpu/report.json is no report"):
        entries.reports(tmp_path)


EFFECT = dict(of="a minus b", verdict="REPRODUCED", mean=0.0, low=-0.1, high=0.1, n=5)


@pytest.mark.parametrize(
    "changes",
    [
        dict(verdict="FOO"),
        dict(verdict=["REPRODUCED"]),
        dict(effects=[EFFECT | {"of": 5}]),
        dict(effects=[EFFECT | {"n": "five"}]),
        dict(effects=[EFFECT | {"mean": 10**400}]),
    ],
)
def test_what_no_finding_can_say_is_no_report(changes, tmp_path):
    report = ours()
    report["expectations"][0] |= changes
    with pytest.raises(ConfigError, match=r"positions-cpu/report.json is no report"):
        taken(report, tmp_path)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"train.total_steps": "7"}, "the study does not set train.total_steps=7"),
        ({"model.positions": "t5"}, "model.positions is t5, and sinusoidal in the st"),
        ({"optim.rates": "x"}, "not set optim.lr_multipliers=x"),
    ],
)
def test_a_report_of_other_settings_replaces_nothing(changes, words, tmp_path, capsys):
    report = ours()
    for run in report["runs"]:
        run["settings"] |= changes
    assert taken(report, tmp_path) == {}
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(seeds=[0, 1]), "it lacks seeds of the study: 2,3,4"),
        (dict(seeds=[*range(7)]), "the study has no seeds 5,6"),
        (dict(expectations=[]), "it judges other findings than source_length:cpu"),
        (dict(tuning=[]), "optim.peak_lr was tuned over other values than 0.002,"),
    ],
    ids=lambda changes: next(iter(changes)) if isinstance(changes, dict) else "",
)
def test_a_report_that_finds_something_else_out_replaces_nothing(
    changes, words, tmp_path, capsys
):
    study = source_length.get_study()
    report = ours(study, name="source_length", **changes)
    assert taken(report, tmp_path) == {}
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(mean=float("nan")), "Out of range float values"),
        (dict(low=1.0), "its mean is not in its interval"),
        (dict(verdict="MAYBE"), "verdict='MAYBE'"),
        (dict(verdict="REPRODUCED"), "has not the verdict of effects"),
    ],
)
def test_numbers_that_contradict_one_another_replace_nothing(changes, words, tmp_path):
    report = ours()
    effect = dict(verdict="NOT REPRODUCED", mean=0.5, low=0.1, high=0.9, n=5)
    judged = dict(effects=[effect | {"of": "a minus b"}], verdict="NOT REPRODUCED")
    report["expectations"][0] |= judged
    assert [*taken(report, tmp_path)] == ["positions-cpu"]
    report["expectations"][0]["effects"][0] |= changes
    with pytest.raises(ConfigError, match=re.escape(words)):
        taken(report, tmp_path)


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(runs=[]), "it has no runs"),
        (dict(match="flops"), "its match is flops, not steps"),
        (dict(tune_seeds=[7]), "it was tuned with seeds 7"),
        ("configs/bert_base.py", "do not start from configs/transformer_numerals_sm"),
    ],
    ids=str,
)
def test_a_report_of_other_runs_replaces_nothing(changes, words, tmp_path, capsys):
    report = ours(**changes) if isinstance(changes, dict) else ours()
    for run in report["runs"] if isinstance(changes, str) else ():
        run["command"] = f"python -m tfm_jax.main --config={changes}"
    assert taken(report, tmp_path) == {}
    assert words in capsys.readouterr().out


def test_a_study_of_ours_that_is_wrong_is_not_blamed_on_a_report(tmp_path, monkeypatch):
    def broken(scale):
        raise ValueError("our own")

    report = ours()
    monkeypatch.setattr(positions, "get_study", broken)
    with pytest.raises(ValueError, match="our own"):
        taken(report, tmp_path)


def test_a_report_whose_arms_are_matched_may_not_have_other_steps(tmp_path, capsys):
    """``match`` gives an arm its steps only where it says how much all may spend."""
    study = source_length.get_study()
    report = ours(study, name="source_length")
    assert [*taken(report, tmp_path)] == ["source_length-cpu"]
    report["runs"][-1]["settings"]["train.total_steps"] = "7"
    assert taken(report, tmp_path) == {}
    assert "train.total_steps is 7, and " in capsys.readouterr().out


def test_files_may_be_any_and_steps_of_arms_that_are_matched(tmp_path, capsys):
    """Those of the baseline are the study's."""
    study = electra_ladder.get_study()
    report = ours(study, name="electra_ladder")
    first, base = report["runs"][-1], report["runs"][0]
    assert base["arm"] == study.baseline != first["arm"]
    for run in report["runs"]:
        run["settings"]["data.train_files"] = "mine.tsv"
    first["settings"]["first.train.total_steps"] = "1455"
    assert [*taken(report, tmp_path)] == ["electra_ladder-cpu"]
    base["settings"]["first.train.total_steps"] = "1455"
    assert taken(report, tmp_path) == {}
    assert "first.train.total_steps is 1455, and 2000" in capsys.readouterr().out


def test_a_setting_may_be_said_in_other_words(tmp_path):
    """As flags say it; and a study may have grown by looks."""
    study = source_length.get_study()
    report = ours(study, name="source_length", seeds=[*range(8)])
    report["looks"] = dict.fromkeys(("planned", "taken", "nominal", "spent"), 1)
    for run in report["runs"]:
        run["settings"] |= {"tokenizer.vocab": "100", "model.dropout": "0"}
    for arm in report["arms"]:
        arm["values"] = dict.fromkeys(map(str, range(8)), 1.0)
    assert [*taken(report, tmp_path)] == ["source_length-cpu"]
