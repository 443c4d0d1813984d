"""Is each step from recurrence to self-attention a step forward at equal parameters?

A recurrent model without attention, one with it, convolutions and a Transformer, each
at the best of several rates; on a CPU their steps cost equal operations, too, to within
10 %. Scale multi30k is small as well, but on captions, whose files must be named: --set
config.data.train_files=train.de.gz,train.en.gz --set
config.data.valid_files=val.de.gz,val.en.gz.

Notebooks 1 to 6 of B. Trevett (github.com/bentrevett/pytorch-seq2seq, 2018 to 2021),
Multi30k from German to English: 13.8 and 20.6 BLEU without attention, 28.3 with it
(Bahdanau et al. 2015, arXiv:1409.0473), 34.1 for convolutions (Gehring et al. 2017,
arXiv:1705.03122), 36.5 for a Transformer (Vaswani et al. 2017, arXiv:1706.03762), of
unlike sizes. Bahdanau et al. 2015, figure 2: only without attention long sentences are
translated worse.
"""

from experiments.scales import BY_LENGTH, CAPTIONS, NUMBERS
from experiments.study import Study, better, monotone, on, reported

SCALES = ("cpu", "multi30k", "gpu")
STEPS = (28.3 - 20.6, 34.1 - 28.3, 36.5 - 34.1)  # BLEU
LADDER = ("rnn", "attention", "conv", "transformer")
SMALL = dict(embedding=64, rnn=96, attention=90, conv=(70,) * 3)
LONGER = "long/nll - short/nll"
LARGE = dict(embedding=128, rnn=236, attention=220, conv=(149,) * 4)


def get_study(scale="cpu"):
    return Study(
        **{"cpu": CPU, "multi30k": MULTI30K, "gpu": GPU}[scale],
        baseline="attention",
        metric="valid/nll",
        tune_seeds=(1_000,),
    )


def arms(embedding, rnn, attention, conv, size="tiny"):
    """Four models of these widths, with about as many parameters."""
    recurrent = {
        "config": "configs/rnn_numerals.py",
        "model.embedding_width": embedding,
        "model.readout_width": embedding,
    }
    return {
        "rnn": recurrent
        | {
            "model.width": rnn,
            "model.score": "none",
            "model.context": "every_step",
        },
        "attention": recurrent | {"model.width": attention},
        "conv": {
            "config": "configs/conv_numerals.py",
            "model.embedding_width": embedding,
            "model.output_width": embedding,
            "model.encoder_widths": conv,
            "model.decoder_widths": conv,
            "model.max_length": 64,
        },
        "transformer": {
            "config": f"configs/transformer_numerals.py:{size}",
            "model.width": embedding,
            "model.ffn_width": 256,
        },
    }


CPU = dict(
    config="configs/transformer_numerals.py",
    arms=arms(**SMALL),
    settings=NUMBERS | {"model.tie": "three_way", "model.dropout": 0.1},
    seeds=(0, 1, 2, 3, 4),
    sesoi=0.05,
    match="parameters",
    tune={"optim.peak_lr": (2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2)},
    expect=(monotone(LADDER, "each step is better than the one before"),),
    caveat="numbers are spelled by rule, and there are few of them",
)
MULTI30K = CPU | dict(
    settings=CAPTIONS | BY_LENGTH | {"model.tie": "three_way", "model.dropout": 0.1},
    seeds=(0, 1, 2),
    expect=(
        reported(
            on("valid/bleu", monotone(LADDER, "each step is better"), "max", sesoi=1.0),
            *STEPS,
        ),
        on(
            LONGER,
            better("attention", "rnn", "only without attention length hurts"),
        ),
    ),
    caveat="two passes over the data, where the published models made ten",
)
GPU = MULTI30K | dict(
    arms=arms(**LARGE, size="multi30k_tiny"),
    settings=CAPTIONS
    | BY_LENGTH
    | {
        "model.tie": "three_way",
        "model.dropout": 0.3,
        "tokenizer.vocab": 10_000,
        "optim.warmup_steps": 1_000,
        "train.label_smoothing": 0.1,
        "train.total_steps": 8_000,
        "train.batch_tokens": 8_192,
        "eval.every_steps": 500,
        "eval.beam": 5,
        "checkpoint.every_steps": 8_000,
        "mesh.cpu_devices": 0,
    },
    seeds=(0, 1, 2, 3, 4),
    tune={"optim.peak_lr": (5e-4, 1e-3, 2e-3, 5e-3)},
    caveat="",
)
