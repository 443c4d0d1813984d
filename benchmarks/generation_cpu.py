"""Speed of generation on a CPU, with the cache of keys and values and without.

    python -m benchmarks.generation_cpu --prompt=64 --tokens=192

A GPT of ``--depth`` layers and random weights continues ``--prompts`` random prompts of
``--prompt`` tokens by ``--tokens`` each, greedily and to the end. Without the cache
every step computes the whole text again. Both arms are ``decode.sampling.generate``, in
a process each; they take turns, and must write the same tokens. With ``--workdir`` the
model is that of a run. What counts are tokens drawn a second.
"""

import argparse
import contextlib
from pathlib import Path

from benchmarks import rounds

ARMS = {"cache": True, "no cache": False}


def main():
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--workdir", help="of a language model; default: random weights"
    )
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--vocab", type=int, default=8_000)
    parser.add_argument("--prompts", type=int, default=8, help="continued at a time")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a prompt")
    parser.add_argument("--tokens", type=int, default=192, help="drawn behind it")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    start = vars(args) | {
        "workdir": args.workdir and str(Path(args.workdir).absolute())
    }
    del start["rounds"]
    with contextlib.ExitStack() as stack:
        arms = []
        for name, cached in ARMS.items():
            arm = rounds.Arm(name, "benchmarks.generation_arms", cached=cached, **start)
            arms.append(stack.enter_context(arm))
        written = [arm.ask("generate", whole=True)["written"] for arm in arms]
        if written[0] != written[1]:
            raise SystemExit("not the same: the cache changes tokens")
        measured = rounds.alternate(arms, args.rounds, lambda arm: arm.ask("generate"))
        rounds.report(
            f"generation, {args.prompt} + {args.tokens} tokens, {args.prompts} prompts",
            rounds.compare(measured, of="cache"),
            arms,
            **arms[0].facts,
        )


if __name__ == "__main__":
    main()
