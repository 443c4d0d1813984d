"""S seeds of one small model: in one program, one after another, in S processes.

    python -m benchmarks.population --members 1 2 4 8 16 32

Not run on a GPU yet. Numerals of two languages, width 128, batches of 2,048 target
tokens. What is counted are train steps a second of all members together, data included:
``vmapped`` trains them by ``tfm_jax.train.population``, ``alone`` trains one, which is
also the rate of one after another, and ``separate`` are S processes on the one device
at the same time. The ratios are those within a round.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks import rounds

ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # processes share the device


def main():
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--steps", type=int, default=50, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--separate", type=int, default=16, help="processes at most")
    parser.add_argument("settings", nargs="*", help="--config.KNOB=VALUE, after --")
    args = parser.parse_args()
    for size in args.members:
        print(json.dumps(measure(args, size)), flush=True)


def measure(args, size):
    """The three ways at one size, in turn; rates in member-steps a second."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:

        def start(name, count, first, vmapped):
            arm = rounds.Arm(
                name, "benchmarks.population_arms", ENVIRONMENT, size=count,
                folder=folder, first=first, vmapped=vmapped, settings=args.settings,
            )  # fmt: skip
            return stack.enter_context(arm)

        ways = {
            "alone": [start("alone", 1, 0, False)],
            "vmapped": [start("vmapped", size, 1, True)],
        }
        if 1 < size <= args.separate:
            firsts = range(1 + size, 1 + 2 * size)
            ways["separate"] = [start(f"s{n}", 1, n, False) for n in firsts]
        rates = {name: [] for name in ways}
        for number in range(args.rounds + 1):
            for name, arms in ways.items():
                rate = together(arms, args.steps)
                if number:  # the first round compiles and warms up
                    rates[name].append(rate)
        result = {"members": size, "machine": ways["alone"][0].facts["headline"]}
    result["steps_per_second"] = {n: statistics.median(r) for n, r in rates.items()}
    for name in rates.keys() - {"vmapped"}:
        ratios = [a / b for a, b in zip(rates["vmapped"], rates[name], strict=True)]
        result[f"vmapped / {name}"] = [
            statistics.median(ratios), min(ratios), max(ratios),
        ]  # fmt: skip
    return result


def together(arms, steps):
    """Member-steps a second of arms that work at the same time."""
    began = time.perf_counter()
    with ThreadPoolExecutor(len(arms)) as pool:
        done = list(pool.map(lambda arm: arm.ask("round", steps=steps), arms))
    return sum(one["steps"] for one in done) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
