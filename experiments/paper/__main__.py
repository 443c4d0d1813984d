"""One question in depth: runs its studies, then writes the page with its figures.

    python -m experiments.paper [--out=runs/studies] [write]

Runs that are there are not made again; ``write`` makes none, and takes the reports that
are in ``--out``. Without reports there, too, page and figures are written anew from the
numbers in ``docs/studies/paper.json``.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import experiments.run
from experiments.paper import figures, numbers
from experiments.plan import ROOT
from experiments.report.numbers import MINUS
from experiments.report.page import put, rendered
from experiments.report.text import markdown
from experiments.studies import warmup
from tfm_jax import api
from tfm_jax.api import say

STUDY = warmup.get_study("depth")
STUDIES = ("warmup:depth", "norm_gradients")
DOCS = Path(__file__).parents[2] / "docs"


def page(taken: Mapping[str, Any]) -> str:
    """The paper."""
    arms = {(a["norm"], a["warmup"], a["layers"]): a for a in taken["arms"]}
    gains = {(g["norm"], g["layers"]): g for g in taken["gains"]}
    view = {
        "numbers": taken,
        "arms": arms,
        "gains": gains,
        "cfg": api.read_command([f"--config={STUDY.config}"]).experiment,
        "norms": [("post", "Post-LN"), ("pre", "Pre-LN")],
        "shown": shown,
        "rate": "{:g}".format,
    }
    return rendered("paper/paper.md.jinja", markdown, view)


def shown(effect: Mapping[str, Any], *, sign: bool = False) -> str:
    """Mean and 95 % interval, with three decimals."""
    plus = "+" if sign else ""
    mean, low, high = (
        f"{effect[end]:{plus}.3f}".replace("-", MINUS)
        for end in ("mean", "low", "high")
    )
    return f"{mean} ({low} to {high})"


def main() -> None:
    """Runs what is missing, and writes numbers, page and figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", nargs="?", choices=("run", "write"), default="run")
    parser.add_argument("--out", type=Path, default=ROOT)
    options = parser.parse_args()
    if options.command == "run":
        for study in STUDIES:
            experiments.run.main([study, f"--out={options.out}"])
    names = (
        f"{study.replace(':', '-')}{'' if ':' in study else '-cpu'}"
        for study in STUDIES
    )
    reports = [options.out / name / "report.json" for name in names]
    if all(path.is_file() for path in reports):
        made = numbers.of_reports(*(json.loads(p.read_text("utf-8")) for p in reports))
        put(numbers.FILE, json.dumps(made, indent=1) + "\n")
    taken = numbers.read()
    put(DOCS / "paper.md", page(taken))
    for name, figure in figures.draw(taken).items():
        put(numbers.FILE.with_name(name), figure)
    say(DOCS / "paper.md")


if __name__ == "__main__":
    main()
