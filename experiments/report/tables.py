"""The analysis dict as rows of printed numbers, for either template."""

import string
from collections import Counter
from typing import Any

from experiments.report.numbers import (
    Shown,
    absent,
    decimals,
    duration,
    fixed,
    memory,
    p_value,
    plain,
    quantity,
)
from experiments.statistics.answers import CHECKED
from experiments.statistics.stats import clopper_pearson

TOO_FEW = "fewer than three pairs, or a few of one difference: no interval and no test"


class Footnotes:
    """Letters for the reasons why numbers of one table are absent."""

    def __init__(self):
        self.letters: dict[str, str] = {}  # reason -> letter

    def mark(self, reason: str) -> str:
        """The letter of ``reason``; a new one if it was not seen before."""
        place = len(self.letters)
        letter = string.ascii_lowercase[place % 26] * (1 + place // 26)
        return self.letters.setdefault(reason, letter)


def goal(report: dict) -> str:
    """Which direction of the metric is good, in words."""
    return {"min": "lower is better", "max": "higher is better"}[report["goal"]]


def good_sign(report: dict) -> str:
    """Which sign of a difference is good, in words."""
    return {"min": "negative is better", "max": "positive is better"}[report["goal"]]


def places(report: dict) -> int:
    """Decimals for the metric, the same everywhere in one report."""
    arms = report["arms"]
    spreads = [(arm["difference"] or {}).get("sd") for arm in arms]
    return decimals(spreads + [arm["sd"] for arm in arms])


def findings(report: dict) -> list[dict]:
    """The expectations; a finding is reproduced or not, a check holds or fails."""
    return [
        {"detectable": ""}
        | e
        | {"word": CHECKED[verdict].upper() if e["claim"] == "check" else verdict}
        for e in report["expectations"]
        for verdict in [e["verdict"]]
    ]


def headline(report: dict) -> list[dict]:
    """One row an arm: the numbers a reader looks for first."""
    digits = places(report)
    return [
        _compared(arm, digits)
        | {
            "name": arm["name"],
            "word": arm["word"],
            "chosen": settings(arm["chosen"]),
            "edge": arm["edge"],
            "n": fixed(arm["n"], 0),
            "mean": fixed(arm["mean"], digits, _no_mean(arm)),
            "diverged": _share(arm["diverged"]),
        }
        for arm in report["arms"]
    ]


def costs(report: dict) -> list[dict]:
    """One row an arm: its size, and what a run of it took."""
    return [
        {
            "name": arm["name"],
            "parameters": quantity(arm["parameters"], "not counted"),
            "flops": quantity(arm["flops_per_step"], "not counted"),
            "tokens": quantity(arm["tokens"], "not counted"),
            "seconds": duration(arm["seconds"], "not recorded"),
            "memory": memory(arm["memory_bytes"], "not reported by this device"),
        }
        for arm in report["arms"]
    ]


def _compared(arm, digits):
    difference = arm["difference"]
    if difference is None:
        why = (
            "the baseline is what the others are compared with"
            if arm["word"] == "baseline"
            else "no finished pair with the baseline"
        )
        return dict.fromkeys(("difference", "low", "high", "p_holm"), absent(why))
    why = TOO_FEW if difference["low"] is None else "not computed"
    return {
        "difference": fixed(difference["mean"], digits, "no pair", sign=True),
        "low": fixed(difference["low_holm"], digits, why, sign=True),
        "high": fixed(difference["high_holm"], digits, why, sign=True),
        "p_holm": p_value(difference["p_holm"], why),
    }


def _no_mean(arm):
    lost = arm["diverged"]
    gone = lost["n"] and lost["count"] == lost["n"]
    return "every run diverged" if gone else "no finished run"


def _share(rate):
    if not rate["n"]:
        return absent("no run has ended")
    low, high = (f"{100 * rate[end]:.0f}" for end in ("low", "high"))
    return Shown(f"{rate['count']}/{rate['n']} ({low}–{high} %)", rate["count"])


def solved(report: dict) -> list[dict]:
    """One row an arm: how many runs solve the task, and each run; [] if none is one."""
    if report["solved"] is None:
        return []
    sign, digits = (1 if report["goal"] == "max" else -1), places(report)
    rows = []
    for arm in report["arms"]:
        ended = sorted(v for v in arm["values"].values() if v is not None)
        count = sum(sign * (v - report["solved"]) >= 0 for v in ended)
        n = len(arm["values"])
        low, high = clopper_pearson(count, n)
        rate = {"count": count, "n": n, "low": low, "high": high}
        each = [fixed(value, digits).text for value in ended]
        some = 0 < count < n
        rows.append(
            {"name": arm["name"], "rate": _share(rate), "each": each, "some": some}
        )
    return rows


def details(report: dict) -> list[dict]:
    """One row an arm: what stands behind the headline."""
    digits = places(report)
    rows = []
    for arm in report["arms"]:
        d = arm["difference"] or dict.fromkeys(_DETAIL)
        why = _compared(arm, digits)["difference"].reason or TOO_FEW
        bca, few = d["bca"] or (None, None), "needs twenty pairs"
        ties = None if d["wins"] is None else f"{d['wins']}/{d['losses']}/{d['ties']}"
        row = {
            "sd": fixed(arm["sd"], digits, "fewer than two runs"),
            "pairs": fixed(d["n"], 0, why),
            "sd_difference": fixed(d["sd"], digits, why),
            "rho": fixed(d["rho"], 2, why),
            "low_alone": fixed(d["low"], digits, why, sign=True),
            "high_alone": fixed(d["high"], digits, why, sign=True),
            "bca_low": fixed(bca[0], digits, few, sign=True),
            "bca_high": fixed(bca[1], digits, few, sign=True),
            "p": p_value(d["p"], why),
            "sign_flip_p": p_value(
                d["sign_flip_p"], why if not arm["difference"] else "needs six pairs"
            ),
            "mde": fixed(d["mde"], digits, why),
            "wins": absent(why) if ties is None else Shown(ties, d["wins"]),
        }
        texts = ("name", arm["name"]), ("overrides", settings(arm["overrides"]))
        rows.append(dict(texts) | row)
    return rows


_DETAIL = (
    *("n", "sd", "rho", "low", "high", "p", "sign_flip_p", "mde"),
    *("wins", "losses", "ties", "bca"),
)


def detectable(report: dict) -> list[dict]:
    """One row a comparison: what was planned to be seen, and what could be."""
    known, rows = report["detectable"], []
    for before, after in zip(known["before"], known["after"], strict=True):
        row = {"comparison": before["comparison"], "tests": before["tests"]}
        unit = " sd" if before["sd"] is None else ""
        after = after or dict.fromkeys(before)
        row["planned"] = fixed(before["n"], 0)
        row["assumed"] = _two_digits(before["sd"], "no run was there to go by")
        row["pairs"] = fixed(after["n"], 0, TOO_FEW)
        row["sd"] = _two_digits(after["sd"], TOO_FEW)
        for name in ("effect", "margin"):
            row[f"{name}_before"] = _two_digits(before[name], TOO_FEW, unit)
            row[name] = _two_digits(after[name], TOO_FEW)
        rows.append(row)
    return rows


def _two_digits(value, why, unit=""):
    shown = fixed(value, decimals([value]), why)
    return shown if value is None else shown._replace(text=shown.text + unit)


def settings(values: dict) -> str:
    """Settings on one line, sorted; empty if there are none."""
    return ", ".join(f"{key}={plain(values[key])}" for key in sorted(values))


def tuned_setting(report: dict) -> str | None:
    """The first setting, by name, that tuning gave more than one number."""
    numbers = {}
    for trial in report["tuning"]:
        for key, value in trial["settings"].items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                numbers.setdefault(key, set()).add(value)
    varied = sorted(key for key, values in numbers.items() if len(values) > 1)
    return varied[0] if varied else None


def tuning(report: dict) -> dict:
    """Arms against tried settings; a cell is the mean over the tuning seeds.

    Returns: {"key": the only knob that was tuned or "", "columns": [its values, or
        settings], "rows": [{"name", "edge", "cells": [{"shown", "chosen", "lost":
        diverged seeds}]}]}; columns in order of their numbers.
    """
    trials, digits = report["tuning"], places(report)
    columns = sorted({settings(t["settings"]): t["settings"] for t in trials}.items())
    columns.sort(key=lambda column: [rank(column[1][k]) for k in sorted(column[1])])
    rows = []
    for name in dict.fromkeys(trial["arm"] for trial in trials):
        own = [trial for trial in trials if trial["arm"] == name]
        cells = []
        for _, values in columns:
            tried = [trial for trial in own if trial["settings"] == values]
            kept = [t["value"] for t in tried if t["value"] is not None]
            mean = sum(kept) / len(kept) if kept else None
            why = "every run diverged" if tried else "not in this arm's grid"
            lost = len(tried) - len(kept)
            chosen = any(trial["chosen"] for trial in tried)
            shown = fixed(mean, digits, why)
            cells.append(
                {"shown": shown, "chosen": chosen, "lost": lost if kept else 0}
            )
        edge = any(trial["edge"] and trial["chosen"] for trial in own)
        rows.append({"name": name, "edge": edge, "cells": cells})
    keys = {key for _, values in columns for key in values}
    key = keys.pop() if len(keys) == 1 else ""
    texts = [plain(values[key]) if key else text for text, values in columns]
    return {"key": key, "columns": texts, "rows": rows}


def rank(value: Any) -> tuple:
    """Where a setting stands: numbers in their order, then words."""
    number = isinstance(value, int | float)
    return (0, value, "") if number else (1, 0, str(value))


def runs(report: dict) -> list[dict]:
    """Every run in the dict's order, its numbers printed, its text untouched.

    Its settings are those that not all runs share; its seed has a field of its own.
    """
    digits, of_all = places(report), {"seed": None} | shared(report)
    return [
        run
        | {
            "metric": fixed(run["metric"], digits, f"status is {run['status']}"),
            "seconds": duration(run["seconds"], "time not recorded"),
            "settings": settings(
                {k: v for k, v in run["settings"].items() if k not in of_all}
            ),
        }
        for run in report["runs"]
    ]


def shared(report: dict) -> dict:
    """Settings that are the same in every run."""
    first, *others = [run["settings"] for run in report["runs"]] or [{}]
    return {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in others)
    }


def counted(report: dict) -> str:
    """How many runs there are of each status: "30 done, 1 diverged"."""
    statuses = Counter(run["status"] for run in report["runs"])
    return ", ".join(f"{count} {status}" for status, count in statuses.most_common())


def excluded(report: dict) -> dict[str, list[str]]:
    """{reason: ids of the runs that are in no other number}."""
    reasons = {}
    for run in report["excluded"]:
        reasons.setdefault(run["reason"], []).append(run["id"])
    return reasons
