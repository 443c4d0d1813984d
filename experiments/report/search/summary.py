"""The numbers of a search as rows of a table."""

from experiments.report import tables
from experiments.report.numbers import Shown, fixed

LOST = "all of so many trials may have diverged"
UNTUNED = "no learning rate has a range"
ORDER = {  # proposer -> what the best of so many trials is
    "sobol": "Best of so many trials: the mean over all subsets of an arm's trials "
    "(Tang et al. 2020).",
    "optuna": "Best of so many trials: of the first, as later ones follow from them.",
}
HOW = {  # proposer -> where trials come from
    "sobol": "quasi-random (scrambled Sobol), the same for every arm",
    "optuna": "the first quasi-random and the same for every arm, then proposed from "
    "its own results (Optuna)",
}


def described(report: dict) -> str:
    """What was tried for every arm."""
    search = report["search"]
    knobs = ", ".join(f"{k} {v['range']}" for k, v in search["knobs"].items())
    return f"{search['trials']} trials an arm, {HOW[search['proposer']]}: {knobs}"


def budgets(report: dict) -> list[int]:
    """Numbers of trials that have a column: 1, 2, 4, ... and all."""
    most = max((len(own["best"]) for own in arms(report).values()), default=0)
    return sorted({*(2**n for n in range(most.bit_length())), most} - {0})


def table(report: dict) -> list[dict]:
    """One row an arm whose tuning has ended, see ``statistics.search.analyse``."""
    rows, digits = [], tables.places(report)
    for arm in report["arms"]:
        if own := arms(report).get(arm["name"]):
            best = dict(enumerate(own["best"], 1))
            row = {
                "name": arm["name"],
                "chosen": tables.settings(arm["chosen"]),
                "edges": ", ".join(own["edges"]),
                "best": [
                    fixed(best.get(count), digits, LOST) for count in budgets(report)
                ],
                "lost": Shown(str(own["lost"]), own["lost"]),
                "sensitivity": fixed(own["sensitivity"], digits, UNTUNED),
            }
            rows.append(row)
    return rows


def arms(report: dict) -> dict[str, dict]:
    """Arms of a search whose tuning has ended; none of another study."""
    return report["search"]["arms"] if report["search"] else {}
