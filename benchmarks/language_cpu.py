"""Training speed of nanoGPT's character model on a CPU, against PyTorch.

    python -m benchmarks.language_cpu --text=input.txt

The set-up is configs/shakespeare_char.py: 4 layers, 4 heads, width 128, no biases, no
dropout, rows of 64 characters, AdamW, float32. Processes take turns, ``--seconds``
each, ``--rounds`` times; what counts is characters a second, data included. All arms
train a model of the same shape on the same text with the same number of rows a batch.

    tfm_jax           the default path, one CPU device a core
    tfm_jax+bf16      the same with --config.model.dtype=bfloat16
    torch             nanoGPT's model and loop in PyTorch, fused attention and AdamW
    torch+bf16        the same under autocast to bfloat16
    torch+compile     as torch, the loss under torch.compile (needs a C++ compiler)

The text is that of ``--text``, its last tenth held out; without it Python's own
documentation, which is always there.
"""

import argparse
import contextlib
import tempfile
from pathlib import Path

from benchmarks import rounds

OURS = {"tfm_jax": {}, "tfm_jax+bf16": dict(dtype="bfloat16")}  # fields of the model
ARMS = {
    "torch": {},
    "torch+bf16": dict(autocast=True),
    "torch+compile": dict(compiled="default"),
}
ENDLESS = 1_000_000  # steps; the arms are stopped by the clock
LIKE = 0.1  # nats by which the losses of the first weights may differ


def main():
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", help="file of text; default Python's documentation")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[*ARMS])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=15.0, help="a round and arm")
    parser.add_argument(
        "--rows", type=int, default=12, help="of 64 characters, a batch"
    )
    parser.add_argument("--warmup", type=float, default=5.0, help="seconds per arm")
    args = parser.parse_args()
    if args.text and not Path(args.text).is_file():
        parser.exit(rounds.SKIPPED, f"skipped: no file {args.text}\n")
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        measure(args, experiment(args).to_dict(), scratch, stack.enter_context)


def experiment(args):
    """configs/shakespeare_char.py on the text that is asked for."""
    from tfm_jax.config import load

    config = load(str(rounds.ROOT / "configs" / "shakespeare_char.py"))
    config.train.update(
        total_steps=ENDLESS, batch_tokens=args.rows * config.data.length
    )
    if args.text:
        config.data.train_files = (str(Path(args.text).absolute()),)
    else:
        config.data.source = "pydocs"
    return config


def measure(args, config, scratch, enter):
    """Starts the arms and lets them take turns."""
    module = "benchmarks.language_arms"
    arms = []
    for name, fields in OURS.items():
        changed = config | {"model": config["model"] | fields}
        folder = str(Path(scratch) / name)
        arm = rounds.Arm(name, module, folder=folder, config=changed)
        arms.append(enter(arm))
    first = arms[0].facts
    print(first["headline"], flush=True)
    shared = {key: first[key] for key in ("config", "tokens", "rows")}
    for name in args.arms:
        arms.append(enter(rounds.Arm(name, module, **ARMS[name], **shared)))
    for arm in arms[1:]:
        agree(arm.facts, first, arm.name)
    for arm in arms:
        arm.ask("round", seconds=args.warmup, least=3)
    measured = rounds.alternate(
        arms, args.rounds, lambda arm: arm.ask("round", seconds=args.seconds)
    )
    compared = rounds.compare(measured, of="tfm_jax")
    compared["ratios"] |= rounds.compare(measured, of="tfm_jax+bf16")["ratios"]
    text = Path(args.text).name if args.text else "Python's documentation"
    rounds.report(
        f"language model of characters, {text}, {first['rows']} rows of "
        f"{config['data']['length']}",
        compared,
        arms,
        parameters=first["parameters"],
        first_loss={arm.name: arm.facts["first_loss"] for arm in arms},
        loss={n: r[-1]["loss"] for n, r in measured.items()},
        steps={n: sum(one["steps"] for one in r) for n, r in measured.items()},
        cores={
            n: sum(one["cpu_seconds"] for one in r) / sum(one["seconds"] for one in r)
            for n, r in measured.items()
        },
    )


def agree(theirs, ours, name):
    """Raises: SystemExit if an arm trains another model, or from other weights."""
    if theirs["parameters"] != ours["parameters"]:
        raise SystemExit(
            f"{name} has {theirs['parameters']:,} parameters, not "
            f"{ours['parameters']:,}"
        )
    if abs(theirs["first_loss"] - ours["first_loss"]) > LIKE:
        raise SystemExit(
            f"{name} starts with a loss of {theirs['first_loss']:.3f}, not "
            f"{ours['first_loss']:.3f}"
        )


if __name__ == "__main__":
    main()
