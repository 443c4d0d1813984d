"""Explanations of what was not reproduced: what they rest on, and their numbers."""

import re

import pytest

from experiments import readme
from experiments.overview import entries
from experiments.overview.explanations import ANSWERED, EXPLANATIONS
from experiments.overview.words import LANGUAGES
from experiments.report.text import markdown
from tests.experiments.test_overview import LISTED, PAGES, plain
from tests.test_figures import agrees

DECIMAL = re.compile(r"\d+\.\d+")
# (explanation, number): what it is the difference of
DIFFERENCES = {
    ("pretraining:gpt1", "0.08"): ("0.710", "0.632"),
    ("patch_size:longer", "0.086"): ("0.9798", "0.8936"),
    ("sentence_objective", "97.6"): ("0.4779", "-0.4977"),
}


def test_every_explanation_is_of_a_result_and_rests_on_something_else():
    """On another result, or on an arm that the findings at issue do not compare."""
    listed = {entries.name_of(entry): entry for entry in LISTED}
    for name, why in EXPLANATIONS.items():
        entry = listed[name]
        assert entry["verdict"] != "REPRODUCED"
        assert (name in why.evidence) == bool(why.arm)
        if why.arm:
            page = plain(f"{entry['name']}-{entry['scale']}")
            assert f"\n| {why.arm} | " in page.replace("\\", "")
            at_issue = [
                effect["of"]
                for expected in entry["expectations"]
                if expected["claim"] == "published"
                and expected["verdict"] != "REPRODUCED"
                for effect in expected["effects"]
            ]
            assert at_issue
            assert not any(why.arm in of.split(" minus ") for of in at_issue)
        assert why.english.count(". ") == why.korean.count(". ") == 1
        for shown in why.evidence:
            assert shown in listed or (PAGES.parent / shown).is_file()


def page_of(name):
    """Text of what an explanation names as evidence, or of the study explained."""
    if name.endswith(".md"):
        return (PAGES.parent / name).read_text("utf-8").replace("−", "-")
    study, _, scale = name.partition(":")
    return plain(f"{study}-{scale or 'cpu'}")


@pytest.mark.parametrize("name", EXPLANATIONS)
def test_numbers_of_an_explanation_are_those_of_its_evidence(name):
    """As they are, or in per cent; both languages have the same."""
    why = EXPLANATIONS[name]
    told = DECIMAL.findall(why.english)
    assert sorted(told) == sorted(DECIMAL.findall(why.korean))
    exact = {
        n for page in (name, *why.evidence) for n in DECIMAL.findall(page_of(page))
    }
    for number in told:
        if found := DIFFERENCES.get((name, number)):
            assert {x.removeprefix("-") for x in found} <= exact
            known = [float(found[0]) - float(found[1])]
        else:
            known = map(float, exact)
        assert any(agrees(number, x) or agrees(number, 100 * x) for x in known), number


def test_what_answers_is_there_and_so_is_what_it_answers_for():
    listed = {entries.name_of(entry) for entry in LISTED}
    assert {*ANSWERED, *ANSWERED.values()} <= listed
    assert not {*ANSWERED} & {*ANSWERED.values()}
    for earlier, answer in ANSWERED.items():
        assert earlier.split(":")[0] == answer.split(":")[0]


@pytest.mark.parametrize("words", LANGUAGES, ids=lambda words: words.language)
def test_an_explanation_names_the_arm_that_it_rests_on(words):
    lines = readme.page(LISTED, words).splitlines()
    for name, why in EXPLANATIONS.items():
        (line,) = (x for x in lines if x.startswith(f"- [{markdown(name)}]("))
        arm = markdown(words.arm.format(why.arm))
        assert line.count(f"[{arm}](") == bool(why.arm)
