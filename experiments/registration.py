"""Registration: what a study asked before its first run, and what changed since."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import looks
from experiments.runs import attempts, files
from experiments.stages import FIRST
from experiments.study import Study
from tfm_jax.api import preflight, renamed, replace

if TYPE_CHECKING:
    from experiments.plan import Plan

FILE = "study.json"  # in the directory of a study


def renewed(plan: "Plan") -> dict:
    """``compared``, which from now on is what is written down."""
    path = plan.root / FILE
    files.read_or_set_aside(path, _is_registered)
    kept = compared(plan)
    preflight(plan.root)
    replace(path, kept)
    return kept


def compared(plan: "Plan") -> dict:
    """What is written down of a plan's study, with what has changed since.

    Returns: ``registered``, when; ``study``, its fields; ``changes``, in words; and
        ``assumed``, the spread that the first plan went by, see ``power.assumed``.
    """
    path = plan.root / FILE
    asked = dataclasses.asdict(looks.first(plan.study))
    if not plan.study.looks:
        del asked["looks"]  # as those without were always written down
    del asked["solved"]  # decides nothing
    for expectation in asked["expect"]:
        del expectation["reported"]  # nor does this
    now = json.loads(json.dumps(asked, sort_keys=True))
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    kept = files.read(path, _is_registered)
    if kept is None:
        kept = {"registered": stamp, "study": now, "changes": [], **_assumed(plan)}
        damaged = path.exists() or any(path.parent.glob(f"{path.name}.damaged*"))
        if damaged or any(attempts.ran(run.cell.directory) for run in plan.runs):
            lost = f"{FILE} was {'damaged' if damaged else 'lost'}"
            lost += "; what had been registered is not known"
            kept["changes"].append(f"{stamp}: {lost}")
    _fill(kept["study"], now)
    for knob in sorted(now.keys() | kept["study"].keys()):
        before, after = kept["study"].get(knob), now.get(knob)
        if before != after:
            kept["changes"].append(f"{stamp}: {knob}: {_change(before, after)}")
            kept["study"][knob] = after
    return kept


def _change(before, after):
    """In words; of mappings and of expectations only what differs."""
    words = f"{before!r} became {after!r}"
    if isinstance(before, dict) and isinstance(after, dict):
        before, after = _apart(before, after)
    if all(
        isinstance(x, list) and x and isinstance(x[0], dict) for x in (before, after)
    ):
        gone = [x for x in before if x not in after]
        new = [x for x in after if x not in before]
        if not gone and not new and len(before) == len(after):
            return "another order"
        if not gone and new:
            return f"also {_said(new)}"
        if gone and not new:
            return f"no longer {_said(gone)}"
        if len(gone) == len(new):  # each took the place of another
            pairs = [_apart(*pair, "text") for pair in zip(gone, new, strict=True)]
            gone, new = ([pair[side] for pair in pairs] for side in (0, 1))
        before, after = gone, new
    told = [_said(before), _said(after)]
    return words if told[0] == told[1] else " became ".join(told)


def _apart(before, after, *kept):
    """Both without what they have in common, but for fields that are ``kept``."""
    alike = {k for k in before if k in after and before[k] == after[k]} - {*kept}
    return tuple(
        {k: v for k, v in values.items() if k not in alike}
        for values in (before, after)
    )


def _said(value):
    """A field in words: its parts with commas, brackets around parts of parts."""
    if value in (None, "", [], {}):
        return "nothing"
    if isinstance(value, dict):
        return ", ".join(f"{k}={_bracketed(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(_bracketed, value))
    return str(value)


def _bracketed(value):
    inner = isinstance(value, dict | list) and value
    return f"({_said(value)})" if inner else _said(value)


def looked_at(root: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Seeds and looks that were registered in a study's directory; none, none."""
    study = (files.read(root / FILE, _has_looks) or {}).get("study", {})
    if not study.get("looks"):
        return (), ()
    return tuple(study["seeds"]), tuple(study["looks"])


def _has_looks(kept):
    """Whether seeds and looks are numbers, and looks come with seeds."""
    study = kept.get("study", {})
    numbers = [n for field in ("seeds", "looks") for n in study.get(field) or ()]
    whole = "seeds" in study or not study.get("looks")
    return whole and all(type(number) is int for number in numbers)


def _assumed(plan):
    from experiments.statistics import power

    known = power.assumed(plan)
    return {"assumed": known} if known["sd"] else {}


def _fill(kept, now):
    """Says ``kept`` in the names of now, and what studies could not say: no change."""
    kept |= modern(kept)
    kept.pop("solved", None)  # was written down for a time, and decides nothing
    for added in ("trials", "proposer"):
        kept.setdefault(added, getattr(Study, added))
    if isinstance(kept["expect"], list) and len(kept["expect"]) == len(now["expect"]):
        for before, after in zip(kept["expect"], now["expect"], strict=True):
            for field in after.keys() - before.keys():
                before[field] = after[field]


def modern(kept: Any) -> Any:
    """What is registered, with the names that knobs have now."""
    if not isinstance(kept, dict):
        return kept
    named = {}
    for knob, value in kept.items():
        stage = f"{FIRST}." if knob.startswith(f"{FIRST}.") else ""
        now = renamed.modern({knob.removeprefix(stage): modern(value)})
        named |= {stage + name: x for name, x in now.items()}
    return named


def _is_registered(kept):
    assumed = kept.get("assumed", {"source": "", "sd": {}})
    return (
        isinstance(kept["study"]["expect"], list)
        and all(isinstance(e, dict) for e in kept["study"]["expect"])
        and isinstance(kept["registered"], str)
        and all(isinstance(change, str) for change in kept["changes"])
        and isinstance(assumed["source"], str)
        and all(map(files.is_number, assumed["sd"].values()))
    )
