"""Runs side by side: what is read, what differs, what is shown."""

import json
import math
import shutil
from pathlib import Path

import pytest

from experiments import compare, runs
from experiments.compare import __main__ as command
from experiments.compare import contrasts, figures, workdirs
from tests.experiments.report.pages import Page
from tfm_jax.api import Lease, exits

GOLDEN = Path(__file__).parents[1] / "golden" / "0.1.0"
HERE = {"python": "3.11", "jax": "0.10.2", "machine": "a CPU", "devices": "1 cpu"}


def make(path, *, steps=40, total=40, ended=True, where=HERE, rate=1.0, **changes):
    """A workdir as training leaves it; ``changes``: ``model__norm="pre"``."""
    config = json.loads((GOLDEN / "translation" / "config.json").read_text())
    config["train"]["total_steps"] = total
    for knob, value in changes.items():
        *outer, name = knob.split("__")
        (config[outer[0]] if outer else config)[name] = value
    records = [{"step": 1, "kind": "start", "seconds": 1.0, "environment": where}]
    for step in range(1, steps + 1):
        loss = 1 + 6 * math.exp(-rate * step / 10)
        speed = {"tokens_per_second": 500.0, "streak": 0, "grad_norm": 1 / step}
        records.append({"step": step, "kind": "train", "loss": loss, **speed})
        if step % 10 == 0:
            scores = {"nll": loss - 0.5, "accuracy": 1 - loss / 9, "tokens": 99}
            records.append({"step": step, "kind": "valid", **scores})
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (path / "metrics.jsonl").write_text(lines)
    if ended:
        of_test = {"nll": records[-1]["nll"], "bleu": 20 * rate, "signature": "x"}
        results = {"step": steps, "memory_bytes": 5, "test": of_test}
        (path / "results.json").write_text(json.dumps(results))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs that have ended, one that has stopped, one that has diverged."""
    folder = tmp_path_factory.mktemp("runs")
    make(folder / "post")
    newer = HERE | {"jax": "0.11.0"}
    make(folder / "pre", model__norm="pre", rate=1.3, where=newer)
    make(folder / "rotary", model__positions="rotary", steps=25, ended=False)
    lost = make(folder / "lost", model__norm="none", steps=30, ended=False)
    with open(lost / "metrics.jsonl", "a") as record:
        for streak in range(1, 13):  # more than train.skip_limit
            bad = {"kind": "train", "loss": "nan", "streak": streak}
            record.write(json.dumps({"step": 30 + streak} | bad) + "\n")
    return folder


@pytest.fixture(scope="module")
def four(folder):
    return compare([folder / name for name in ("post", "pre", "rotary", "lost")])


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without pictures, which take time."""
    monkeypatch.setattr(figures, "draw", lambda runs: {})


def told(capsys, *argv):
    """Exit code, standard output and standard error of the command."""
    code = command.main([*map(str, argv)])
    return code, *capsys.readouterr()


def test_configuration_comes_first_then_curves_scores_environment(folder, capsys):
    page = folder / "pages" / "both.html"
    code, out, _ = told(capsys, folder / "post", folder / "pre", "--page", page)
    assert code == exits.OK and out.endswith(f"\nsee {page}\n")
    rows = [line.split() for line in out.splitlines()]
    order = [
        ["knob", "post", "pre"],
        ["model.norm", "post", "pre"],
        ["train/loss", "at", "step", "post", "pre"],
        ["test/bleu", "20", "26*", "+6"],
        ["jax", "0.10.2", "0.11.0"],
    ]
    assert [row for row in rows if row in order] == order
    assert sum(row[:1] == ["model.norm"] for row in rows) == 1
    read = Page(page.read_text("utf-8"))
    assert [row for row in read.rows if row in order] == order[:2] + order[3:]
    assert all(link.startswith("data:image/svg") for link in read.links)
    assert "script" not in read.elements


def test_frames_have_the_values_themselves(four):
    differ = four.differences
    assert set(differ.index) == {"model.norm", "model.positions"}
    assert list(differ.loc["model.norm"]) == ["post", "pre", "post", "none"]
    assert four.scores.loc["test/bleu", "pre"] == 26
    assert list(four.scores.loc["test/bleu"].isna()) == [False, False, True, True]
    assert four.environment.loc["jax", "pre"] == "0.11.0"
    nll = four.curves.query("run == 'rotary' and kind == 'valid' and score == 'nll'")
    assert list(nll["step"]) == [10, 20]
    assert not four.curves["value"].isna().any(), "what is not finite is left out"


def test_runs_that_are_not_as_far_are_scored_where_all_have_been(four):
    at_20 = four.scores.loc["valid/nll at 20"]
    assert at_20["post"] == pytest.approx(0.5 + 6 * math.exp(-2))
    assert not at_20.isna().any()


@pytest.mark.parametrize(
    "name, status",
    [("post", "done"), ("rotary", "stopped"), ("lost", "diverged")],
)
def test_a_run_says_how_it_ended(four, name, status):
    assert {run.name: run.status for run in four.runs}[name] == status


@pytest.mark.parametrize(
    ("others", "row"),
    [
        (("denoise",), "images/s"),
        (("translation",), "images or tokens/s"),
    ],
)
def test_speed_is_in_what_the_runs_count(others, row, tmp_path):
    for task in ("classify_images", *others):
        make(tmp_path / task, task=task)
    (line,) = [x for x in compare(f"{tmp_path}/*").text().splitlines() if "/s " in x]
    assert line.split("  ")[0] == row and line.split()[-2:] == ["500", "500"]


def test_a_run_is_under_way_while_a_process_holds_it(tmp_path):
    make(tmp_path / "a", ended=False)
    with Lease(tmp_path / "a"):
        assert runs(tmp_path / "a").loc["a", "status"] == "running"
    assert runs(tmp_path / "a").loc["a", "status"] == "stopped"


def test_a_table_has_a_row_for_each_workdir_and_a_column_for_what_differs(folder):
    table = runs(f"{folder}/*")
    assert list(table.index) == ["lost", "post", "pre", "rotary"]
    assert list(table["model.norm"]) == ["none", "post", "pre", "post"]
    assert "model.width" not in table and table.loc["pre", "test/bleu"] == 26
    assert list(table["step"]) == [42, 40, 40, 25]


def test_knobs_of_before_are_compared_under_their_names_of_now(tmp_path):
    make(tmp_path / "old", mesh__exchange="flat")
    config = json.loads((make(tmp_path / "new") / "config.json").read_text())
    del config["mesh"]["exchange"]
    config["mesh"]["gradient_allreduce"] = "fused"
    (tmp_path / "new" / "config.json").write_text(json.dumps(config))
    pair = [tmp_path / "old", tmp_path / "new"]
    assert list(compare(pair).differences.index) == []
    assert "No knob differs" in compare(pair).text()


def test_runs_of_different_kinds_share_what_they_share():
    kinds = [GOLDEN / "translation", GOLDEN / "causal_lm"]
    both = compare(kinds)
    assert {"task", "model.norm"} <= set(both.differences.index)
    assert "model.decoder_depth" not in both.differences.index
    assert not both.differences.isna().any(axis=None)
    text = both.text(100)
    assert "Runs of different kinds: transformer translation (1), gpt causal" in text
    assert "not recorded by translation, causal_lm" in text  # they are of before
    assert text.count("*") == 1, "scores of different tasks have no best"


def test_a_family_that_lies_elsewhere_is_compared_as_its_file_says(tmp_path):
    pair = [make(tmp_path / "a", model_name="mine"), make(tmp_path / "b", seed=3)]
    assert list(compare(pair).differences.loc["seed"]) == [0, 3]


def test_legends_say_what_differs_and_not_how_it_was_run(tmp_path):
    knobs = dict(model__norm="pre", eval__beam=4)
    pair = [make(tmp_path / "a"), make(tmp_path / "b", **knobs)]
    names = contrasts.labels(workdirs.read(pair))
    assert names == ["a: norm=post", "b: norm=pre"]


def test_runs_are_told_apart_by_the_shortest_end_of_their_path(tmp_path):
    places = ["x/base", "y/base", "y/other", "x/deep/other"]
    read = workdirs.read([make(tmp_path / place) for place in places])
    assert [r.name for r in read] == ["x/base", "y/base", "y/other", "deep/other"]


def test_patterns_and_homes_are_spelled_out_and_a_run_counts_once(
    tmp_path, monkeypatch
):
    for name in ("s10", "s2", "s[1]"):
        make(tmp_path / name)
    (tmp_path / "notes").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "s2")
    (tmp_path / "²").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    read = workdirs.read(["~/s[1]", "~/s[0-9]*"])
    with pytest.warns(UserWarning, match="link, the run s2, is named twice"):
        assert [r.name for r in workdirs.read(["~/s2", "~/link"])] == ["s2"]
    assert [r.name for r in read] == ["s[1]", "s2", "s10"]


@pytest.mark.parametrize(
    "names, message",
    [
        (["post", "prr"], "prr: no such run; did you mean 'pre'?"),
        (["x*"], "x*: no run is there"),
        (["post"], "post is one run; name another one beside it"),
        ([], "the following arguments are required: RUN"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(folder, names, message, capsys):
    code, out, err = told(capsys, *(folder / name for name in names))
    assert code == exits.BAD_CONFIG and out == ""
    assert message in err and err.count("\n") == 1


def test_a_page_that_cannot_be_written_is_said_in_a_line(folder, capsys, undrawn):
    inside = folder / "post" / "config.json" / "page.html"
    code, out, err = told(capsys, folder / "post", folder / "pre", "--page", inside)
    assert code == exits.INFRASTRUCTURE and out.startswith("Configuration\n")
    assert err.startswith(f"experiments.compare: --page={inside}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("knob", ["model_name", "task"])
def test_a_section_in_place_of_a_name_is_no_run_of_ours(knob, tmp_path):
    pair = [make(tmp_path / "a", **{knob: {"x": 1}}), make(tmp_path / "b", seed=1)]
    assert compare(pair).differences.loc["seed", "b"] == 1


def test_a_directory_that_is_no_run_is_left_out_with_a_line(folder, undrawn):
    everything = [*sorted(folder.glob("p*")), folder]
    with pytest.warns(UserWarning) as warned:
        assert len(workdirs.read(everything)) == 2
    (line,) = {str(w.message) for w in warned if "pages" not in str(w.message)}
    assert f"{folder} is no run" in line and f"its runs are {folder}/*" in line


def test_a_run_that_has_logged_nothing_yet_is_shown(tmp_path):
    paths = [make(tmp_path / "a", steps=0, ended=False), tmp_path / "b", tmp_path / "c"]
    for path in paths[1:]:
        shutil.copytree(paths[0], path)
        (path / "metrics.jsonl").unlink()
    (paths[2] / "attempts" / "001").mkdir(parents=True)  # by the runner of a study
    shown = compare(paths)
    assert "Nothing was logged yet." in shown.text()
    assert [run.status for run in shown.runs] == ["stopped", "not started", "stopped"]
    assert shown.curves.empty and "<h2>Curves</h2>" in shown._repr_html_()


def test_a_folder_for_the_page_stays_a_folder(folder, tmp_path, undrawn):
    """It gets the page inside, and what is there stays."""
    both = compare([folder / "post", folder / "pre"])
    assert both.save(tmp_path) == tmp_path / "compare.html"
    assert both.save(tmp_path / "new" / "x.html").read_text("utf-8")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["compare.html", "new"]


HOSTILE = "<script>alert(1)</script>\x1b]0;x\x07\u202e{{ 7 * 7 }}"


def test_what_a_workdir_from_elsewhere_says_is_only_text(tmp_path, capsys):
    """In its path, knobs, records, scores and environment."""
    mine = dict(model_name=HOSTILE, freeze=HOSTILE)
    bad = make(tmp_path / "a" / "<img src=x onerror=y>", **mine)
    odd = {"step": 10**400, "kind": "train", "loss": 10**400, HOSTILE: 1.5}
    more = {"step": 7, "kind": "valid", "nll": [HOSTILE], HOSTILE: 2.5, "bleu": {}}
    with open(bad / "metrics.jsonl", "a") as record:
        record.write("".join(json.dumps(each) + "\n" for each in (odd, more)))
        record.write('{"step": 8, "kind": "start", "environment": {"\x1b": [1]}}\n')
    scores = {HOSTILE: {HOSTILE: 1, "x": 10**400, "y": 1e300}}
    results = {"step": HOSTILE, "test": [1]} | scores
    (bad / "results.json").write_text(json.dumps(results))
    page = tmp_path / "page.html"
    good = make(tmp_path / "good", where=HERE | {"machine": HOSTILE})
    assert told(capsys, bad, good, "--page", page)[0] == exits.OK
    code, out, err = told(capsys, bad, good, "--page", page)
    assert not {"\x1b", "\x07", "\u202e"} & {*out, *err}
    part = compare([bad, good])._repr_html_()
    for shown in (page.read_text("utf-8"), part):
        assert not {"\x1b", "\x07", "\u202e"} & {*shown}
        elements = Page(shown).elements
        assert "script" not in elements and "alert(1)" in shown
        assert elements["img"] == shown.count('src="data:image/svg+xml')


def test_numbers_and_texts_that_no_run_of_ours_has_are_shown_too(tmp_path):
    odd = make(tmp_path / "odd\x1b\u202e", task="\ud800" * 99, model_name="\ud800")
    huge = [{"loss": -1.7e308, "\udfff": 1.0}, {"loss": 1.7e308}, {"loss": 5e-324}]
    tiny = [{"nll": 5e-324}, {"nll": 1.7e308}]
    with open(odd / "metrics.jsonl", "a") as record:
        for kind, values in (("train", huge), ("valid", tiny)):
            for step, scores in enumerate(values, 41):
                line = {"step": 2**step, "kind": kind} | scores
                record.write(json.dumps(line) + "\n")
    compared = compare([make(tmp_path / "plain"), odd])
    page = compared.save(tmp_path / "page.html").read_text("utf-8")
    for text in (page, compared.text(80), str(compared.curves)):
        assert not {"\x1b", "\u202e", "\ud800"} & {*text}
    assert compared.differences.loc["task"].iloc[1].startswith("⟨U+D800⟩")
    assert len(max(compared.text(80).splitlines(), key=len)) < 200


def test_many_runs_have_a_row_each_and_one_legend(tmp_path):
    for seed in range(20):
        make(tmp_path / f"s{seed}", seed=seed, optim__peak_lr=1 / (seed + 3))
    many = compare(tmp_path / "s*")
    lines = many.text(100).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[1].split() == ["run", "seed", "optim.peak_lr"]
    assert lines[3].split() == ["s1", "1", "0.25"]
    assert max(map(len, many.text(50).splitlines()[:80])) <= 50, "folded"
    shown = Page(many._repr_html_())
    first, *others = (int(picture["height"]) for picture in shown.pictures)
    assert first > max(others)
    assert [row for row in shown.rows if row[:2] == ["s19", "19"]]
