"""Recurrent models with attention on Multi30k, English to German, against PyTorch.

    python -m benchmarks.recurrent_cpu --data=data/multi30k
    python -m benchmarks.recurrent_cpu --data=data/multi30k --only=decoding

A bidirectional encoder, additive attention, a decoder of one layer, dropout 0.5, words
as tokens: notebook 3 of B. Trevett, as GRU, as LSTM, and tiny. Each is trained with
every token of the reference read, and decoded with the same random weights, greedy and
with 4 hypotheses, where each translation is as long as it may be. Processes take turns,
see ``benchmarks.rounds``; tokens are real ones per second, in training those of source
and target.

    tfm_jax   the default path, batches of like length
    torch     torch.nn.GRU or LSTM over packed sequences in the encoder, a loop over
              gru_cell or lstm_cell in the decoder, logits behind the loop
"""

import argparse
import contextlib
import tempfile

from benchmarks import rounds, translation_cpu
from tfm_jax.config import section
from tfm_jax.models import rnn_seq2seq

LENGTHS = (8, 12, 16, 20, 24, 32, 48)
BATCH = 128  # sentences that are decoded together, of like length
TREVETT = rnn_seq2seq.SIZES["bentrevett3"] | {
    "teacher_forcing": 1.0,
    "init": "glorot",
}
SIZES = {
    "gru": TREVETT,
    "lstm": TREVETT | {"cell": "lstm"},
    "tiny": rnn_seq2seq.SIZES["tiny"],
}


def main():
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of Multi30k; default TFM_JAX_DATA")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=[*SIZES])
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=20.0, help="a round and arm")
    parser.add_argument("--batch-tokens", type=int, default=2_048, help="of the target")
    parser.add_argument("--warmup", type=float, default=15.0, help="seconds per arm")
    parser.add_argument("--sentences", type=int, default=500, help="to decode")
    parser.add_argument("--offset", type=int, default=5, help="tokens over the source")
    parser.add_argument("--may-differ", type=float, default=0.01, help="a share")
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 4])
    args = parser.parse_args()
    args.arms = ["recurrent"]
    folder = rounds.real_data(parser, args.data)
    for size in args.sizes:
        config = rounds.multi30k(
            folder,
            data={"batching": "bucket", "bucket_lengths": LENGTHS},
            tokenizer={"kind": "word", "vocab": 8_000, "shared": False},
            optim={"peak_lr": 1e-3, "clip_norm": 1.0},
            train={"batch_tokens": args.batch_tokens, "label_smoothing": 0.0},
        )
        config.model_name = "rnn_seq2seq"
        config.model = section(rnn_seq2seq.Config, **SIZES[size])
        for name, measure in PARTS.items():
            if args.only in (None, name):
                with contextlib.ExitStack() as stack:
                    scratch = stack.enter_context(tempfile.TemporaryDirectory())
                    print(f"\n{size}, {name}", flush=True)
                    measure(args, config.to_dict(), scratch, stack.enter_context)


def decode(args, config, scratch, enter):
    """Greedy search and beams with the same weights; what is written is compared."""
    module = "benchmarks.recurrent_arms"
    given = dict(folder=scratch, config=config)
    given |= dict(sentences=args.sentences, offset=args.offset)
    arms = [
        enter(rounds.Arm(name, module, arm=name, **given))
        for name in ("tfm_jax", "torch")
    ]
    for beam in args.beams:

        def ask(arm, beam=beam):
            return arm.ask("decode", beam=beam, batch=BATCH)

        first = [ask(arm) for arm in arms]  # compiles
        pairs = list(zip(*(one["translations"] for one in first), strict=True))
        differ = sum(ours != theirs for ours, theirs in pairs)
        print(f"beam {beam}: {differ} of {len(pairs)} translations differ", flush=True)
        if differ > args.may_differ * len(pairs):
            raise SystemExit(f"that is more than --may-differ={args.may_differ}")
        measured = rounds.alternate(arms, args.rounds, ask)
        rounds.report(
            f"decoding Multi30k by recurrent models, beam {beam}",
            rounds.compare(measured, of="tfm_jax"),
            arms,
            sentences=len(pairs),
            differ=differ,
        )


PARTS = {"training": translation_cpu.measure, "decoding": decode}

if __name__ == "__main__":
    main()
