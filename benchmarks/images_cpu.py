"""Training speed on images on a CPU, against transformers and diffusers.

    python -m benchmarks.images_cpu
    python -m benchmarks.images_cpu --models dit --dtype=bfloat16

Two processes take turns, ``--seconds`` each, ``--rounds`` times; what counts are images
a second, data included. Each pair trains the same model from the same weights, with
Adam and gradient clipping, in the same precision; the images are the digits of
scikit-learn, enlarged to 32 x 32 pixels, 64 patches of each. The other arm repeats the
batches of our first epoch, which lie ready for it.

    vit   ViT against transformers.ViTForImageClassification
    dit   DiT against diffusers.DiTTransformer2DModel, both to predict the noise
"""

import argparse
import contextlib
import tempfile
from typing import NamedTuple

from benchmarks import rounds

SIZE = dict(depth=6, width=192, heads=3, ffn_width=768)
SIZE |= dict(image_size=(32,), patch_size=(4,), channels=1, labels=10, dropout=0.0)
ENDLESS = 1_000_000  # steps; the arms are stopped by the clock


class Pair(NamedTuple):
    """What is measured.

    Attributes:
        config: ours. against: the library with the other arm. changes: section -> what
            the configuration must have to be the same there.
        loss_tolerance: how far the losses of the first steps may lie apart, in float32;
            noise is drawn by each arm for itself.
    """

    config: str
    against: str
    changes: dict
    loss_tolerance: float


PAIRS = {
    "vit": Pair("vit_digits", "transformers", {"data": {"augment.mixup": 0.0}}, 1e-3),
    "dit": Pair(
        "dit_digits",
        "diffusers",
        {
            "model": {"label_dropout": 0.0},
            "data": {
                "noise.steps": 1000,
                "noise.prediction": "eps",
                "noise.grey_levels": 256,  # enlarged digits have them
            },
            "train": {"ema_decay": 0.0},
            "eval": {"samples": 0},
        },
        0.1,
    ),
}


def main():
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=PAIRS, default=[*PAIRS])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--images", type=int, default=64, help="a batch")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=15.0, help="a round and arm")
    parser.add_argument("--warmup", type=float, default=5.0, help="seconds per arm")
    args = parser.parse_args()
    for name in args.models:
        with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
            measure(args, name, scratch, stack.enter_context)


def experiment(args, pair):
    """The configuration that both arms train."""
    from tfm_jax.config import load

    config = load(str(rounds.ROOT / "configs" / f"{pair.config}.py"))
    changes = {
        "model": SIZE | {"dtype": args.dtype},
        "data": {"image_size": (32,)},
        "optim": dict(optimizer="adam", schedule="constant", warmup_steps=0)
        | dict(peak_lr=1e-3, clip_norm=1.0, weight_decay=0.0),
        "train": dict(total_steps=ENDLESS, batch_tokens=args.images),
        "mesh": {"cpu_devices": 0},
    }
    for section, knobs in (*changes.items(), *pair.changes.items()):
        config[section].update_from_flattened_dict(knobs)
    return config.to_dict()


def measure(args, name, scratch, enter):
    """Starts the arms of a pair and lets them take turns."""
    module, pair = "benchmarks.images_arms", PAIRS[name]
    given = dict(folder=scratch, config=experiment(args, pair))
    arms = [
        enter(rounds.Arm(arm, module, arm=arm, **given))
        for arm in ("tfm_jax", pair.against)
    ]
    ours, theirs = (arm.facts for arm in arms)
    print(ours["headline"], flush=True)
    agree(theirs, ours, pair, args.dtype)
    for arm in arms:
        arm.ask("round", seconds=args.warmup, least=3)
    measured = rounds.alternate(
        arms, args.rounds, lambda arm: arm.ask("round", seconds=args.seconds), "images"
    )
    rounds.report(
        f"training {name} on images of 32 x 32 pixels, {args.dtype}, {args.images} a "
        "batch",
        rounds.compare(measured, of="tfm_jax"),
        arms,
        unit="images",
        parameters=ours["parameters"],
        first_losses={arm.name: arm.facts["first_losses"] for arm in arms},
        loss={n: r[-1]["loss"] for n, r in measured.items()},
        steps={n: sum(one["steps"] for one in r) for n, r in measured.items()},
        cores={
            n: sum(one["cpu_seconds"] for one in r) / sum(one["seconds"] for one in r)
            for n, r in measured.items()
        },
    )


def agree(theirs, ours, pair, dtype):
    """Raises: SystemExit if the other arm does not train the same model."""
    if theirs["parameters"] != ours["parameters"]:
        raise SystemExit(
            f"{pair.against} has {theirs['parameters']:,} parameters, not "
            f"{ours['parameters']:,}"
        )
    sides = theirs["first_losses"], ours["first_losses"]
    apart = max(abs(a - b) for a, b in zip(*sides, strict=True))
    if dtype == "float32" and apart > pair.loss_tolerance:
        raise SystemExit(f"{pair.against} has the losses {sides[0]}, not {sides[1]}")


if __name__ == "__main__":
    main()
