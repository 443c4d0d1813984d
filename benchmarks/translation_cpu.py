"""Training speed on Multi30k, English to German, against PyTorch and transformers.

    python -m benchmarks.translation_cpu --data=data/multi30k

Three processes take turns, ``--seconds`` each, ``--rounds`` times. Tokens are those of
source and target that are no padding, per second, data included. All arms train a
Transformer of the same shape and size on the same tokenised pairs, with dropout 0.3,
Adam, gradient clipping and the same budget of target tokens a batch:

    tfm_jax      the default path: packed rows, one CPU device a core
    torch        torch.nn layers, length-sorted batches, logits only at real tokens
    marian       transformers.MarianMTModel, the same batches, its own loss, which has
                 no label smoothing
    torch+pages  (with --arms) torch with glibc told to keep freed pages, which tfm_jax
                 does for itself

``--family=conv_seq2seq`` trains fairseq's fconv_iwslt_de_en from German to English,
word by word, against the same model in torch.nn, which tests compare ours to.
"""

import argparse
import contextlib
import tempfile

from benchmarks import rounds

# glibc's counterpart of what tfm_jax.runs.process.runtime sets
KEEP_PAGES = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1),
}
ARMS = {  # name -> (class, environment)
    "torch": ("torch", {}),
    "marian": ("marian", {}),
    "torch+pages": ("torch", KEEP_PAGES),
    "recurrent": ("recurrent", {}),  # of benchmarks.recurrent_cpu
}
# family -> (configuration, what of it is as in the other arms)
FAMILIES = {
    "transformer": ("transformer_multi30k.py", {}),
    "conv_seq2seq": (
        "conv_multi30k.py:iwslt",
        {"schedule": "inverse_sqrt", "warmup_steps": 500},
    ),
}


def main():
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of Multi30k; default TFM_JAX_DATA")
    parser.add_argument("--family", choices=FAMILIES, default="transformer")
    parser.add_argument(
        "--arms", nargs="+", choices=ARMS, help="default: torch; marian, a Transformer"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=20.0, help="a round and arm")
    parser.add_argument("--batch-tokens", type=int, default=4_096, help="of the target")
    parser.add_argument("--warmup", type=float, default=15.0, help="seconds per arm")
    args = parser.parse_args()
    transformer = args.family == "transformer"
    args.arms = args.arms or ["torch", "marian"][: 1 + transformer]
    if "marian" in args.arms and not transformer:
        parser.error("--arms=marian is a Transformer; choose from (torch, torch+pages)")
    folder = rounds.real_data(parser, args.data)
    name, optim = FAMILIES[args.family]
    config = rounds.multi30k(
        folder, name, train={"batch_tokens": args.batch_tokens}, optim=optim
    )
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        measure(args, config.to_dict(), scratch, stack.enter_context)


def measure(args, config, scratch, enter):
    """Starts the arms and lets them take turns."""
    module, model = "benchmarks.training_arms", config["model_name"]
    ours = enter(
        rounds.Arm("tfm_jax", module, arm="tfm_jax", folder=scratch, config=config)
    )
    arms = [ours]
    print(ours.facts["headline"], flush=True)
    for name in args.arms:
        kind, environment = ARMS[name]
        shared = {key: ours.facts[key] for key in ("config", "examples")}
        arm = rounds.Arm(name, module, environment, arm=kind, folder=scratch, **shared)
        arms.append(enter(arm))
        ratio = arm.facts["parameters"] / ours.facts["parameters"]
        if abs(ratio - 1) > 0.01:
            raise SystemExit(f"{name} has {ratio:.3f} times the parameters")
    for arm in arms:
        arm.ask("round", seconds=args.warmup, least=3)
    measured = rounds.alternate(
        arms, args.rounds, lambda arm: arm.ask("round", seconds=args.seconds)
    )
    rounds.report(
        f"training {model} on Multi30k, {args.batch_tokens} tokens a batch",
        rounds.compare(measured, of="tfm_jax"),
        arms,
        parameters={arm.name: arm.facts["parameters"] for arm in arms},
        filled={n: _sum(r, "filled") / len(r) for n, r in measured.items()},
        cores={
            n: _sum(r, "cpu_seconds") / _sum(r, "seconds") for n, r in measured.items()
        },
        loss={n: r[-1]["loss"] for n, r in measured.items()},
        steps={n: _sum(r, "steps") for n, r in measured.items()},
    )


def _sum(measured, field):
    return sum(one[field] for one in measured)


if __name__ == "__main__":
    main()
