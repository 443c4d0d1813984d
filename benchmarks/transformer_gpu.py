"""Transformer-base training on one NVIDIA GPU: our attentions and PyTorch's.

    python -m benchmarks.transformer_gpu

Not run on a GPU yet: without one only ``--rehearse`` has been, which goes through the
same steps with a tiny model on the CPU and whose numbers mean nothing.

Bfloat16 activations, one sentence a row in rows of a few lengths (batching=bucket), a
generated corpus of 37,000 words with sentence lengths like those of WMT. Arms that take
turns: ``xla`` and ``cudnn`` (model.attention), and ``torch``, which is the same model
from torch.nn with torch.compile, fused attention and fused Adam on the same batches;
left out if PyTorch has no CUDA. Reported are real tokens of both sides a second, and
MFU: floating point operations the real tokens need, over what a product of two
8192 x 8192 bfloat16 matrices reaches on the same card.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import rounds

BUCKETS = (16, 24, 32, 48, 64, 96, 128)  # one compilation each
TINY = dict(width=32, heads=2, ffn_width=64, encoder_depth=2, decoder_depth=2)
# the GPU's memory is shared by all arms
ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def main():
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10.0, help="a round and arm")
    parser.add_argument("--warmup", type=int, default=60, help="steps: all shapes")
    parser.add_argument("--batch-tokens", type=int, default=25_000, help="target")
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--rehearse", action="store_true", help="tiny, on the CPU")
    args = parser.parse_args()
    if (
        not args.rehearse
        and _prints("import jax; print(jax.default_backend())") != "gpu"
    ):
        parser.exit(rounds.SKIPPED, "skipped: JAX sees no GPU here\n")
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        measure(args, scratch, stack.enter_context)


def measure(args, scratch, enter):
    """Starts the arms and lets them take turns."""
    module, corpus = "benchmarks.gpu_arms", Path(scratch) / "corpus.tsv"
    write_corpus(corpus, args.pairs, words=500 if args.rehearse else 36_996)
    size, device = (TINY, "cpu") if args.rehearse else ({}, "cuda")
    arms = []
    for attention in ("xla",) if args.rehearse else ("xla", "cudnn"):
        config = experiment(corpus, args.batch_tokens, attention, size)
        arms.append(
            rounds.Arm(
                attention, module, ENVIRONMENT, arm=attention, folder=scratch,
                config=config,
            )
        )  # fmt: skip
        enter(arms[-1])
        print(arms[-1].facts["headline"], flush=True)
    facts = arms[0].facts
    with_torch = "import torch; print(torch.cuda.is_available())"
    if args.rehearse or _prints(with_torch) == "True":
        arms.append(
            rounds.Arm(
                "torch", module, arm="torch", folder=scratch, config=facts["config"],
                examples=facts["examples"], device=device,
            )
        )  # fmt: skip
        enter(arms[-1])
        ratio = arms[-1].facts["parameters"] / facts["parameters"]
        if abs(ratio - 1) > 0.01:
            raise SystemExit(f"torch has {ratio:.3f} times the parameters")
    else:
        print("PyTorch has no CUDA here: that arm is left out", flush=True)
    for arm in arms:
        arm.ask("round", seconds=0.0, least=args.warmup)
    peak = arms[0].ask("matmul_rate", size=256 if args.rehearse else 8192)
    measured = rounds.alternate(
        arms, args.rounds, lambda arm: arm.ask("round", seconds=args.seconds)
    )
    work = operations_per_token(facts["config"]["model"], facts["examples"])
    for of in [arm.name for arm in arms if arm.name != "torch"]:
        compared = rounds.compare(measured, of=of)
        rates = compared["per_second"]
        mfu = {name: rate * work / peak for name, rate in rates.items()}
        for name, share in mfu.items():
            print(f"  {name}: MFU {share:.1%} of {peak / 1e12:.1f} TFLOP/s measured")
        rounds.report(f"training on a GPU, {of}", compared, arms, mfu=mfu, matmul=peak)


def experiment(corpus, batch_tokens, attention, size) -> dict:
    """Transformer-base on the corpus."""
    from tfm_jax.config import load

    config = load(str(rounds.ROOT / "configs" / "transformer_wmt.py"))
    config.model.update(dtype="bfloat16", attention=attention, **size)
    buckets = BUCKETS[-1:] if size else BUCKETS
    config.data.update(
        source="parallel",
        train_files=(str(corpus),),
        batching="bucket",
        bucket_lengths=buckets,
        source_length=128,
        target_length=128,
    )
    config.tokenizer.update(kind="word", vocab=37_000)
    config.train.update(batch_tokens=batch_tokens)
    return config.to_dict()


def write_corpus(path, pairs, words):
    """Tab-separated pairs of random words, about 25 a sentence, at most 127."""
    generator = np.random.default_rng(0)
    source = np.clip(generator.lognormal(3.05, 0.6, pairs), 3, 126).astype(int)
    target = np.clip(source * generator.uniform(0.8, 1.25, pairs), 3, 126).astype(int)
    with path.open("w") as file:
        for lengths in zip(source, target, strict=True):
            sides = [generator.integers(0, words, length) for length in lengths]
            file.write("\t".join(" ".join(f"w{i}" for i in s) for s in sides) + "\n")


def operations_per_token(cfg, examples) -> float:
    """Floating point operations of one update, per real token of both sides.

    Two per multiply-add; three times the forward pass. Causal attention counts half.
    """
    with np.load(examples) as file:
        s, t = (
            np.diff(file[f"{side}_offsets"]).astype(float)
            for side in ("source", "target")
        )
    width, ffn = cfg["width"], cfg["ffn_width"]
    encoder = (4 * width**2 + 2 * width * ffn) * s + 2 * width * s * s
    decoder = (6 * width**2 + 2 * width * ffn) * t + 2 * width**2 * s
    decoder += 2 * width * (t * t / 2 + s * t)
    forward = cfg["encoder_depth"] * encoder + cfg["decoder_depth"] * decoder
    forward += width * cfg["target_vocab"] * t
    return float(3 * 2 * forward.sum() / (s + t).sum())


def _prints(code) -> str:
    """What Python prints for ``code`` in a process of its own; "" if it fails."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
