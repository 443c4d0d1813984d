"""The table of all studies, written from their reports.

    python -m experiments.readme [--out=runs/studies]

Writes ``experiments/README.md`` and copies each study's ``report.md`` to
``docs/studies``. Every study that has a report is listed, whatever came out; the row
of one whose report is not here stays as it is.
"""

import argparse
import importlib
import inspect
import json
import pkgutil
import re
import shutil
from collections.abc import Collection
from pathlib import Path

import jinja2

from experiments import studies
from experiments.plan import ROOT
from experiments.report.text import markdown
from experiments.statistics.answers import CHECKED, VERDICTS, headline
from tfm_jax.api import say

HERE = Path(__file__).parent
PAGES = HERE.parent / "docs" / "studies"
TEMPLATE = """\
# Studies

One question, one file in `studies/`, one command:

```bash
python -m experiments.run positions
```

It plans, runs what is missing, and leaves `report.html` in `runs/studies`. The verdict
is the least flattering of those on the published findings that the study expects; of a
study that expects none, it says what was found. What a study checks besides must hold.

| verdict | |
|---|---|
{% for verdict, meaning in verdicts.items() -%}
| {{ verdict }} | {{ meaning }} |
{% endfor %}
Small scales show a method, and say so where they cannot show an effect. Hours are those
of all runs, added up, beside whatever else the machine did: no measure of cost.

| study | question | arms, seeds | verdict | what came out | hours | machine |
|---|---|---|---|---|---|---|
{% for row in rows -%}
{{ row }}
{% endfor %}
{%- if waiting %}
Not run yet at any scale:

{% for name, question in waiting -%}
- `{{ name }}`: {{ question|md }}
{% endfor %}
{%- endif %}
Scales are written behind a colon, `pretraining:albert`; a study's file names its own.
This page is written by `python -m experiments.readme`.
"""
ROW = """\
| [{{ name|md }}:{{ scale|md }}]({{ page }}) | {{ question|md }} \
| {{ arms|length }}, {{ seeds|length }} | {{ verdict }} | {{ came_out|md }} \
| {{ "%.2f"|format(hours) }} | {{ environment.machine|md }} |"""
_PAGE = re.compile(r"\| \[.*?\]\((\S+/)?(\w+)-(\w+)\.md\) \|")  # of a row: study, scale


def reports(out: Path) -> list[dict]:
    """The reports below ``out``, by name; ``hours`` are those of all processes."""
    listed = []
    for path in sorted(out.glob("*/report.json")):
        report = json.loads(path.read_text("utf-8"))
        report["hours"] = sum(run["seconds"] or 0 for run in report["runs"]) / 3600
        expected = report["expectations"]
        report["verdict"], answer = headline(report)  # in the words of today
        published = any(e.get("claim", "published") == "published" for e in expected)
        report["came_out"] = "; ".join(map(_said, expected)) if published else answer
        report["page"] = f"../docs/studies/{path.parent.name}.md"
        listed.append(report)
    return listed


def _said(expectation):
    word = expectation["verdict"].lower()
    if expectation.get("claim") == "check":  # reports of before have none
        word = f"check {CHECKED[expectation['verdict']]}"
    could = expectation.get("detectable")  # nor this
    detail = "; ".join(filter(None, (expectation["detail"], could)))
    return f"{word}: {expectation['text']} ({detail})"


def table(page: str) -> dict[tuple[str, str], str]:
    """(study, scale) -> its row, of a page that was written before."""
    matches = ((_PAGE.match(line), line) for line in page.splitlines())
    return {(match[2], match[3]): line for match, line in matches if match}


def waiting(reported: Collection[str]) -> list[tuple[str, str]]:
    """(name, question) of every study without a report."""
    names = [module.name for module in pkgutil.iter_modules(studies.__path__)]
    docs = {
        name: inspect.getdoc(importlib.import_module(f"{studies.__name__}.{name}"))
        for name in names
        if name not in reported
    }
    return [
        (name, " ".join(doc.split("\n\n")[0].split())) for name, doc in docs.items()
    ]


def main() -> None:
    """Writes the page and copies the reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT)
    out = parser.parse_args().out
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    environment.filters["md"] = markdown
    readme, row = HERE / "README.md", environment.from_string(ROW)
    rows = table(readme.read_text("utf-8"))
    rows |= {(r["name"], r["scale"]): row.render(r) for r in reports(out)}
    page = environment.from_string(TEMPLATE).render(
        rows=[rows[study] for study in sorted(rows)],
        verdicts=VERDICTS,
        waiting=waiting({name for name, _ in rows}),
    )
    readme.write_text(page + "\n", encoding="utf-8")
    PAGES.mkdir(parents=True, exist_ok=True)
    for path in out.glob("*/report.md"):
        shutil.copy(path, PAGES / f"{path.parent.name}.md")
    say(readme)


if __name__ == "__main__":
    main()
