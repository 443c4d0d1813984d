"""What all studies have found: one file of numbers, and what is made of it."""

import html
import importlib
import itertools
import math
import pkgutil
import re
import shlex

import numpy as np
import pytest

from experiments import readme, studies
from experiments.overview import entries, forest
from experiments.overview.explanations import ANSWERED
from experiments.overview.questions import QUESTIONS, STUDIES
from experiments.overview.words import ENGLISH, LANGUAGES
from experiments.report.text import markdown
from experiments.runs import cells
from experiments.statistics import findings
from experiments.statistics.answers import CHECKED
from experiments.study import better, equivalent, monotone, on, reported, within
from tests.experiments.report.reports import example

PAGES = readme.PAGES
LISTED = entries.read()
NAMES = [f"{entry['name']}-{entry['scale']}" for entry in LISTED]
MADE = example(tuned=False) | {"name": "made"}  # a report of no study of ours
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def plain(name):
    """Text of a study's page, without Markdown and typographic minus signs."""
    text = (PAGES / f"{name}.md").read_text("utf-8").replace("−", "-")
    return html.unescape(re.sub(r"\\(.)", r"\1", text))


@pytest.mark.parametrize("words", LANGUAGES, ids=lambda words: words.language)
def test_pages_and_figures_are_those_of_the_numbers(words):
    page = (readme.HERE / words.page).read_text("utf-8")
    assert page == readme.page(LISTED, words), "python -m experiments.readme"
    drawn, kept = (
        forest.draw(LISTED, words),
        (PAGES / words.figure).read_text("utf-8"),
    )
    assert re.findall("<text.*?</text>", kept) == re.findall("<text.*?</text>", drawn)
    numbers = (np.array(NUMBER.findall(svg), float) for svg in (kept, drawn))
    np.testing.assert_allclose(*numbers, atol=0.5)


def test_every_page_of_a_study_has_its_numbers_and_every_study_its_question():
    assert NAMES == sorted(NAMES) == sorted(path.stem for path in PAGES.glob("*.md"))
    assert set(STUDIES) == {m.name for m in pkgutil.iter_modules(studies.__path__)}
    assert {number for number, _ in STUDIES.values()} == {*range(len(QUESTIONS))}


@pytest.mark.parametrize("entry", LISTED, ids=NAMES)
def test_numbers_are_those_of_the_page(entry):
    page = plain(f"{entry['name']}-{entry['scale']}")
    assert f"**Question.** {entry['question']}\n" in page
    assert f"**{entry['verdict']}.**" in page
    assert f"- machine: {entry['machine']}\n" in page
    assert ("> **Exploratory,**" in page) == ("exploratory" in entry)
    assert ("> **Mixed environments.**" in page) == ("mixed" in entry)
    seeds = re.search(r"^- Seeds: (.*)$", page, re.M)[1]
    assert len(seeds.split(", ")) == entry["seeds"]
    rows = [line.strip("| ").split(" | ") for line in page.splitlines()]
    for expected in entry["expectations"]:
        word = expected["verdict"]
        word = CHECKED[word].upper() if expected["claim"] == "check" else word
        told = [
            row[-1]
            for row in rows
            if (row[0], row[-2:-1]) == (expected["text"], [word])
        ]
        told = [page] if expected["claim"] == entries.OPEN else told
        assert told, expected["text"]
        for effect in expected["effects"]:
            assert any(re.search(shown(effect), here) for here in told), effect


def shown(effect):
    """Pattern of an effect as reports print it, older ones without plus in brackets."""
    mean, *ends = (f"{effect[name]:z.4g}" for name in ("mean", "low", "high"))
    low, high = (rf"\+?{re.escape(end)}" for end in ends)
    of = re.escape(f"{effect['of']}: ") if effect["of"].count(" minus ") else ""
    of = "" if effect["of"].startswith("other seeds") else of
    return (
        rf"{of}\+?{re.escape(mean)} \[{low}, {high}\], n = (\d+ and )?{effect['n']}\b"
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_report_has_a_figure_of_the_differences_in_its_table(name):
    rows = re.findall(
        r"^\| ([^|]+) \| \d+ \| [^|]+ \| (\S+), (\S+) to (\S+) \| [^|]+ \| ([^|]+) \|",
        plain(name),
        re.M,
    )
    if len(re.findall(r"^\| .* \| \d+/\d+ \(", plain(name), re.M)) == 1:  # one arm
        assert not rows
        return
    assert rows and f"]({name}.svg)" in plain(name)
    svg = html.unescape((PAGES / f"{name}.svg").read_text("utf-8")).replace("−", "-")
    texts = [text.strip() for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]
    for arm, mean, low, high, word in rows:
        at = texts.index(arm[:29] if len(arm) > 30 else arm)
        assert texts[at + 1] == f"{mean} [{low}, {high}]"
        assert texts[at + 2].split(",")[0] == word
    ticks = re.findall(r'anchor: middle[^>]* x="([\d.]+)"[^>]*>(-?[\d.]+)</text>', svg)
    for (x, label), (x_next, next_label) in itertools.pairwise(ticks):
        width = 2.5 * len(label + next_label)  # half of each, of 8.5 px a letter
        assert float(x_next) - float(x) > width, "labels touch"


@pytest.mark.parametrize("entry", LISTED, ids=NAMES)
def test_what_a_study_asks_and_its_source_reports_is_that_of_its_file(entry):
    module = importlib.import_module(f"experiments.studies.{entry['name']}")
    study = module.get_study(entry["scale"])
    assert len(study.arms) == entry["arms"]
    seeds = len(study.seeds)
    assert entry["seeds"] >= seeds if "looks" in entry else entry["seeds"] == seeds
    asked = {
        (e.text, e.kind, e.metric or study.metric, e.arms): e for e in study.expect
    }
    kept = [e for e in entry["expectations"] if e["claim"] != entries.OPEN]
    assert len(asked) == len(kept) == len(study.expect)
    for expected in kept:
        (one,) = (
            e
            for (text, kind, metric, arms), e in asked.items()
            if (text, kind, metric)
            == (expected["text"], expected["kind"], expected["metric"])
            and (
                not expected["effects"]
                or kind not in ("better", "equivalent")
                or expected["effects"][0]["of"] == " minus ".join(arms)
            )
            and (kind != "within" or expected["effects"][0]["of"] == arms[0])
        )
        assert one.claim == expected["claim"]
        assert study.sesoi_of(one) == expected["sesoi"]
        numbers = [effect.get("reported") for effect in expected["effects"]]
        assert [n for n in numbers if n is not None] == pytest.approx(
            one.reported, rel=1e-3
        )


@pytest.mark.parametrize("entry", LISTED, ids=NAMES)
def test_the_runs_of_a_page_have_what_their_arms_set_now(entry):
    module = importlib.import_module(f"experiments.studies.{entry['name']}")
    study = module.get_study(entry["scale"])
    page = PAGES / f"{entry['name']}-{entry['scale']}.md"
    lines = [line for line in page.read_text("utf-8").splitlines() if "=runs/" in line]
    commands = [shlex.split(x) for x in lines if x.startswith("python -m tfm_jax.main")]
    for arm, settings in study.arms.items():
        runs = re.compile(rf"--workdir=runs/studies/{page.stem}/{re.escape(arm)}-[^/]*")
        own = [words for words in commands if any(map(runs.fullmatch, words))]
        assert own or not commands or study.first
        stages = ("config", "first")
        knobs = {k: v for k, v in settings.items() if k.split(".")[0] not in stages}
        assert all({*cells.flags(knobs)} <= {*words} for words in own[:1])


@pytest.mark.parametrize("entry", LISTED, ids=NAMES)
def test_what_was_reproduced_lies_where_it_should(entry):
    for row in forest.rows(entry, ENGLISH):
        low, mean, high = row.effect
        assert low <= mean <= high
        inside = row.target and row.target[0] <= low and high <= row.target[1] + 1e-9
        if row.word == "reproduced":
            assert inside, row
        elif row.word == "cannot tell" and row.target:
            assert not inside, row


def entry_of(goal, expectation, values, sesoi=0.1):
    """The entry of a study of one expectation; values: arm -> one a seed."""
    from tests.experiments.statistics.test_verdicts import study

    made = study(
        arms={arm: {} for arm in values},
        baseline=next(iter(values)),
        seeds=(0, 1, 2),
        goal=goal,
        sesoi=sesoi,
        expect=(expectation,),
    )
    of_seeds = {arm: dict(enumerate(v)) for arm, v in values.items()}
    bounds = [expectation.low, expectation.high]
    judged = {
        "text": expectation.text,
        "claim": expectation.claim,
        "kind": expectation.kind,
        "metric": expectation.metric or made.metric,
        "goal": goal,
        "sesoi": made.sesoi_of(expectation),
        "bounds": bounds if expectation.kind == "within" else [],
        "reported": list(expectation.reported),
        "seen": [],
        "detectable": "",
    } | findings.judge(expectation, of_seeds, made)
    return entries.of_report(MADE | {"expectations": [judged]})


LOW, HIGH, MIDDLE = (1.0, 1.01, 1.02), (2.0, 2.02, 2.01), (1.5, 1.51, 1.5)


@pytest.mark.parametrize("goal, good", [("min", LOW), ("max", HIGH)])
def test_right_is_as_published_whatever_is_good(goal, good):
    bad = HIGH if good is LOW else LOW
    for arms, right in (({"a": good, "b": bad}, 1), ({"a": bad, "b": good}, -1)):
        sign = 1 if goal == "max" else -1
        claim = reported(better("a", "b", "a is better"), sign * 0.5)
        (row,) = forest.rows(entry_of(goal, claim, arms), ENGLISH)
        assert row.effect[1] == pytest.approx(10 * right, rel=0.02)
        assert row.reported == pytest.approx(5)
        assert (row.word == "reproduced") == (right == 1)


def test_steps_have_a_row_and_a_verdict_each():
    claim = monotone(("a", "b", "c"), "each is better")
    entry = entry_of("max", claim, {"a": LOW, "b": HIGH, "c": MIDDLE})
    rows = forest.rows(entry, ENGLISH)
    assert [row.word for row in rows] == ["reproduced", "not reproduced"]
    assert [row.text for row in rows] == ["each is better: b − a", "c − b"]
    assert entry["verdict"] == "NOT REPRODUCED"
    assert "c − b: " in readme.decisive_effects(entry, ENGLISH)


def test_earlier_results_are_in_brackets_and_do_not_count():
    entry = entry_of("min", better("a", "b", "a is better"), {"a": LOW, "b": HIGH})
    earlier = entry | {"name": "heads", "scale": "cpu"}
    answer = earlier | {"scale": ANSWERED["heads"].split(":")[1]}
    (row,) = forest.rows(earlier, ENGLISH)
    assert row.word == "(reproduced)"
    both = [earlier, answer]
    assert forest.reproduced(entries.answering(both), ENGLISH) == (1, 1)
    assert forest.reproduced(both, ENGLISH) == (2, 2)


@pytest.mark.parametrize("sesoi, said", [(0.1, False), (3.0, True)])
def test_what_is_found_but_too_small_to_matter_says_so(sesoi, said):
    claim, values = better("a", "b", "a is better"), {"a": LOW, "b": HIGH}
    entry = entry_of("min", claim, values, sesoi)
    assert entry["verdict"] == "REPRODUCED"
    told = readme.decisive_effects(entry, ENGLISH)
    assert told.endswith("below ±3, the smallest of interest") == said


def test_what_is_said_of_two_scores_or_arms_has_their_names():
    entry = entry_of("min", better("a", "b", "a is better"), {"a": LOW, "b": HIGH})
    (one,) = entry["expectations"]
    two = [one, one | {"metric": "valid/frechet"}]
    rows = forest.rows(entry | {"expectations": two}, ENGLISH)
    assert [row.text for row in rows] == ["a is better, nll", "a is better, frechet"]
    rows = forest.rows(entry | {"expectations": [one, one]}, ENGLISH)
    assert [row.text for row in rows] == ["a is better: a − b"] * 2


def test_equal_arms_and_levels_lie_between_their_bounds():
    equal = equivalent("a", "b", "equal")
    (row,) = forest.rows(entry_of("min", equal, {"a": LOW, "b": LOW}), ENGLISH)
    assert row.target == (-1, 1) and row.effect == (0, 0, 0)
    level = reported(within("a", 0.5, 1.5, "about one"), 1.25)
    (row,) = forest.rows(entry_of("min", level, {"a": LOW, "b": LOW}), ENGLISH)
    assert row.target == (-1, 1) and row.reported == 0.5
    assert row.effect[1] == pytest.approx(0.02)


def test_without_an_effect_of_interest_the_interval_is_the_unit():
    claim = on("valid/other", better("a", "b", "a is better"), "min")
    values = {"a": LOW, "b": (2.0, 2.3, 2.1)}
    (row,) = forest.rows(entry_of("min", claim, values), ENGLISH)
    assert row.own_unit and row.effect[2] - row.effect[0] == pytest.approx(2)


@pytest.mark.parametrize("entry", LISTED, ids=NAMES)
def test_numbers_of_the_table_are_rounded_and_no_more(entry):
    """Of an interval that has no width all digits are told that there are."""
    effects = [effect for _, effect in entries.decisive(entry)]
    told = readme.decisive_effects(entry, ENGLISH).replace("\u2212", "-")
    shown = re.findall(r": (\S+) \[(\S+), (\S+)\]", told)
    for effect, numbers in zip(effects, shown, strict=True):
        check_digits(effect, numbers)


def check_digits(effect, numbers):
    mean, low, high = numbers
    there = max(len(str(effect[n]).partition(".")[2]) for n in ("mean", "low", "high"))
    for shown, name in ((mean, "mean"), (low, "low"), (high, "high")):
        digits = len(shown.partition(".")[2])
        assert digits <= there
        significant = math.floor(math.log10(abs(effect[name]))) if effect[name] else 0
        assert digits < entries.DIGITS - significant, "digits that nobody has kept"
        assert float(shown) == pytest.approx(round(effect[name], digits))
    if effect["low"] == effect["high"]:
        assert float(low) == float(high) == effect["low"]


def test_verdicts_are_in_the_words_of_today():
    """As seed_noise was reported when what holds was called REPRODUCED."""
    old = example(arms=["run"], tuned=False) | {"verdict": "REPRODUCED"}
    judged = {field: "" for field in ("text", "kind", "metric", "goal", "sesoi")}
    judged |= dict(claim="check", verdict="REPRODUCED", detail="n = 5")
    judged |= dict.fromkeys(("bounds", "effects", "seen", "reported"), [])
    entry = entries.of_report(old | {"expectations": [judged]})
    assert (
        entry["verdict"] == "HOLDS" and readme.decisive_effects(entry, ENGLISH) == "–"
    )


def judged_as(text, claim, verdict, *effects):
    fields = dict(text=text, claim=claim, verdict=verdict, detail="", kind="better")
    fields |= dict(metric="valid/nll", goal="min", sesoi=0.1, bounds=[], seen=[])
    of = dict(verdict=verdict, mean=-1.0, low=-1.5, high=-0.5, n=5)
    return fields | dict(effects=[of | {"of": x} for x in effects], reported=[])


def test_the_effect_that_decides_is_the_one_that_is_shown():
    """Not that of a check, where a question is open, nor another one, where none is."""
    check = judged_as("it learns", "check", "REPRODUCED", "sinusoidal minus none")
    entry = entries.of_report(MADE | {"expectations": [check]})
    assert entry["verdict"] == "BETTER"
    assert "relative − sinusoidal: " in readme.decisive_effects(entry, ENGLISH)
    (row,) = forest.rows(entry, ENGLISH)
    assert row.text == "relative − sinusoidal" and row.word == "better"
    good = judged_as("a beats b", "published", "REPRODUCED", "a minus b")
    lost = judged_as("c beats b", "published", "NOT REPRODUCED")  # it diverged
    entry = entries.of_report(MADE | {"expectations": [good, lost]})
    assert entry["verdict"] == "NOT REPRODUCED"
    assert readme.decisive_effects(entry, ENGLISH) == "–"


@pytest.mark.parametrize("words", LANGUAGES, ids=lambda words: words.language)
def test_rows_of_one_question_say_it_once(words):
    told, above = {}, ""
    for row in re.findall(r"^\| \[.*", readme.page(LISTED, words), re.M):
        link, asked, *_ = row.split(" | ")
        assert asked != above
        above = above if asked == "〃" else asked
        told[re.search(r"studies/(.*)\.md", link)[1]] = above
    asked = (markdown(words.asked(entry)) for entry in LISTED)
    assert told == dict(zip(NAMES, asked, strict=True))


@pytest.mark.parametrize("kind", ["equivalent", "steady"])
def test_margin_of_arms_that_should_be_equal_stands_beside_the_effect(kind):
    """Also of one that excludes zero, of which these runs cannot tell."""
    judged = judged_as("alike", "published", "UNDERPOWERED", "a minus b")
    judged |= dict(kind=kind, seen=[0.2])
    entry = entries.of_report(MADE | {"expectations": [judged]})
    said = readme.decisive_effects(entry, ENGLISH)
    assert said.endswith("; expected −0.1 to 0.1; smallest detectable ±0.2")


def test_checks_alone_have_no_row_of_effects():
    """What a study checks is not what somebody has published."""
    check = judged_as("it learns", "check", "REPRODUCED", "sinusoidal")
    report = example(["sinusoidal"], tuned=False) | {"expectations": [check]}
    entry = entries.of_report(report)
    assert entry["verdict"] == "HOLDS" and not forest.rows(entry, ENGLISH)


def test_where_all_checks_hold_all_of_them_decide():
    """What one arm can do and the other cannot, say."""
    one = judged_as("it learns", "check", "REPRODUCED", "relative")
    other = judged_as("it does not", "check", "REPRODUCED", "sinusoidal")
    report = example(["sinusoidal", "relative"], tuned=False)
    entry = entries.of_report(report | {"expectations": [one, other]})
    said = readme.decisive_effects(entry, ENGLISH)
    assert "relative: " in said and "sinusoidal: " in said
