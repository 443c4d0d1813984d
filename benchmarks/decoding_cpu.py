"""Decoding speed on the 1,000 test sentences of Multi30k, against transformers.

    python -m benchmarks.decoding_cpu --data=data/multi30k --workdir=runs/multi30k

Greedy and beam 4 without length penalty, ``tfm_jax.decode.search.decode`` against
``MarianMTModel.generate`` with the same weights, which are written through
``tfm_jax.interop``. Both get batches sorted by length, each in its own best size out of
``--batch-sentences``, and take turns. Target tokens per second, EOS included. The
translations are compared: they may differ where two tokens are equally likely up to
rounding, on ``--may-differ`` of the sentences at most.

Without ``--workdir`` the weights are random. Such a model never ends a sentence, so
every translation is as long as it may be, source + ``--offset`` tokens; EOS is forced
there, in both arms.
"""

import argparse
import contextlib
import tempfile
from pathlib import Path

from benchmarks import rounds


def main():
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of Multi30k; default TFM_JAX_DATA")
    parser.add_argument("--workdir", help="of a run; default: random weights")
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--sentences", type=int, default=1_000)
    parser.add_argument("--offset", type=int, default=50, help="tokens over the source")
    parser.add_argument(
        "--batch-sentences", nargs="+", type=int, default=[64, 128, 256]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--may-differ", type=float, default=0.01)
    args = parser.parse_args()
    config = rounds.multi30k(rounds.real_data(parser, args.data)).to_dict()
    workdir = args.workdir and str(Path(args.workdir).absolute())
    module = "benchmarks.decoding_arms"
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        ours = rounds.Arm(
            "tfm_jax",
            module,
            arm="tfm_jax",
            folder=scratch,
            config=config,
            workdir=workdir,
            sentences=args.sentences,
            offset=args.offset,
        )
        stack.enter_context(ours)
        marian = rounds.Arm(
            "marian",
            module,
            arm="marian",
            folder=ours.facts["model"],
            sources=ours.facts["sources"],
            offset=args.offset,
        )
        stack.enter_context(marian)
        for beam in args.beams:
            measure(args, beam, [ours, marian])


def measure(args, beam, arms):
    """One beam width: the best batch sizes, the same translations, the rounds."""
    best, translations = {}, {}
    for arm in arms:
        tried = {}
        for batch in args.batch_sentences:
            if arm.name == "tfm_jax":
                arm.ask("decode", beam=beam, batch=batch)  # compiles
            result = arm.ask("decode", beam=beam, batch=batch)
            tried[batch] = result["tokens"] / result["seconds"]
            translations[arm.name] = result["translations"]
        best[arm.name] = max(tried, key=tried.get)
        speeds = "  ".join(f"{batch}: {rate:,.0f}" for batch, rate in tried.items())
        print(f"beam {beam}, {arm.name}, tokens/s by sentences a batch: {speeds}")
    pairs = list(zip(*translations.values(), strict=True))
    differ = [i for i, (one, other) in enumerate(pairs) if one != other]
    print(f"beam {beam}: {len(differ)} of {len(pairs)} translations differ", flush=True)
    if len(differ) > args.may_differ * len(pairs):
        one, other = pairs[differ[0]]
        raise SystemExit(f"not the same: sentence {differ[0]}\n{one}\n{other}")
    measured = rounds.alternate(
        arms,
        args.rounds,
        lambda arm: arm.ask("decode", beam=beam, batch=best[arm.name]),
    )
    weights = "random weights" if args.workdir is None else "trained weights"
    rounds.report(
        f"decoding Multi30k, beam {beam}, {weights}",
        rounds.compare(measured, of="tfm_jax"),
        arms,
        batch_sentences=best,
        sentences=len(pairs),
        differ=len(differ),
        target_tokens=measured["tfm_jax"][0]["tokens"],
    )


if __name__ == "__main__":
    main()
