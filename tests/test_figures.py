"""Every figure of README and guides has one source, a page that is committed."""

import re
from pathlib import Path

import pytest

from tests.pages import GUIDES, KOREAN

ROOT = Path(__file__).resolve().parents[1]
BOTH = ("README.md", "README.ko.md")
DATA = ("docs/data.md", "docs/guide.ko.md")
FINETUNE = ("docs/finetune.md", "docs/guide.ko.md")
SOURCES = [
    "docs/multi30k.md",
    "docs/shakespeare.md",
    "docs/pretraining.md",
    "docs/digits.md",
    "docs/references.md",
    "docs/scale.md",
    "docs/mechanisms.md",
    "docs/paper.md",
]
NUMBER = r"[+-]?\d[\d,]*(?:\.\d+)?"
DECIMAL = r"-?\d+\.\d+"
GAP = r"[^.\d-]*"


def page(name):
    """Text of a page with one kind of minus and of blanks."""
    text = (ROOT / name).read_text("utf-8").replace("−", "-")
    return re.sub(r"[ \u00a0]+", " ", text)


def study(name):
    """Arm -> (mean, difference, low, high, verdict) of the first table of a report."""
    table = page(f"docs/studies/{name}.md").split("\n| Arm | n | ")[1].split("\n\n")[0]
    cells = re.findall(r"^\| (\w+) \| \d+ \| (-?\d.*)$", table, re.M)
    arms = {}
    for arm, rest in cells:
        mean, difference, _, verdict = rest.split(" | ")[:4]
        numbers = tuple(map(float, re.findall(NUMBER, difference)))
        arms[arm] = float(mean), *(numbers or (0.0, 0.0, 0.0)), verdict
    assert arms, name
    return arms


def cell(name, row, column=1):
    """A number of a table, by what its row begins with."""
    (line,) = re.findall(rf"^\| \**{re.escape(row)}.*$", page(name), re.M)
    return float(re.findall(NUMBER, line.split(" | ")[column])[-1])


def gain(family):
    """What pre-training gains: (difference, low, high)."""
    return study(f"pretraining-{family}")["pretrained"][1:4]


def speed(row):
    return float(
        re.findall(NUMBER, re.findall(rf"^\| {row}.*$", BENCHMARKS, re.M)[0])[-3]
    )


BENCHMARKS = page("benchmarks/README.md")
SHAKESPEARE = cell("docs/shakespeare.md", "this project, 4e-3")
PUBLISHED_RATE = cell("docs/shakespeare.md", "this project, 1e-3, seeds")
MULTI30K = cell("docs/multi30k.md", "BLEU, lower-cased and tokenised")
MULTI30K_PUBLISHED = float(
    re.search(rf"The published model.*?is at ({NUMBER})", page("docs/multi30k.md"))[1]
)
# bfloat16 over float32, by their ratios to the same opponent
BFLOAT16 = speed("the same, bfloat16, against torch in float32") / speed(
    "training, characters of Shakespeare, float32, against torch "
)
TIMES = {
    command: re.search(rf"`make {command}`.*?(\d+) min (\d+) s", BENCHMARKS, re.S)
    for command in ("quickstart", "train")
}


def times(command):
    return [float(number) for number in TIMES[command].groups()]


MECHANISMS = re.findall(r"\(studies/mechanisms-(\w+)\.md\)", page("docs/mechanisms.md"))

# (pages, pattern with a group for each number, the numbers of the source)
FIGURES = {
    "quickstart": (("README.md",), r"took (\d+) min (\d+) s from", times("quickstart")),
    "quickstart, ko": (
        ("README.ko.md",),
        r"포함해 (\d+)분 (\d+)초가",
        times("quickstart"),
    ),
    "train": (("docs/start.md",), r"after (\d+) min (\d+) s on", times("train")),
    "train, ko": (("docs/guide.ko.md",), r"빼고\) (\d+)분 (\d+)초가", times("train")),
    "multi30k": (DATA, rf"({NUMBER}) ?BLEU", [MULTI30K]),
    "multi30k, published": (DATA, rf"({DECIMAL})(?:\)|입니다)", [MULTI30K_PUBLISHED]),
    "shakespeare": (DATA, rf"({NUMBER}) ?(?:nats|nat)", [SHAKESPEARE]),
    "shakespeare, header": (
        ("configs/shakespeare_char.py",),
        rf"here ({NUMBER}), and ({NUMBER})",
        [SHAKESPEARE, PUBLISHED_RATE],
    ),
    "bfloat16": (
        ("docs/devices.md", "docs/shakespeare.md", "configs/shakespeare_char.py")
        + ("benchmarks/README.md",),
        rf"({NUMBER})\s+times (?:as\s+fast|the speed)",
        [BFLOAT16],
    ),
    "bfloat16, ko": (("docs/guide.ko.md",), rf"({NUMBER})배 속도", [BFLOAT16]),
    "pretraining": (
        FINETUNE,
        rf"({NUMBER}) ?\(BERT\), ({NUMBER}) ?\(ALBERT",
        [gain("bert")[0], gain("albert")[0]],
    ),
    "pretraining, ELECTRA": (
        FINETUNE, rf"({NUMBER}) ?\(ALBERT, ELECTRA\)", [gain("electra")[0]]
    ),
    "pretraining, GPT-1": (
        FINETUNE,
        rf"GPT-1(?:, which|에서는)[^.]*?({DECIMAL}){GAP}({DECIMAL}){GAP}({DECIMAL})",
        gain("gpt1"),
    ),
    **{
        f"docs/pretraining, {family}": (
            ("docs/pretraining.md",),
            rf"\| {family.upper()} \| ({NUMBER}) \| ({NUMBER}) \| ({NUMBER}), "
            rf"({NUMBER}) to ({NUMBER}) \|",
            [
                study(f"pretraining-{family}")["untrained"][0],
                study(f"pretraining-{family}")["pretrained"][0],
                *gain(family),
            ],
        )
        for family in ("bert", "albert", "electra")
    },
    **{
        f"docs/mechanisms, {task}": (
            ("docs/mechanisms.md",),
            rf"mechanisms-{task}\.md\) \| ({NUMBER}) \| ({NUMBER}) \|",
            [study(f"mechanisms-{task}")[arm][0] for arm in ("has", "lacks")],
        )
        for task in MECHANISMS
    },
    "docs/pretraining, gpt1": (
        ("docs/pretraining.md",),
        rf"\| GPT-1, fifteen seeds \| ({NUMBER}) \| ({NUMBER}), ({NUMBER}) "
        rf"to ({NUMBER}) \|",
        [study("pretraining-gpt1")["untrained"][0], *gain("gpt1")],
    ),
}  # fmt: skip


def agrees(shown, exact):
    """Whether a number as written is ``exact``, rounded to its digits."""
    digits = len(shown.partition(".")[2])
    unit = 0.5 * 10.0**-digits
    return abs(float(shown.replace(",", "")) - exact) <= unit * (1 + 1e-9)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_that_of_its_source(name):
    pages, pattern, exact = FIGURES[name]
    for where in pages:
        shown = re.findall(pattern, page(where), re.S)
        assert shown, f"{where} has no {pattern}"
        for groups in shown:
            groups = (groups,) if isinstance(groups, str) else groups
            for one, other in zip(groups, exact, strict=True):
                assert agrees(one, other), f"{where}: {one}, the source has {other}"


@pytest.mark.parametrize("name", BOTH)
def test_the_table_of_the_quickstart_is_that_of_its_report(name):
    arms = study("positions-cpu")
    row = (
        rf"^(\w+) ({NUMBER}) "
        rf"(?:baseline|({NUMBER}) \[({NUMBER}), ({NUMBER})\] ([\w ]+))$"
    )
    shown = re.findall(row, page(name), re.M)
    assert [arm for arm, *_ in shown] == list(arms)
    for arm, mean, *difference, verdict in shown:
        exact = arms[arm]
        assert agrees(mean, exact[0])
        assert (verdict or "baseline") == exact[4]
        for one, other in zip(filter(None, difference), exact[1:4], strict=False):
            assert agrees(one, other), (arm, one, other)


@pytest.mark.parametrize("name", sorted({*BOTH, *GUIDES, KOREAN} - {*SOURCES}))
def test_no_figure_of_a_guide_is_without_a_source(name):
    """Decimals and durations in its prose; code, links and versions apart."""
    prose = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", " ", page(name), flags=re.S)
    prose = re.sub(r"Python 3\.11|Apache-2\.0", " ", prose)
    for pages, pattern, _ in FIGURES.values():
        if name in pages:
            prose = re.sub(pattern, " ", prose, flags=re.S)
    assert re.findall(r"\S*\d\.\d\S*|\d+ ?(?:min|s|분|초)\b", prose) == []
