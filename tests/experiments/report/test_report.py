"""The report says what the analysis says, whatever is missing from it."""

import json
import re
import time
from pathlib import Path

import jinja2
import pytest

from experiments.report import canvas, curves, numbers, page, plots, tables, terms
from experiments.report.text import shortened
from tests.experiments.report.pages import Page, small, written
from tests.experiments.report.reports import ARMS, RATES, example
from tests.experiments.statistics.test_lost_seeds import WORDS as WORDS_OF_ARMS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the report of ``small`` is."""
    return tmp_path_factory.mktemp("harmless")


@pytest.fixture(scope="module")
def harmless(folder):
    return written(small(), folder)


def luminance(colour):
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    ]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(
    "colour, least",
    [(canvas.INK, 7), (canvas.SOFT, 4.5), (canvas.ACCENT, 4.5), (canvas.ALARM, 4.5)],
)
def test_text_has_the_contrast_that_wcag_asks_for(colour, least, dark):
    """WCAG 2.2, 1.4.3 (4.5 to 1) and 1.4.6 (7 to 1)."""
    colours = (colour, canvas.PAPER)
    pair = [luminance(canvas.DARK[c] if dark else c) for c in colours]
    assert (max(pair) + 0.05) / (min(pair) + 0.05) >= least


SHEET = (Path(page.__file__).parent / "page.css").read_text("utf-8")


def headline_of(page, second="n"):
    """{arm: (cells, exact values)} of the table whose second column is ``second``."""
    start = next(i for i, row in enumerate(page.rows) if row[:2] == ["Arm", second])
    rows = zip(page.rows[start + 1 :], page.exact[start + 1 :], strict=True)
    found = {}
    for cells, exact in rows:
        if cells[0] in ("Arm", "Run"):
            break
        found[cells[0]] = cells, [float(value) for value in exact]
    return found


@pytest.mark.parametrize("goal", ["min", "max"])
def test_the_headline_shows_the_numbers_of_the_analysis(goal, tmp_path):
    analysis = example(tuned=False, points=0, goal=goal, diverged={"none": [0, 3]})
    page, source = written(analysis, tmp_path)
    rows = headline_of(page)
    assert len(rows) == len(analysis["arms"])
    for arm, (name, (cells, exact)) in zip(analysis["arms"], rows.items(), strict=True):
        assert name.startswith(arm["name"])
        d = arm["difference"]
        compared = [d["mean"], d["low_holm"], d["high_holm"], d["p_holm"]] if d else []
        numbers_of_arm = [arm["n"], arm["mean"], *compared, arm["diverged"]["count"]]
        assert exact == numbers_of_arm
        costs = [
            arm[key] for key in ("parameters", "flops_per_step", "tokens", "seconds")
        ]
        assert headline_of(page, "Parameters")[arm["name"]][1] == costs
        assert cells[5] == arm["word"]
        shown = re.findall(r"[−+]?[\d.]+", cells[3])
        for text, number in zip(shown, compared, strict=False):
            half = 0.5 * 10.0 ** -len(text.partition(".")[2])
            assert float(text.replace("−", "-")) == pytest.approx(number, abs=half)
        assert f"| {cells[2]} |" in source
    everything = " ".join(page.texts)
    direction = {"min": "lower is better", "max": "higher is better"}[goal]
    assert direction in everything and direction in source


def test_what_is_absent_is_a_dash_with_its_reason(tmp_path):
    analysis = example(seeds=2, points=0, tuned=False)
    for arm in analysis["arms"]:
        arm |= {"parameters": None, "flops_per_step": None, "seconds": None}
    page, source = written(analysis, tmp_path)
    text = " ".join(" ".join(page.texts).split())
    for reason in (tables.TOO_FEW, "not counted", "not recorded"):
        assert reason in text and reason in source
    cells, _ = headline_of(page)["rope"]
    assert re.fullmatch(r"[−+]\d\.\d+ \[–[a-z]\]", cells[3])
    cells, _ = headline_of(page, "Parameters")["rope"]
    assert [cells[place][0] for place in (1, 2, 4)] == ["–"] * 3
    assert "None" not in text and "nan" not in text.lower().split()


def unfinished():
    analysis = example(seeds=3, points=0, tuned=False)
    for arm in analysis["arms"]:
        arm |= dict.fromkeys(("mean", "sd", "difference", "parameters", "seconds"))
        arm |= {"values": {}, "n": 0, "word": "incomplete", "flops_per_step": None}
        arm["diverged"] = {"count": 0, "n": 0, "low": 0.0, "high": 1.0}
    analysis |= {"runs": [], "environment": {}, "commands": [], "exploratory": []}
    analysis |= {"expectations": [], "caveat": "", "excluded": []}
    analysis["noise"] = {"identical": None, "unlike": 0, "other_seeds": None}
    return analysis | {"mixed_environments": [], "verdict": "INCOMPLETE"}


CASES = {
    "one arm": lambda: example(arms=["sinusoidal"], seeds=3),
    "one seed": lambda: example(seeds=1, arms=["sinusoidal", "rope"]),
    "two seeds": lambda: example(seeds=2, arms=["sinusoidal", "rope"]),
    "all diverged": lambda: example(
        arms=["sinusoidal", "rope"], diverged={"rope": range(5), "sinusoidal": range(5)}
    ),
    "no tuning": lambda: example(tuned=False, arms=["sinusoidal", "rope"]),
    "no curves": lambda: example(points=0, arms=["sinusoidal", "rope"]),
    "nothing yet": unfinished,
    "equal arms": lambda: example(
        arms=["sinusoidal", "twin"],
        sesoi=0.0,
        curves={name: {"0": [[1, 2.0]]} for name in ("sinusoidal", "twin")},
    ),
    "holes in curves": lambda: example(
        arms=["sinusoidal", "rope"],
        curves={
            "sinusoidal": {"0": [[1, 3.0], [2, None]], "1": []},
            "rope": {"0": [[5, 2.0]], "7": [[1, 2.0]]},
        },
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_report_can_always_be_written(case, tmp_path):
    analysis = case()
    page, source = written(analysis, tmp_path)
    assert len(headline_of(page)) == len(analysis["arms"])
    assert all(uri.startswith("data:") for uri in page.links)
    assert analysis["verdict"] in source and analysis["verdict"] in page.texts


def test_figures_appear_only_where_runs_can_fill_them(harmless, tmp_path):
    def drawn(**changes):
        page, _ = written(small(**changes), tmp_path)
        return len(page.pictures)

    assert len(harmless[0].pictures) == 6
    assert drawn(points=0) == 4  # no learning curves, no paired ones
    assert drawn(tuned=False) == 5  # no sensitivity
    assert drawn(diverged={}) == 5  # no divergence
    assert drawn(arms=["sinusoidal"], diverged={}) == 2  # curves and sensitivity


def test_alternative_texts_state_the_numbers(harmless):
    page, _ = harmless
    analysis = small()
    digits = tables.places(analysis)
    relative = analysis["arms"][2]["difference"]
    dots = page.pictures[0]["alt"]
    for end in ("mean", "low_holm", "high_holm"):
        assert numbers.fixed(relative[end], digits, sign=True).text in dots
    assert "none 1 of 3" in next(p["alt"] for p in page.pictures if "Diver" in p["alt"])
    assert all(len(picture["alt"]) > 40 for picture in page.pictures)


def test_whatever_leaves_out_a_seed_says_so(harmless):
    """One of three runs of an arm diverged, and one of its trials."""
    page, source = harmless
    dots, curves, apart, rates, *_ = (picture["alt"] for picture in page.pictures)
    assert "1 diverged, 2 of 3 pairs" in dots
    for drawn in (curves, apart):
        assert re.search(r"none \S+ at step \d+, 2 of 3 runs", drawn)
        assert "relative" in drawn and drawn.count("runs") == 1
    assert "without 1 diverged" in " ".join(page.texts)
    assert "without 1 diverged" in source


def test_a_trial_that_lost_a_seed_has_no_mean_in_the_figure():
    analysis = small()
    for trial in analysis["tuning"]:
        if trial["arm"] == "none" and trial["chosen"] and trial["seed"] == 1000:
            trial["value"] = None
    with canvas.styled():
        assert "none best with lost seeds at" in plots.rates(analysis).alt


def test_lines_are_drawn_against_time_where_steps_of_arms_take_unlike_time():
    analysis = small(diverged={})
    assert curves.against_time(analysis) is None
    last = max(x for x, _ in analysis["curves"]["none"]["0"])
    for arm in analysis["arms"]:
        times = {"none": 2 * last, "relative": None}
        arm["seconds"] = times.get(arm["name"], last)
    with canvas.styled():
        drawn = curves.against_time(analysis).alt
    assert f" at second {2 * last:.0f}" in drawn
    assert f" at second {last:.0f}" in drawn
    assert "relative" not in drawn, "nobody knows how long it took"


def test_an_arm_of_which_every_run_diverged_has_lines_and_no_mean():
    analysis = small(diverged={"none": [0, 1, 2]})
    with canvas.styled():
        assert "none, 0 of 3 runs" in curves.values(analysis).alt
        assert "none, 0 of 3 runs" in curves.differences(analysis).alt


def test_a_check_is_told_from_what_was_published(harmless):
    page, source = harmless
    texts = [" ".join(text.split()) for text in page.texts]
    checks = [e for e in small()["expectations"] if e["claim"] == "check"]
    assert [e["verdict"] for e in checks] == ["NOT REPRODUCED"]
    assert "FAILED" in texts and "Checks of this study, which must hold" in texts
    _, ours = source.split("| Check of this study |")
    assert f"| {checks[0]['text']} | FAILED |" in ours


def test_every_word_of_an_arm_is_explained():
    for word in (*WORDS_OF_ARMS, "no difference after Holm"):
        for part in word.split(", "):
            assert {part, f"{part} (verdict)"} & terms.WORDS.keys(), word


def test_every_run_has_its_command_and_its_error(harmless):
    page, source = harmless
    for run in small()["runs"]:
        assert run["command"] in page.texts and run["command"] in source
        assert not run["error"] or (
            run["error"] in page.texts and run["error"] in source
        )


def test_settings_that_all_runs_share_are_said_once(tmp_path):
    analysis = small(points=0)
    for run in analysis["runs"]:
        run["settings"] = {"model.width": 8, "seed": run["seed"]} | run["settings"]
    page, source = written(analysis, tmp_path)
    for text in (page.html, source):
        assert text.count("model.width=8") == 1
    start = next(i for i, row in enumerate(page.rows) if row[0] == "Run")
    own = {row[-1] for row in page.rows[start + 1 :]}
    assert own == {f"optim.peak_lr={rate}" for rate in RATES}


def test_an_optimum_at_the_edge_and_exploration_are_said_aloud(harmless):
    page, source = harmless
    text = " ".join(page.texts)
    for words in (
        "Optimum at the edge.",
        "Exploratory",
        "Mixed environments.",
        "Caveat.",
    ):
        assert words in text and words in source


def test_a_broken_repetition_is_said_aloud(tmp_path):
    noise = {"identical": 0.002, "unlike": 0, "other_seeds": None}
    page, source = written(small(points=0, noise=noise), tmp_path)
    assert "Not deterministic." in page.texts and "Not deterministic." in source


def test_the_json_is_canonical_and_comes_back_equal(harmless, folder, tmp_path):
    analysis = small()
    text = (folder / "report.json").read_text()
    assert json.loads(text) == analysis
    shuffled = dict(reversed(analysis.items()))
    page.write(shuffled, tmp_path)
    assert (tmp_path / "report.json").read_text() == text


def test_the_same_analysis_gives_the_same_bytes(harmless, folder, tmp_path):
    path = page.write(small(), tmp_path)
    assert path.read_bytes() == (folder / path.name).read_bytes()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_leaves_nothing_behind(number, tmp_path):
    with pytest.raises(ValueError):
        page.write(small(sesoi=number), tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_an_analysis_without_a_field_is_refused(tmp_path):
    analysis = small(points=0)
    del analysis["answer"]
    with pytest.raises(jinja2.UndefinedError, match="answer"):
        page.write(analysis, tmp_path)


def test_twelve_arms_take_less_than_five_seconds_and_three_megabytes(tmp_path):
    names = [*ARMS, *(f"variant-{letter}" for letter in "abcdef")]
    analysis = example(arms=names, diverged={"variant-b": [0, 4]}, points=100)
    start = time.process_time()
    path = page.write(analysis, tmp_path)
    assert time.process_time() - start < 5
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 3e6
    assert len(Page(path.read_text("utf-8")).pictures) == 6


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (999, "999"),
        (999_600, "1.00 M"),
        (6_310_912, "6.31 M"),
        (1e11, "100 G"),
    ],
)
def test_quantities_keep_three_digits(value, text):
    assert numbers.quantity(value) == (text, value, "")


def test_rounding_never_shows_a_negative_zero():
    assert numbers.fixed(-0.0001, 2, sign=True).text == "+0.00"
    assert numbers.fixed(-0.5, 1).text == "−0.5"


@pytest.mark.parametrize(
    "spreads, digits", [([0.012, 0.3], 3), ([25.0], 0), ([None, 0.0], 4), ([1e-12], 9)]
)
def test_decimals_leave_two_digits_of_the_smallest_spread(spreads, digits):
    assert numbers.decimals(spreads) == digits


def test_every_cell_has_its_columns_name_where_a_table_is_a_list(harmless):
    page, _ = harmless
    heads = []
    for row, labels in zip(page.rows, page.labels, strict=True):
        heads = heads if any(labels) else row
        assert not any(labels) or labels[1:] == heads[1:]


def test_nothing_is_wider_than_a_phone():
    """320 CSS pixels: WCAG 2.2, 1.4.10. Figures shrink, by a quarter at most."""
    for least in re.findall(r"(?<![\w-])(?:min-)?width: ([\d.]+)rem", SHEET):
        assert float(least) * 16 <= 320
    pictures = filter(None, plots.draw(small()).values())
    assert max(picture.width for picture in pictures) * 0.75 <= 320


def test_the_verdict_stands_before_everything_else(harmless):
    page, _ = harmless
    assert page.html.index("REPRODUCED</span>") < page.html.index("<h2>")


def test_paper_leaves_out_commands_alone(harmless):
    page, _ = harmless
    unfolded = re.findall(
        r"(details\S*)::details-content", SHEET.split("@media print")[1]
    )
    assert unfolded == ["details:not(.commands)"]
    before, folded = page.html.split('<details class="commands">')
    pre = re.findall(r"<pre.*?</pre>", folded.partition("</details>")[0], re.DOTALL)
    assert len(pre) == len(small()["runs"]) and pre[0] not in before


def test_shortened_names_stay_apart_at_either_end():
    names = [f"{a}{'x' * 50}{b}" for a in "ab" for b in "cd"]
    short = [shortened(name, 20) for name in names]
    assert len({*short}) == 4 and {*map(len, short)} == {20}


def test_arms_that_differ_in_the_middle_stay_apart_in_figures():
    names = [f"{'head_' * 6}{depth}{'_tail' * 6}" for depth in range(12)]
    report = {"arms": [{"name": name} for name in ["base", *names]]}
    labels = {canvas.label(report, arm["name"]) for arm in report["arms"]}
    assert len(labels) == 13 and max(map(len, labels)) == 24 and "base" in labels


def test_arms_that_differ_twice_in_the_middle_stay_apart_in_figures():
    """Without the start that all share, two and two are still the same."""
    head, tail = "head_" * 6, "_tail" * 6
    names = [f"{head}{a}{'-' * 20}{b}{tail}" for a in "ab" for b in "cd"]
    labels = {
        canvas.label({"arms": [{"name": n} for n in names]}, name) for name in names
    }
    assert len(labels) == 4 and max(map(len, labels)) == 24
