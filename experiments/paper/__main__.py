"""One question in depth: runs its studies, then writes the page with its figures.

    python -m experiments.paper [--out=runs/studies] [plan | write]

Runs that are there are not made again; ``plan`` says which are missing, and ``write``
makes none. The reports are then taken into ``docs/studies``, as ``experiments.readme``
does. Where ``--out`` lacks them, ``write`` makes page and figures anew from the numbers
in ``docs/studies/paper.json``.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import experiments.run
from experiments import readme
from experiments.overview import entries
from experiments.paper import claims, figures, numbers
from experiments.plan import ROOT
from experiments.report.numbers import MINUS
from experiments.report.page import put, rendered
from experiments.report.text import markdown
from experiments.studies import warmup
from tfm_jax import api
from tfm_jax.api import exits, install, say

STUDY = warmup.get_study("depth")
TEMPLATE = "paper/paper.md.jinja"
DOCS = Path(__file__).parents[2] / "docs"


def page(taken: Mapping[str, Any]) -> str:
    """The paper."""
    seeds = taken["seeds"]
    view = {
        "taken": taken,
        "arms": {(a["norm"], a["warmup"], a["layers"]): a for a in taken["arms"]},
        "lost": {(x["norm"], x["layers"]): x for x in taken["lost"]},
        "deeper": {(x["norm"], *x["layers"]): x for x in taken["deeper"]},
        "cfg": api.read_command([f"--config={STUDY.config}"]).experiment,
        "norms": [(norm, figures.TITLES[norm]) for norm in numbers.NORMS],
        "depths": numbers.DEPTHS,
        "level": lambda effect: shown(effect, seeds),
        "difference": lambda effect: shown(effect, seeds, sign="+"),
        "number": "{:g}".format,
    }
    return rendered(TEMPLATE, markdown, view)


def shown(effect: Mapping[str, Any], seeds: int, sign: str = "") -> str:
    """Mean and 95 % interval, and of how many seeds where some were lost."""
    mean, low, high = (
        f"{effect[end]:{sign}.3f}".replace("-", MINUS)
        for end in ("mean", "low", "high")
    )
    lost = "" if effect["n"] == seeds else f"; {effect['n']} of {seeds} seeds"
    return f"{mean} ({low} to {high}{lost})"


@exits.command("experiments.paper")
def main(argv: list[str]) -> int:
    """Runs what is missing, and writes reports, numbers, page and figures."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command", nargs="?", choices=("plan", "run", "write"), default="run"
    )
    parser.add_argument("--out", type=Path, default=ROOT)
    options = parser.parse_args(argv)
    for study in numbers.STUDIES if options.command != "write" else ():
        asked = [study, options.command, f"--out={options.out}"]
        if code := experiments.run.main(asked):
            return code
    if options.command == "plan":
        return exits.OK
    there = entries.reports(options.out)
    wanted = [study.replace(":", "-") for study in numbers.STUDIES]
    if missing := [folder for folder in wanted if folder not in there]:
        say(
            f"--out={options.out} has no report of {' and '.join(missing)}: "
            f"the page is written from {numbers.FILE}"
        )
    else:
        reports = {folder: there[folder] for folder in wanted}
        made = numbers.of_reports(*reports.values())
        if wrong := claims.broken(made):
            raise api.ConfigError(
                f"--out={options.out}: {TEMPLATE} says what these reports do not bear, "
                f"and has to be written anew: {'; '.join(wrong)}"
            )
        readme.take_in(options.out, reports)
        put(numbers.FILE, json.dumps(made, indent=1) + "\n")
    taken = numbers.read(numbers.FILE)
    put(DOCS / "paper.md", page(taken))
    for name, figure in figures.draw(taken).items():
        put(numbers.FILE.with_name(name), figure)
    say(DOCS / "paper.md")
    return exits.OK


if __name__ == "__main__":
    exits.end_when_asked("experiments.paper: stopped; the same command goes on")
    install()
    sys.exit(main(sys.argv[1:]))
