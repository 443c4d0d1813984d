"""Entries: what each study has found, in numbers, one line a study."""

import importlib
import itertools
import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from experiments import looks, registration, studies
from experiments.costs.sizes import STEPS
from experiments.overview.explanations import ANSWERED, EXPLANATIONS, Explanation
from experiments.overview.questions import STUDIES
from experiments.stages import FIRST
from experiments.statistics import answers, verdicts
from experiments.statistics.findings import (
    NOT_REPRODUCED,
    REPRODUCED,
    UNDERPOWERED,
    VERDICTS,
    overall,
)
from experiments.study import CLAIMS
from tfm_jax.api import DATA_FILES, ConfigError, say, to_flag

FILE = Path(__file__).parents[2] / "docs" / "studies" / "results.json"
PUBLISHED = CLAIMS[0]
# field of an entry -> field of a report that is not empty where it is true
RESERVATIONS = {"exploratory": "exploratory", "mixed": "mixed_environments"}
DIGITS = 4  # significant ones, of numbers that are kept
MALFORMED = (  # errors that a malformed report causes
    *(ArithmeticError, AttributeError, LookupError, RecursionError),
    *(StopIteration, TypeError, ValueError),
)
STEP_MATCHES = ("tokens", "flops")  # of ``match``: those that set steps per arm
OPEN = "open"  # claim of what was found where nothing was expected
# verdict of a study -> what it says of the check that it rests on
OF_CHECK = {
    answers.CHECK_FAILED: NOT_REPRODUCED,
    answers.CANNOT_TELL: UNDERPOWERED,
    answers.HOLDS: REPRODUCED,
}


def read(path: Path = FILE) -> list[dict]:
    """All entries, by name and scale."""
    return json.loads(path.read_text("utf-8"))


def write(entries: Iterable[Mapping], path: Path = FILE) -> None:
    """Writes ``entries``, a line each, by name and scale."""
    ordered = sorted(entries, key=lambda entry: (entry["name"], entry["scale"]))
    lines = [json.dumps(entry, ensure_ascii=False) for entry in ordered]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def name_of(entry: Mapping) -> str:
    """Name of its study; with its scale if that is not the usual one."""
    return entry["name"] + ("" if entry["scale"] == "cpu" else f":{entry['scale']}")


def answered_by(entry: Mapping) -> str:
    """Name of the entry that answers in place of this one; "" of others."""
    return ANSWERED.get(name_of(entry), "")


def answering(listed: Iterable[Mapping]) -> list[Mapping]:
    """Entries in place of which no other one answers."""
    return [entry for entry in listed if not answered_by(entry)]


def why(entry: Mapping) -> Explanation | None:
    """Why an entry's findings are not as published, if somebody has found out."""
    return EXPLANATIONS.get(name_of(entry))


def reports(out: Path) -> dict[str, dict]:
    """Folder below ``out`` -> its report; those of studies that are not ours apart.

    What is left out although it has the name of one of ours is said: a copy in another
    folder, another study of that name, or ours with other settings or fewer seeds.
    Raises: ConfigError for a file that is no report, or one of an earlier version.
    """
    listed = {}
    for path in sorted(out.glob("*/report.json")):
        report = _report(path)
        if report["name"] not in STUDIES:
            continue
        study = f"{report['name']}:{report['scale']}"
        if path.parent.name != study.replace(":", "-"):
            say(f"{path} is left out: it is of {study}, and lies in another folder")
        elif unlike := _checked(report, path, f"{study} report --out={out}"):
            say(f"{path} is left out: {unlike}")
        else:
            listed[path.parent.name] = report
    return listed


def _checked(report, path, command):
    """``_unlike`` of a report that has all that becomes an entry."""
    module = importlib.import_module(f"{studies.__name__}.{report['name']}")
    if report["scale"] not in getattr(module, "SCALES", studies.SCALES):
        return f"{report['name']} has no scale {report['scale']}"
    study = module.get_study(report["scale"])
    try:
        if _is_old(report):
            again = f"make it again: python -m experiments.run {command}"
            raise ConfigError(f"{path} is of an earlier version; {again}")
        if not (unlike := _unlike(report, study)):
            _check(of_report(report))
        return unlike
    except ConfigError:
        raise
    except MALFORMED as error:
        raise ConfigError(f"{path} is no report of a study: {error!r}") from error


def _check(entry):
    """Raises: ValueError for what contradicts itself, or is no number."""
    json.dumps(entry, allow_nan=False)
    if not isinstance(entry["machine"], str):
        raise ValueError(f"environment: machine={entry['machine']!r}")
    if entry["hours"] < 0:
        raise ValueError(f"runs took {entry['hours']} h")
    for expected in entry["expectations"]:
        effects = expected["effects"]
        told = {expected["verdict"], *(effect["verdict"] for effect in effects)}
        if unknown := told - {*answers.VERDICTS, *VERDICTS}:
            raise ValueError(f"verdict={unknown.pop()!r}")
        if effects and expected["claim"] != OPEN:
            if expected["verdict"] != overall([e["verdict"] for e in effects]):
                raise ValueError(f"{expected['text']!r} has not the verdict of effects")
        for effect in effects:
            if not isinstance(effect["of"], str) or type(effect["n"]) is not int:
                raise ValueError(f"of={effect['of']!r}, n={effect['n']!r}")
            if not effect["low"] <= effect["mean"] <= effect["high"]:
                raise ValueError(f"{effect['of']}: its mean is not in its interval")


def _is_old(report):
    judged = report["expectations"]
    return "looks" not in report or not all("effects" in each for each in judged)


def _report(path):
    try:
        report = json.loads(path.read_text("utf-8"))
        name, scale = report["name"], report["scale"]
        if not isinstance(name, str) or not isinstance(scale, str):
            raise ValueError(f"its name is {name!r}, its scale {scale!r}")
        return report
    except MALFORMED as error:
        raise ConfigError(f"{path} is no report of a study: {error!r}") from error


def _unlike(report, study):
    """In what a report differs from our study of that name and scale; "" if in nothing.

    What it finds out, the arms, the rates tried, the seeds, whether all have run, and
    all that is set, as ``--seeds`` and ``--set`` change it.
    """
    if {arm["name"] for arm in report["arms"]} != study.arms.keys():
        return f"it has other arms than {report['name']}:{report['scale']}"
    for field in ("metric", "goal", "baseline", "sesoi", "match"):
        if report[field] != getattr(study, field):
            return f"its {field} is {report[field]}, not {getattr(study, field)}"
    given = report["expectations"]
    expected = [verdicts.stated(e, study) for e in study.expect]
    if len(given) != len(expected) or not all(
        any(one == {k: e[k] for k in one} for e in given) for one in expected
    ):
        return f"it judges other findings than {report['name']}:{report['scale']}"
    seeds = {*looks.first(study).seeds}
    if lacking := seeds - {*report["seeds"]}:
        return f"it lacks seeds of the study: {to_flag(sorted(lacking))}"
    if (more := {*report["seeds"]} - seeds) and not report["looks"]:
        return f"the study has no seeds {to_flag(sorted(more))}"
    if report["tune_seeds"] != [*study.tune_seeds]:
        return f"it was tuned with seeds {to_flag(report['tune_seeds'])}"
    for knob, values in study.tune.items():
        tried = {to_flag(trial["settings"][knob]) for trial in report["tuning"]}
        if not study.trials and tried != {*map(to_flag, values)}:
            return f"{knob} was tuned over other values than {to_flag(values)}"
    for arm in report["arms"]:
        if {*map(str, report["seeds"])} - {*arm["values"]}:
            return f"runs of arm {arm['name']} are missing"
    free = {"seed", *study.tune}
    matched = {STEPS, f"{FIRST}.{STEPS}"} if study.match in STEP_MATCHES else set()
    if not report["runs"]:
        return "it has no runs"
    for run in report["runs"]:
        ours = {**study.settings, **study.arms[run["arm"]]}
        config = ours.get("config", study.config)
        if f"--config={config}" not in shlex.split(run["command"]):
            return f"runs of arm {run['arm']} do not start from {config}"
        given = registration.modern(run["settings"])
        paths = {k for k in given if k.removeprefix(f"{FIRST}.") in DATA_FILES}
        unset = free | (paths - ours.keys())  # paths: of --set, where no arm has them
        if run["arm"] != study.baseline:
            unset |= matched
        for knob in sorted({*ours, *given} - unset):
            if knob not in ours:
                return f"the study does not set {knob}={to_flag(given[knob])}"
            if knob not in given or not _equal(given[knob], ours[knob]):
                said = to_flag(given[knob]) if knob in given else "unset"
                return f"{knob} is {said}, and {to_flag(ours[knob])} in the study"
    return ""


def _equal(given, ours):
    """Whether a setting is that of the study, as a flag says it or a file."""
    if to_flag(given) == to_flag(ours):
        return True
    return isinstance(ours, float) and float(given) == ours


def of_report(report: Mapping) -> dict:
    """The entry of a report; ``hours`` are those of all its processes.

    ``looks`` are those that a group-sequential study has taken; of one that was changed
    after runs existed ``exploratory`` is true, of runs of several versions ``mixed``.
    Numbers have the digits that the report's page shows, ``seen`` of an effect, the
    smallest that the runs could detect, two and others ``DIGITS``.
    """
    verdict, _ = answers.headline(report)  # in the words of today
    expected = [_expectation(e) for e in report["expectations"]]
    if answers.is_open(report):
        expected.append(_open(report))
    looks = report["looks"]
    return {
        "name": report["name"],
        "scale": report["scale"],
        "question": report["question"],
        "verdict": verdict,
        "machine": report["environment"].get("machine", ""),
        "hours": round(sum(run["seconds"] or 0 for run in report["runs"]) / 3600, 2),
        "arms": len(report["arms"]),
        "seeds": len(report["seeds"]),
        **({"looks": looks["taken"]} if looks else {}),
        **{field: True for field, of in RESERVATIONS.items() if report[of]},
        "expectations": expected,
    }


def _expectation(judged):
    fields = ("text", "claim", "verdict", "kind", "metric", "goal", "sesoi")
    entry = {field: judged[field] for field in fields}
    if judged["bounds"]:
        entry["bounds"] = judged["bounds"]
    entry["effects"] = [_digits(effect) for effect in judged["effects"]]
    for name, digits in (("seen", 2), ("reported", 4)):
        if len(judged[name]) == len(entry["effects"]):
            for effect, number in zip(entry["effects"], judged[name], strict=True):
                effect[name] = _rounded(number, digits)
    return entry


def _open(report):
    """Of an open question: the arm on which its answer rests."""
    effects, (verdict, arm) = [], answers.leading(report)
    if arm and (d := arm["difference"]) and d["low_holm"] is not None:
        name = f"{arm['name']} minus {report['baseline']}"
        effect = {"of": name, "verdict": verdict, "mean": d["mean"], "n": d["n"]}
        effects = [_digits(effect | {"low": d["low_holm"], "high": d["high_holm"]})]
        if d["mde"] is not None:
            effects[0]["seen"] = _rounded(d["mde"], 2)
    fields = {field: report[field] for field in ("metric", "goal", "sesoi")}
    said = {"text": "", "claim": OPEN, "verdict": verdict, "kind": "better"}
    return said | fields | {"effects": effects}


def _digits(effect):
    numbers = {name: _rounded(effect[name]) for name in ("mean", "low", "high")}
    head = {name: effect[name] for name in ("of", "verdict")}
    return head | numbers | {"n": effect["n"]}


def _rounded(number: float, digits: int = DIGITS) -> float:
    return float(f"{number:.{digits}g}")


def grouped(entries: Iterable[Mapping]) -> list[tuple[int, list[Mapping]]]:
    """(number of a question, its entries), studies as ``questions`` lists them."""
    order = list(STUDIES)
    ordered = sorted(entries, key=lambda e: (order.index(e["name"]), e["scale"]))
    by_question = itertools.groupby(ordered, lambda entry: STUDIES[entry["name"]][0])
    return [(number, list(group)) for number, group in by_question]


def decisive(entry: Mapping) -> list[tuple[Mapping, Mapping]]:
    """(expectation, effect) that decides an entry's verdict; of HOLDS every pair.

    Empty where no interval decides it, as where runs diverged.
    """
    verdict = entry["verdict"]
    deciding = {verdict, OF_CHECK.get(verdict)}
    pairs = [(e, x) for e in entry["expectations"] for x in e["effects"]]
    decided = [(e, x) for e, x in pairs if {e["verdict"], x["verdict"]} <= deciding]
    return decided if verdict == answers.HOLDS else decided[:1]
