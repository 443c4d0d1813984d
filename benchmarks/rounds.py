"""Arms that take turns: one warm process each, compared round by round.

Machines drift by tens of percent within minutes, so figures of different runs say
little. Here every round measures all arms one after another, and what is reported is
the ratio within a round: its median, lowest and highest. While one arm works the others
wait for a line on standard input and use no processor.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = 69  # exit code where what a benchmark needs is not there
IDLE_SHARE = 0.05  # of one core that a waiting arm may use


class Arm:
    """A process ``python -m module`` that answers requests, from the parent's side."""

    def __init__(self, name, module, environment=None, **start):
        """Args: start: keyword arguments for the class that ``module`` serves."""
        self.name, self.idle_share = name, 0.0
        self._left = None  # when the last answer came
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | (environment or {}),
        )
        self.facts = self.ask("start", **start)

    def ask(self, do, **arguments):
        """What the arm's method ``do`` returns; plain JSON both ways."""
        now = time.monotonic()
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"arm {self.name} ended with {self._process.wait()}")
        answer = json.loads(line)
        if self._left is not None and now - self._left > 5.0:  # else all noise
            share = answer["idle_cpu"] / (now - self._left)
            self.idle_share = max(self.idle_share, share)
        self._left = time.monotonic()
        return answer["result"]

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._process.stdin.close()  # the arm's loop ends there
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()


def serve(make):
    """The arm's side: builds an object, then calls its methods until the input ends.

    Args: make: ``make(**start)`` -> (facts to report, object).
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    subject, idle_since = None, time.process_time()
    for line in sys.stdin:
        idle_cpu = time.process_time() - idle_since
        request = json.loads(line)
        do = request.pop("do")
        if do == "start":
            result, subject = make(**request)
        else:
            result = getattr(subject, do)(**request)
        answers.write(json.dumps({"idle_cpu": idle_cpu, "result": result}) + "\n")
        answers.flush()
        idle_since = time.process_time()


def alternate(arms, count, measure, unit="tokens"):
    """``count`` rounds of all arms in turn.

    Args:
        measure: ``measure(arm)`` -> dict with ``tokens`` and ``seconds``.
        unit: what ``tokens`` counts.
    Returns: per arm a list with one such dict a round.
    """
    measured = {arm.name: [] for arm in arms}
    for number in range(1, count + 1):
        for arm in arms:
            measured[arm.name].append(measure(arm))
        rates = "  ".join(
            f"{n} {_rate(rounds[-1]):,.0f}" for n, rounds in measured.items()
        )
        print(f"round {number}: {rates} {unit}/s", flush=True)
    return measured


def _rate(one):
    return one["tokens"] / one["seconds"]


def compare(measured, of) -> dict:
    """Median rates, and per other arm the ratios of arm ``of`` to it within rounds."""
    rates = {name: [_rate(one) for one in rounds] for name, rounds in measured.items()}
    result = {
        "per_second": {n: statistics.median(r) for n, r in rates.items()},
        "ratios": {},
    }
    for name, theirs in rates.items():
        if name != of:
            ratios = [a / b for a, b in zip(rates[of], theirs, strict=True)]
            result["ratios"][f"{of} / {name}"] = {
                "median": statistics.median(ratios),
                "min": min(ratios),
                "max": max(ratios),
            }
    return result


def report(title, compared, arms, *, unit="tokens", **more) -> None:
    """A table for people, and the same as one line of JSON."""
    print(f"\n{title}")
    for name, rate in compared["per_second"].items():
        print(f"  {name:<16} {rate:>12,.0f} {unit}/s, median of rounds")
    for pair, ratio in compared["ratios"].items():
        line = "{median:.2f}x ({min:.2f} to {max:.2f})".format(**ratio)
        print(f"  {pair:<28} {line}")
    idle = {arm.name: round(arm.idle_share, 4) for arm in arms}
    for name, share in idle.items():
        if share > IDLE_SHARE:
            print(f"  {name} used {share:.0%} of a core while others were measured")
    load = os.getloadavg()[0]
    print(
        json.dumps({"benchmark": title, **compared, "idle": idle, "load": load, **more})
    )
    sys.stdout.flush()


def real_data(parser, folder) -> Path:
    """The folder of Multi30k; ends the process with a message if it is not there."""
    folder = Path(folder or os.environ.get("TFM_JAX_DATA", "data"))
    folder = folder / "multi30k" if (folder / "multi30k").is_dir() else folder
    if not (folder / "train.en.gz").is_file():
        message = (
            f"skipped: no train.en.gz in {folder}; --data or TFM_JAX_DATA names it"
        )
        parser.exit(SKIPPED, message + "\n")
    return folder


def multi30k(folder, name="transformer_multi30k.py", **changes):
    """The experiment of ``configs/NAME`` on that folder, as a dict.

    Args: changes: section -> dict of fields that differ.
    """
    from tfm_jax.config import load

    config = load(str(ROOT / "configs" / name))
    sides = config.data.source_language, config.data.target_language
    for split, name in dict(
        train="train", valid="val", test="test_2016_flickr"
    ).items():
        files = tuple(str(Path(folder).absolute() / f"{name}.{s}.gz") for s in sides)
        config.data[f"{split}_files"] = files
    for section, fields in changes.items():
        config[section].update(fields)
    return config
