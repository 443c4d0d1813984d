"""What all studies have found, as tables and a picture, written from their reports.

    python -m experiments.readme [--out=runs/studies]

Writes ``docs/studies/results.json`` with the numbers of each study, and from it this
folder's ``README.md`` and ``README.ko.md`` and the forest plots in ``docs/studies``, to
which each ``report.md`` is copied, with a figure of its arms. Every study that has a
report is listed, whatever came out; of one whose report is not here the numbers stay as
they are.
"""

import argparse
import importlib
import inspect
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from markupsafe import Markup

from experiments import studies
from experiments.overview import entries, forest
from experiments.overview.questions import STUDIES
from experiments.overview.words import LANGUAGES, Words
from experiments.plan import ROOT
from experiments.report.numbers import MINUS, decimals, fixed
from experiments.report.page import FIGURE, ROLES, put, rendered
from experiments.report.text import markdown
from experiments.statistics.answers import CANNOT_TELL
from experiments.statistics.findings import UNDERPOWERED
from experiments.study import parts
from tfm_jax.api import ConfigError, exits, say

HERE = Path(__file__).parent
PAGES = entries.FILE.parent


def waiting(reported: Collection[str], words: Words) -> list[tuple[str, str]]:
    """(name, question) of every study without a report."""
    listed = []
    for name in STUDIES.keys() - {*reported}:
        module = importlib.import_module(f"{studies.__name__}.{name}")
        first = (inspect.getdoc(module) or "").split("\n\n")[0]
        entry = {"name": name, "question": " ".join(first.split())}
        listed.append((name, words.asked(entry)))
    return sorted(listed)


def page(listed: Sequence[Mapping], words: Words) -> str:
    """The page of one language."""
    answering = entries.answering(listed)
    counts = Counter(entry["verdict"] for entry in answering)
    told = [f"{words.verdicts[v][0]} {counts[v]}" for v in words.verdicts if counts[v]]
    named = {entry["name"] for entry in answering}
    tally = words.tally.format(len(answering), len(named), ", ".join(told))
    held = [sum(field in e for e in answering) for field in entries.RESERVATIONS]
    tally += f". {words.reservations.format(*held)}"
    if others := len(listed) - len(answering):
        tally += f". {words.kept.format(others)}"
    groups = [
        {
            "title": words.question(number),
            "rows": _without_repeats([_row(entry, words) for entry in group]),
        }
        for number, group in entries.grouped(listed)
    ]
    return rendered(
        words.template,
        markdown,
        {
            "words": words,
            "tally": tally,
            "counted": forest.reproduced(answering, words),
            "exploratory": forest.reproduced(
                (entry for entry in answering if "exploratory" in entry), words
            ),
            "all": forest.reproduced(listed, words),
            "groups": groups,
            "explained": [
                _explained(entry, why, words)
                for _, group in entries.grouped(listed)
                for entry in group
                if (why := entries.why(entry))
            ],
            "waiting": waiting({entry["name"] for entry in listed}, words),
        },
    )


def _row(entry, words):
    machine = entry["machine"].replace("(R)", "").replace(" Processor", "")
    verdict = words.verdicts[entry["verdict"]][0]
    if "exploratory" in entry:
        verdict = words.exploratory.format(verdict)
    if answer := entries.answered_by(entry):
        verdict = words.other.format(verdict, answer)
    return {
        "study": entries.name_of(entry),
        "page": _page(entries.name_of(entry)),
        "question": words.asked(entry),
        "verdict": verdict,
        "effect": decisive_effects(entry, words),
        "hours": f"{entry['hours']:.2f}",
        "machine": machine,
    }


def _without_repeats(rows):
    """A question that is that of the row above becomes a ditto mark."""
    above = ["", *(row["question"] for row in rows)]
    return [
        row | {"question": "〃"} if row["question"] == before else row
        for row, before in zip(rows, above, strict=False)
    ]


def _page(name):
    """Where a report is, or what else shows something, from this folder."""
    if not name.endswith(".md"):
        study, _, scale = name.partition(":")
        name = f"studies/{study}-{scale or 'cpu'}.md"
    return Markup(f"../docs/{name}")


def _explained(entry, why, words):
    own = entries.name_of(entry)
    return {
        "study": own,
        "page": _page(own),
        "text": getattr(why, words.language),
        "evidence": [
            (words.arm.format(why.arm) if name == own else name, _page(name))
            for name in why.evidence
        ],
    }


def decisive_effects(entry: Mapping, words: Words) -> str:
    """What decides an entry, against what was published; "–" if no effect does."""
    told = [_told(expected, x, words) for expected, x in entries.decisive(entry)]
    return " / ".join(told) or "–"


def _told(expected, effect, words):
    numbers = [effect[name] for name in ("mean", "low", "high")]
    digits, sign = _decimals(numbers), expected["kind"] != "within"
    mean, low, high = (fixed(number, digits, sign=sign).text for number in numbers)
    of = effect["of"].replace(" minus ", f" {MINUS} ")
    said = f"{_scores(expected['metric'])}, {of}: {mean} [{low}, {high}]"
    bounds = expected.get("bounds")
    margin = expected["sesoi"]
    if margin and expected["kind"] in ("equivalent", "steady"):
        bounds = -margin, margin
    if bounds:
        ends = (f"{bound:g}".replace("-", MINUS) for bound in bounds)
        said += f"; {words.expected.format(*ends)}"
    if expected["kind"] in ("better", "monotone") and max(map(abs, numbers)) < margin:
        said += f"; {words.small.format(f'{margin:g}')}"
    if "reported" in effect:
        published = f"{effect['reported']:{'+' * sign}.3g}".replace("-", MINUS)
        said += f"; {words.published.format(published)}"
    if "seen" in effect and effect["verdict"] in (UNDERPOWERED, CANNOT_TELL):
        seen = f"{effect['seen']:.2g}"
        two_sided = expected["kind"] in ("equivalent", "within", "steady")
        said += f"; {words.seen.format('±' * two_sided + seen)}"
    return said


def _decimals(numbers):
    """As many as the interval needs, no end of which becomes 0; at most those kept."""
    mean, low, high = numbers
    exact = [Decimal(str(x)).normalize() for x in numbers if x]
    there = max((-x.as_tuple().exponent for x in exact), default=0)
    kept = min((entries.DIGITS - 1 - x.adjusted() for x in exact), default=0)
    there = min(there, kept)
    digits = decimals([(high - low) / 2]) if high > low else there
    while digits < there and not all(round(x, digits) for x in (low, high) if x):
        digits += 1
    return max(min(digits, there), 0)


def _scores(metric):
    """A metric without the name of the validation data, or of what two scores share."""
    splits, names = zip(*(part.split("/") for part in parts(metric)), strict=True)
    if len(splits) == 1:
        return names[0] if splits[0] in ("valid", "probe") else metric
    return f"{names[0]}, {f' {MINUS} '.join(splits)}"


def updated(listed: Sequence[Mapping], reports: Iterable[Mapping]) -> list[Mapping]:
    """``listed`` with the entries of ``reports`` in place of older ones."""
    studies = {(entry["name"], entry["scale"]): entry for entry in listed}
    for report in reports:
        studies[report["name"], report["scale"]] = entries.of_report(report)
    return [studies[study] for study in sorted(studies)]


def files(directory: Path) -> dict[str, str]:
    """Name -> content of a report's page and, if it links one, of its figure.

    Raises: ConfigError if one of them is not there.
    """
    try:
        written = (directory / ROLES["md"]).read_text("utf-8")
        figure = f"{directory.name}.svg"
        page = written.replace(f"]({FIGURE})", f"]({figure})")
        contents = {f"{directory.name}.md": page}
        if page != written:
            contents[figure] = (directory / FIGURE).read_text("utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{directory} lacks {Path(error.filename).name}") from error
    return contents


def take_in(out: Path, reports: Mapping[str, Mapping]) -> None:
    """Copies reports, each in its folder of ``out``, and writes numbers and pages."""
    numbers = PAGES / entries.FILE.name
    listed = updated(entries.read(numbers), reports.values())
    copies = [files(out / folder) for folder in reports]
    pages = {HERE / words.page: page(listed, words) for words in LANGUAGES}
    figures = {PAGES / words.figure: forest.draw(listed, words) for words in LANGUAGES}
    entries.write(listed, numbers)
    for contents in copies:
        for name, content in contents.items():
            put(PAGES / name, content)
    for path, content in (pages | figures).items():
        put(path, content)
    say(HERE / "README.md")


@exits.command("experiments.readme")
def main(argv: Sequence[str]) -> int:
    """Takes in all reports of a folder."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.readme",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=ROOT)
    out = parser.parse_args(argv).out
    if not out.is_dir():
        raise ConfigError(f"--out={out} is no folder; it is where studies have run")
    reports = entries.reports(out)
    if not reports:
        say(f"no report of ours is taken in from {out}/STUDY-SCALE/report.json")
    take_in(out, reports)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
