"""Page: the analysis of a study as HTML, Markdown and JSON, and where they lie."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from experiments.report import measured, plots, tables, text
from experiments.report.search import figures, summary
from experiments.report.terms import ENVIRONMENT, LOOKS, TERMS, WORDS
from experiments.statistics.answers import VERDICTS

UNTUNED = "Nothing was tuned: every arm ran with the settings of the study"
FIGURE = "differences.svg"  # of the arms, to which the Markdown links
ROLES = {"json": "report.json", "md": "report.md", "html": "report.html"}


def write(report: dict, directory: str | Path) -> Path:
    """Writes ``report.json``, ``report.md`` and ``report.html`` into ``directory``.

    The page is one file without scripts: it opens from disk, loads nothing, and prints.
    The Markdown has one figure, ``FIGURE``, if there is more than one arm.
    All text of ``report`` is escaped, and its control characters are made visible.

    Args: report: the analysis of a study, plain JSON without NaN.
    Returns: the path of the page.
    Raises: ValueError for a number that is not finite, before anything is written;
        jinja2.UndefinedError or KeyError for an analysis that lacks a field.
    Source: layout of the booktabs package (Fear 2020); content security policy of CSP
        Level 3, section 2.
    """
    numbers = json.dumps(report, indent=1, sort_keys=True, allow_nan=False)
    view = _view(report) | {"figures": plots.draw(report)}
    view["figure"] = FIGURE
    view["measured"] = measured.figures(report)
    view["searched"] = figures.draw(report)
    pages = {
        "json": numbers + "\n",
        "md": rendered("page.md.jinja", text.markdown, view),
        "html": rendered("page.html.jinja", text.html, view),
    }
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    drawn = view["figures"]["differences"]
    (directory / FIGURE).unlink(missing_ok=True)
    if drawn:
        put(directory / FIGURE, drawn.svg)
    for role, content in pages.items():
        put(directory / ROLES[role], content)
    return directory / ROLES["html"]


def put(path: Path, content: str) -> None:
    """Writes a file; a reader sees the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(content, encoding="utf-8")
    os.replace(temporary, path)


def rendered(template: str, printed: Callable, view: Mapping[str, Any]) -> str:
    """A template, of this folder or named from that of ``experiments`` on, filled in.

    Args: printed: what becomes of each value on its way into the page.
    """
    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([here, here.parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=printed,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(view)


def _view(report):
    rate = f" ({report['fixed_rate']})" if report["fixed_rate"] else ""
    expected = tables.findings(report)
    published = [e for e in expected if e["claim"] == "published"]
    return {
        "published": published,
        "checks": [e for e in expected if e not in published],
        "source_label": "Finding under test" if published else "Background",
        "r": report,
        "design": _design(report),
        "terms": {report["verdict"]: VERDICTS[report["verdict"]]}
        | TERMS
        | (LOOKS if report["looks"] else {})
        | WORDS,
        "goal": tables.goal(report),
        "good_sign": tables.good_sign(report),
        "headline": tables.headline(report),
        "solved": tables.solved(report),
        "details": tables.details(report),
        "detectable": tables.detectable(report),
        "power": f"{100 * report['detectable']['power']:.0f} %",
        "costs": tables.costs(report),
        "slopes": measured.slopes(report),
        "environment": {
            ENVIRONMENT.get(key, key): value
            for key, value in (report["environment"] | report["conditions"]).items()
        },
        "lost": any(arm["diverged"]["count"] for arm in report["arms"]),
        "tuning": tables.tuning(report),
        "order": report["search"] and summary.ORDER[report["search"]["proposer"]],
        "budgets": summary.budgets(report),
        "search": summary.table(report),
        "edges": [arm["name"] for arm in report["arms"] if arm["edge"]],
        "tuned_setting": tables.tuned_setting(report),
        "untuned": f"{UNTUNED}{rate}.",
        "runs": tables.runs(report),
        "shared": tables.settings(tables.shared(report)),
        "failures": [run for run in report["runs"] if run["error"]],
        "excluded": tables.excluded(report),
        "counted": tables.counted(report),
        "footnotes_of": tables.Footnotes,
        "lost_of": "without {} diverged".format,
        "fenced": text.fenced,
    }


def _looks(looks):
    """Rows of a group-sequential study."""
    planned, taken = looks["planned"], looks["taken"]
    after = ", ".join(map(str, planned))
    end = "more to come"
    if looks["decided"]:
        end = "ended, as all is decided"
    elif taken == len(planned):
        end = "ended undecided"
    spent = f"{looks['spent']:.2g} of 0.05, O'Brien-Fleming (Lan & DeMets 1983)"
    return [
        ("Looks planned", f"{len(planned)}, after {after} seeds"),
        ("Looks taken", f"{taken}; {end}"),
        ("Alpha spent", spent),
        ("Level of this look", f"{looks['nominal']:.2g}, of one two-sided test"),
    ]


def _design(report):
    def listed(seeds):
        return ", ".join(map(str, seeds)) or "none"

    noise = report["noise"]
    floor, identical = noise["other_seeds"], noise["identical"]
    digits = tables.places(report)
    rate = "tuned per arm" if report["tuning"] else "that of the configuration"
    if report["fixed_rate"]:
        rate = f"fixed, {report['fixed_rate']}"
    sesoi = f"±{report['sesoi']:g}" if report["sesoi"] else "not given"
    looks = _looks(report["looks"]) if report["looks"] else []
    rows = [
        ("Metric", f"{report['metric']}, {tables.goal(report)}"),
        ("Baseline", report["baseline"]),
        ("Arms matched by", report["match"]),
        ("Learning rate", rate),
        ("Seeds", listed(report["seeds"])),
        *looks,
        ("Seeds for tuning", listed(report["tune_seeds"])),
        ("Smallest effect of interest", sesoi),
        (
            "Identical run, repeated",
            "not measured" if identical is None else f"differs by {identical:g}",
        ),
    ]
    if report["search"]:
        rows.append(("Tuned over", summary.described(report)))
    if floor:
        mean, low, high = (
            tables.fixed(floor[k], digits, "", sign=True).text
            for k in ("mean", "low", "high")
        )
        rows.append(("Noise floor, other seeds", f"{mean} [{low}, {high}]"))
    return rows
